package raftstore

import (
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/conclave-kv/conclave/internal/conclavepb"
)

// openCluster opens n nodes with ids 1 to n on loopback ports.
func openCluster(t *testing.T, n int, election time.Duration) []*Node {
	t.Helper()
	conf := &conclavepb.Configuration{}
	var listeners []net.Listener
	for i := range n {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listeners = append(listeners, ln)
		conf.Servers = append(conf.Servers, &conclavepb.Server{Id: uint64(i + 1), PeerUrls: []string{"http://" + ln.Addr().String()}})
	}
	var nodes []*Node
	for i := range n {
		reg := prometheus.NewRegistry()
		mesh := NewMesh(MeshConfig{
			Self: uint64(i + 1), ClusterID: 9, Instance: fmt.Sprint(i), ElectionTimeout: election, Log: zerolog.Nop(), Registry: reg,
		})
		mesh.Serve(listeners[i])
		node, err := Open(Config{
			Dir: t.TempDir(), Self: uint64(i + 1), Mesh: mesh, Machine: &toyMachine{}, Bootstrap: conf,
			OpenTerm:        func(uint64) []byte { return []byte("open") },
			ElectionTimeout: election, RequestTimeout: 10 * time.Second,
			PreVote: true, Log: zerolog.Nop(), Registry: reg,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { node.Close(); mesh.Close() })
		nodes = append(nodes, node)
	}
	return nodes
}

// leaderAmong waits until nodes agree on a leader whose term is open, other
// than one of them, and returns it.
func leaderAmong(t *testing.T, nodes []*Node, other uint64) *Node {
	t.Helper()
	var found *Node
	eventually(t, "a leader", func() bool {
		for _, n := range nodes {
			now := n.leadership()
			if now.Leader == n.cfg.Self && now.Leader != other && n.openTerm.Load() == now.Term {
				found = n
				return true
			}
		}
		return false
	})
	return found
}

// A leader whose process ends is replaced without waiting for the silence that
// an election timeout asks for. A busy machine may be slow at it once, but not
// every time.
func TestNode_vacancyIsFilledAtOnce(t *testing.T) {
	const election = 4 * time.Second
	var took []time.Duration
	for range 4 {
		took = append(took, timeToFill(t, election))
		if took[len(took)-1] < election/2 {
			return
		}
	}
	t.Fatalf("leaders were replaced after %v, as late as by silence (%v)", took, election/2)
}

// timeToFill ends the leader of a new cluster, and returns when there is another.
func timeToFill(t *testing.T, election time.Duration) time.Duration {
	t.Helper()
	nodes := openCluster(t, 3, election)
	old := leaderAmong(t, nodes, 0)
	var rest []*Node
	for _, n := range nodes {
		if n != old {
			rest = append(rest, n)
		}
	}
	before := time.Now()
	old.cfg.Mesh.Close() // as the kernel would: connections and listener are gone
	leaderAmong(t, rest, old.cfg.Self)
	return time.Since(before)
}

// A leader that is merely disconnected, or a member that is not the leader, is
// no vacancy.
func TestNode_noVacancy(t *testing.T) {
	nodes := openCluster(t, 3, 300*time.Millisecond)
	leader := leaderAmong(t, nodes, 0)
	for _, n := range nodes {
		if n.vacancy(n.leadership(), 0) != nil {
			t.Errorf("member %d takes a living leader for gone", n.cfg.Self)
		}
	}
	term := leader.Term()
	for _, n := range nodes {
		if n != leader {
			n.cfg.Mesh.Close()
			break
		}
	}
	propose(t, leader, term, "still leading")
	if leader.Term() != term {
		t.Errorf("a follower's end moved the term from %d to %d", term, leader.Term())
	}
}
