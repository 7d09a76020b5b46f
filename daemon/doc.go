// Package daemon assembles one conclave process, runs it and stops it in the
// reverse order of its start.
//
// Config is everything a process needs, as plain values; Validate refuses
// what cannot run, by flag name, before anything on disk or the network is
// touched. The package knows every engine and does no work of its own: it
// must not know how flags are written or output is printed (cmd/conclave), nor
// what a request means (member and below).
//
// The goroutines of a process are started by the engines; the Daemon waits for
// all of them before Run returns.
package daemon
