// Package kv is the replicated key-value state: every key with its revisions,
// in memory for reading and as etcd's bucket layout for keeping.
//
// A Store has one writer at a time, which opens a Batch, performs requests on
// it and freezes it. Freezing yields an immutable View, which any number of
// goroutines read without a lock, and a set of Changes, which the committer
// writes to bbolt later and then reports Done. What is not yet written is read
// from the changes themselves, so a View never waits for the disk.
//
//	b := store.NewBatch()
//	resp, err := b.Put(req, kv.Full)
//	view, changes := b.Freeze()
//	...
//	db.Update(changes.Write)
//	changes.Done()
//
// How it is built:
//
//   - The index is a copy-on-write B+tree (tree.go). A batch copies each node
//     it touches once; views share all others. Subtrees carry the number of
//     living keys, so counting a range at the newest revision is O(log n).
//   - An entry (entry.go) holds its key as the encoded mvccpb.KeyValue that the
//     disk holds too: one encoding serves the index, the unwritten changes and
//     bbolt. Values that are large, or do not fit the budget, stay on disk. An
//     entry is one piece of memory without pointers, for the garbage collector's
//     sake.
//   - Older revisions of a key are 12 bytes each: a few are part of the entry,
//     more are a list that the versions of the entry share. Their values are
//     read from disk.
//   - Compaction takes effect at once. What it makes unreachable leaves the
//     index and the disk in bounded steps with the following batches
//     (prune.go), and starts over after a crash.
//
// The index always lists exactly the records that the key bucket holds once
// all changes are written; Store.Check verifies it.
//
// kv knows neither raft nor the fsm nor users. It imports no clock, no
// randomness and no network, and starts no goroutine: the same requests give
// the same state on every member. A request that fails leaves no trace.
package kv
