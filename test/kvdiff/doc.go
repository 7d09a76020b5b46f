// Package kvdiff holds a test that performs the same random requests on etcd's
// own store (package mvcc of etcd's server) and on package kv, and compares
// responses, errors, the hash of every revision, and the files record by
// record. The package itself is empty.
//
// It is a module of its own, run by `make kvdiff`. Its flag -golden FILE
// writes the requests of one seed with the revisions and hashes that etcd gave:
//
//	cd test/kvdiff && go test -golden ../../kv/testdata/hashkv.jsonl
//
// That file is what kv's own test compares with, without etcd.
//
// The package must know kv by its exported names only. It owns no goroutine.
package kvdiff
