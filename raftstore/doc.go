// Package raftstore makes bytes agreed: it runs one hashicorp/raft node, keeps
// its log on disk, carries its messages between members, and confirms reads.
//
// What the bytes mean is the business of the Machine that a Node is given;
// raftstore must not know keys, users, certificates or the etcd API, and it
// sees the state file only through the Machine's methods.
//
// # What the library leaves to its user
//
// hashicorp/raft leaves a good part of safety and latency to whoever embeds it.
// This package does the following about that; numbers are the library's issues.
//
// Heartbeats run through raft's main loop like every other message: the
// transport ignores SetHeartbeatHandler, because the fast path races with the
// main loop (695). Pre-votes are implemented, or they would silently be off.
//
// Linearizable reads never use VerifyLeader, which counts answers to messages
// sent before the read began. Node.ReadIndex notes the leader's commit index, has
// a majority confirm the term by messages sent after the read began, answered
// outside raft's loop, and waits for its own Machine to reach the index. The
// question of a follower is such a message. Concurrent reads share a round. A
// leader answers no read before the first command of its own term was applied.
//
// Once it pipelines, the library sends a follower 16 entries for each new one, and
// without new ones 16 at each CommitTimeout, however many it lacks; and it goes
// back to pipelining after a single failed append. A pipeline that creeps so is
// ended (errBehind), and the follower gets what it lacks without one. And after a
// refusal it takes no further answer, but still sends, and would wait for ever once
// what it has sent fills the pipeline: that ends with the refusal (errRefused).
//
// AppliedIndex means "handed over", and no-ops never reach the Machine. Waiting
// is done on the Machine's own index; Barrier, Restore and RecoverCluster are
// not used.
//
// With equal timeouts a failover took twice the election timeout. Heartbeat and
// lease timeouts are half of it, and a follower whose leader has been silent for
// that long votes for another although its own, randomly longer, timer still
// runs (SilentLeader). A leader whose process ended is replaced at once
// (followVacancy). Votes that split cost another timer, twice as long: whoever has
// promised its vote waits before it asks for any itself (campaign).
//
// Followers learn of a commit at once: after each commit the leader's transport
// sends its index along (Mesh.PushCommit), never beyond what that follower
// acknowledged to this term, because the library commits whatever it is told up
// to the end of its log. CommitTimeout is the fallback.
//
// Snapshots never copy the state: the state file itself is the snapshot, and its
// position is read from it. Installs run beside raft, which would write content
// and position separately and lose state in a crash between them, and panic when
// a longer log is replaced (697): the file is staged, raft is stopped, and an
// intent makes swap and emptied log one step that Recover finishes after a crash.
// An install never drops entries that follow a matching one. The log is
// truncated only behind what the state file holds.
//
// The log is written beside raft (logStore): the library would write its disk and
// only then replicate. Raft counts entries that are being written, and so nothing
// that leaves the process goes beyond what is on stable storage: the commit index
// told to peers and recorded in entries, what is applied, and the answers that say
// that entries are stored. Membership entries are written at once. A failed write
// ends the process.
//
// A leader whose disk hangs would keep its lead (503). After a quarter of the
// election timeout nothing by which it leads is sent any more, nor is a vote
// promised (leads). After half of one it tells the others, which stand for election
// in turns (tellHung), and after ten seconds the process ends (followDisk).
//
// A transfer of leadership can get stuck, for later terms too (696). It goes only
// to a connected and level voter, has a deadline, and if raft still refuses
// proposals after two election timeouts, it is started anew (noteTransfer).
//
// Raft's configuration entries are the membership, each change made against the
// one that was looked at. A change takes effect in the log of each member before
// it is agreed and needs the new majority; therefore an added voter enters without
// a vote (pending, a mark in ServerAddress) and gets it when it and a majority of
// the new membership are level (followPending). A removed member stops when the
// agreed membership says so, or a majority of the voters does (Gone).
//
// Votes and configurations compare addresses. LocalAddr, EncodePeer and DecodePeer
// are the member id; the ServerAddress of a configuration entry carries URLs and
// marks, and the mesh resolves them.
//
// BootstrapCluster is not atomic, and hides differing plans. The first entry is the
// same on every member, written only after a majority of the planned members has
// the same plan and none of them knows this member as started with another data
// directory (Claims); an empty log with a term is bootstrapped again. Two processes
// with one identity are told apart by what each draws at its start.
//
// The library bounds caches and batches in entries, which here are batches of very
// different sizes. The log's cache, appends and pipelines, the queue of unwritten
// entries, and the entries kept behind a snapshot are bounded in bytes.
//
// Outcomes are definite or unknown, and Propose says which. Futures of a raft that
// was stopped may never answer, or say yes to what was not applied: no wait is
// without a deadline, and yes is checked against the Machine.
//
// Stock timeouts are unfit: votes and heartbeats wait for an election timeout,
// appends five seconds, installs ten seconds without progress.
//
// Messages to a peer travel on a connection that the peer dialled, and on one of
// our own only while there is none: a member whose listener nobody can reach must
// not look healthy. NetworkTransport can do little of this; Transport on a Mesh
// does.
//
// Each entry records the commit index of the leader that wrote it. Open replays the
// log up to the highest one recorded before anything is served, so that revisions
// never appear to go back after a restart.
//
// Raft's own log and metrics go to zerolog and to Prometheus, through one bridge
// each.
//
// # Goroutines
//
// A Node owns raft's own goroutines, the writer of the log, the followers of
// leadership, vacancies, pending members, removal and the disk, one that truncates
// the log, one read round at a time, and at most one install. A Mesh owns its
// accept loops, one dialler per peer, a reader and a writer per connection, one that
// pings on all of them, and the handlers of calls; its Transport three more for each peer. Close of each ends and
// waits for all of them.
package raftstore
