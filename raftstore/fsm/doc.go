// Package fsm is what the agreed bytes mean: it decodes each log entry, applies
// its requests to the engines (keys, certificate ledger, membership), and
// publishes one immutable View of all of them together.
//
// Applying never touches the disk. Each publication leaves an ordered change
// set in a queue, and Commit, called by the committer in package member, writes
// what is queued to the state file together with the position in the log. fsm
// opens and owns that file, whose layout is etcd's (buckets key, meta, members
// and so on) plus buckets of conclave's own.
//
// The package must be deterministic: it knows no clock, no chance, no network,
// and owns no goroutine. It must not know raft, gRPC or who asked. An entry it
// cannot read stops the process: guessing would make members differ.
package fsm
