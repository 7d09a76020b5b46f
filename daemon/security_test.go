package daemon

import (
	"path/filepath"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/conclave-kv/conclave/bootstrap"
	"github.com/conclave-kv/conclave/internal/conclavepb"
	"github.com/conclave-kv/conclave/member"
	"github.com/conclave-kv/conclave/raftstore"
	"github.com/conclave-kv/conclave/raftstore/fsm"
)

// A member that joins comes through tables of the time before its own. Until it
// is ready it also knows whom it was told of; but not who was removed.
func TestKnownMember_whileJoining(t *testing.T) {
	machine, err := fsm.Open(fsm.Options{Path: filepath.Join(t.TempDir(), "db"), Quota: 64 << 20, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	defer machine.Close()
	reg := prometheus.NewRegistry()
	mesh := raftstore.NewMesh(raftstore.MeshConfig{Self: 4, Log: zerolog.Nop(), Registry: reg})
	defer mesh.Close()
	d := &Daemon{ready: make(chan struct{}), id: identity{Members: []bootstrap.Member{{ID: 1}, {ID: 2}, {ID: 3}, {ID: 4}}}}
	d.running.Store(member.New(member.Config{ID: 4, Log: zerolog.Nop(), Registry: reg}, mesh, machine))
	table := func(index uint64, ids ...uint64) {
		conf := &conclavepb.Configuration{}
		for _, id := range ids {
			conf.Servers = append(conf.Servers, &conclavepb.Server{Id: id, PeerUrls: []string{"http://h:1"}})
		}
		machine.Configure(index, 1, conf)
		machine.Publish()
	}
	check := func(when string, want ...uint64) {
		t.Helper()
		for id := uint64(1); id <= 5; id++ {
			known := false
			for _, w := range want {
				known = known || w == id
			}
			if d.knownMember(id) != known {
				t.Errorf("%s: member %d is known: %v", when, id, !known)
			}
		}
	}
	check("before there is a table", 1, 2, 3, 4)
	table(1, 1, 3)
	check("with an old table", 1, 2, 3, 4)
	table(2, 1)
	check("after a removal", 1, 2, 4)
	close(d.ready)
	check("when ready", 1)
}
