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
// There is one exception: when the disk is so slow that the queue reaches 256
// MiB, applying waits for a commit. Proposers refuse requests at half of that.
//
// A state file goes to another member as Snapshot writes it, and comes in by
// Prepare and Install, which replace everything in memory at once. At open every
// page is checked before bbolt trusts it; see ErrCorrupt. Pages have no checksum,
// so a value that rotted on the disk is served as it is: HashKV tells members
// apart.
//
// The package must be deterministic: it knows no clock, no chance, no network,
// and owns no goroutine. It must not know raft, gRPC or who asked. An entry it
// cannot read stops the process: guessing would make members differ.
package fsm
