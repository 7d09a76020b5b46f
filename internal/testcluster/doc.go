// Package testcluster runs several members in one process for tests, with the
// production wiring of package daemon: real ports, real files, real sessions.
// What differs is only how a member dials its peers, so that links can be cut.
//
// It must not know how members work inside; it starts, stops and cuts them.
// Each Member owns one goroutine that runs its daemon; the cluster waits for all
// of them at the end of the test.
package testcluster
