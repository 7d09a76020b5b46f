// Package bootstrap finds the first peers of a new cluster: once, before
// anything is written.
//
// A [Source] answers one question, "who are the first peers, and which of
// them am I?", from one place: a static list ([Static]), DNS SRV records
// (package bootstrap/dnssrv), or a discovery URL. [Resolve] asks a source
// until its answer is complete and holds this member, or until
// --discovery-timeout has passed, and turns the answer into a [Plan]: the
// members with the ids that etcd would give them, and which of them is this
// one.
//
// What it must not know: raft, the disk, certificates, and any library for
// DNS or HTTP. A plan is a proposal. Whether it may be acted upon (no data
// there yet, peers agree on the same plan) is decided by who asked for it.
//
// Goroutines: none. Lookups run on the caller's goroutine and end with its
// context.
package bootstrap
