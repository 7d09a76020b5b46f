package raftstore

import (
	"fmt"
	"testing"
	"time"
)

// A member whose answers were lost while others agreed, and which has cut its log
// meanwhile, goes on.
func TestNode_logCutBehindLostAnswers(t *testing.T) {
	directedWith(t, schedule{seed: 1, members: 3, async: true, installs: true}, func(t *testing.T, s *simulation) {
		lead, term := s.level(t)
		far := s.others(lead)[0]
		s.net.set(far.id, lead.id, linkFault{cut: true}) // its answers are lost
		for i := range 30 {
			propose(t, lead.node, term, fmt.Sprint("n", i))
		}
		s.have(t, []*simRun{far}, "n29")
		far.machine.commit()
		eventually(t, "a shorter log", func() bool { first, _, _ := far.node.logs.Span(); return first > 10 })
		time.Sleep(6 * time.Second)
		s.net.heal()
		s.net.reset(0, 0)
		lead, term = s.leader(t)
		propose(t, lead.node, term, "new")
		s.have(t, []*simRun{far}, "new")
	})
}

// goAway cuts a member off for a minute, has meanwhile run before it may come back,
// and waits until the leader and it are connected again.
func (s *simulation) goAway(t *testing.T, lead, away *simRun, meanwhile func()) {
	t.Helper()
	s.isolate(away.id)
	s.net.reset(away.id, 0)
	time.Sleep(time.Minute)
	meanwhile()
	s.net.heal()
	eventually(t, "connected, and it hears of the leader", func() bool {
		p := statusOf(lead.mesh, away.id)
		now, _ := away.node.Leadership()
		return p.Inbound && p.Outbound && now.Leader == lead.id
	})
}

// A member that was away for a while gets what it lacks as soon as it is back.
func TestNode_backAfterAWhile(t *testing.T) {
	directed(t, 3, func(t *testing.T, s *simulation) {
		lead, term := s.level(t)
		away := s.others(lead)[0]
		s.goAway(t, lead, away, func() { propose(t, lead.node, term, "y") })
		began := time.Now()
		s.have(t, []*simRun{away}, "y")
		if took := time.Since(began); took > 2*simElection {
			t.Errorf("it hears of the leader, and got nothing for %v", took)
		}
	})
}

// A member came back just before another one is lost: writes go on.
func TestNode_backAndAnotherIsLost(t *testing.T) {
	directed(t, 3, func(t *testing.T, s *simulation) {
		lead, term := s.level(t)
		away, other := s.others(lead)[0], s.others(lead)[1]
		s.goAway(t, lead, away, func() {})
		time.Sleep(simElection)
		s.isolate(other.id)
		began := time.Now()
		propose(t, lead.node, term, "z")
		if took := time.Since(began); took > 2*simElection {
			t.Errorf("two of three are connected and one leads, and nothing is agreed for %v", took)
		}
	})
}
