// Package raftstore makes bytes agreed: it runs one hashicorp/raft node, keeps
// its log on disk, carries its messages between members, and confirms reads.
//
// What the bytes mean is the business of the Machine that a Node is given;
// raftstore must not know keys, users, certificates or the etcd API, and it
// sees the state file only through the Machine's methods.
//
// # What the library leaves to its user
//
// hashicorp/raft leaves a good part of correctness and latency to whoever
// embeds it. This package does the following about that.
//
//   - Heartbeats run through raft's main loop like every other message: the
//     transport ignores SetHeartbeatHandler, because the fast path races with
//     the main loop (hashicorp/raft issue 695).
//   - Linearizable reads never use VerifyLeader, which counts answers to
//     messages sent before the read began. Node.ReadIndex notes the commit
//     index, has a majority confirm the term by a message sent after that, and
//     the reader then waits for its own Machine to reach the index. A leader
//     answers no read before the first command of its own term was applied.
//   - AppliedIndex means "handed over"; no-ops never reach the Machine. Waiting
//     is done on the Machine's own index.
//   - Followers learn of a commit at once: after each commit the leader's
//     transport sends its index along (Mesh.PushCommit), instead of waiting for
//     the next append or CommitTimeout.
//   - The identity of a member is its id. LocalAddr, EncodePeer and DecodePeer
//     are the id; the ServerAddress of a configuration entry carries URLs and
//     marks, and the transport resolves them.
//   - Each entry records the commit index of the leader that wrote it. Open
//     replays the log up to the highest one recorded before anything is served,
//     so that revisions never appear to go back after a restart.
//   - Bootstrapping is one entry that is the same on every member, written only
//     after a majority of the planned members has the same plan and none of
//     them knows this member as started with another data directory (Claims).
//     An empty log with a term is bootstrapped again.
//   - A leader whose process ended is replaced at once, not after a timeout: see
//     followVacancy.
//   - An outcome is either definite or unknown, and Propose says which.
//
// # Goroutines
//
// A Node owns raft's own goroutines, one that follows leadership, one that watches for its vacancy, and one read
// round at a time. A Mesh owns its accept loops, one dialler per peer, a reader
// and a writer per connection, and the handlers of calls; its Transport two more
// for each peer. Close of each ends and waits for all of them.
package raftstore
