//go:build interop

package cluster_test

import "testing"

// A write or sync that the disk refuses ends the process, with one line that
// names the file or directory: what it holds in memory and what is on the disk
// may differ now. The others go on. When the disk is back, without what was not
// synced, the member is too.
func TestDiskRoot_errorEndsTheProcess(t *testing.T) {
	t.Parallel()
	random := seeds(t)
	g := startDisks(t, conclave, "-forget")
	l := newLoad(t, g.group)
	for _, c := range []struct {
		name, kind, below string
		leader            bool
	}{
		{"logWriteOfLeader", "write", "data/member/wal", true},
		{"logSyncOfLeader", "sync", "data/member/wal", true},
		{"logWriteOfFollower", "write", "data/member/wal", false},
		{"stateWriteOfLeader", "write", "data/member/snap", true},
		{"stateSyncOfFollower", "sync", "data/member/snap", false},
	} {
		failing := g.awaitLeader()
		if !c.leader {
			failing = g.other(failing)
		}
		t.Logf("%s: %s", c.name, failing.name)
		l.mark()
		l.outage(outageLimit)
		g.disk(failing, "fail", c.kind, "EIO", 1, c.below)
		refusal(t, failing.proc, failing.data, "input/output error")
		l.mark()
		l.outage(outageLimit)
		g.forget(failing, random)
		back(t, g, l, failing)
		if t.Failed() {
			t.FailNow()
		}
	}
	l.end()
	sameOnDisk(t, g.group)
}
