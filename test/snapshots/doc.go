// Package snapshots holds snapshots that real etcd servers of other minor
// versions saved, with what those servers answered about them, and the test that
// conclave restores each to the same answers.
//
// testdata/etcd-MINOR/snapshot.db.gz is what that version's etcdctl saved,
// recording.json what its server answered just before, and what etcdutl 3.7.3
// says about the file. All of it is made by `make snapshots`: build.sh gets the
// programs, and TestRecord_history starts each server, writes a history, asks,
// and saves. 3.4 cannot be had as a Go module; its programs are Debian's.
//
// The package must know the product by its command line, and by what
// internal/testcluster starts. It owns no goroutine.
package snapshots
