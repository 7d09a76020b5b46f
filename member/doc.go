// Package member is one member of a cluster: it takes a request, has it
// agreed, waits for its own state to contain it, and answers.
//
// It batches concurrent proposals into raft entries, forwards batches to the
// leader, confirms linearizable reads, publishes the member's name and client
// URLs, and owns the committer that writes the agreed state to disk. It must
// not know gRPC, HTTP, TLS or how peers were found.
//
// Goroutines owned by a Member: the proposer, the forwarder's senders, the
// read rounds, the committer, the watch over space, the compactor, and the leadership
// watcher; Stop ends and waits for all of them.
package member
