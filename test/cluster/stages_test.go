//go:build interop

package cluster_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

var (
	stageRounds = flag.Int("rounds", 12, "how often TestStages kills")
	stageSeed   = flag.Uint64("seed", 0, "of TestStages; 0: a new one")
)

// stageCheck is after how many rounds everything is compared.
const stageCheck = 4

// stages kills members in the middle of something, under load.
type stages struct {
	t       *testing.T
	g       *group
	rng     *rand.Rand
	clients []*clientv3.Client
	hits    map[string]int // by stage: how often it was really under way
}

// Members die in the middle of a batch, a commit, a compaction, and a
// defragmentation, one, a majority, or all at once. No acknowledged write is
// lost, no member's revision goes back, and all have the same history.
func TestStages_killedInTheMiddle(t *testing.T) {
	t.Parallel()
	seed := *stageSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d", seed)
	s := &stages{t: t, g: start(t, 3, false), rng: rand.New(rand.NewPCG(seed, 1)), hits: map[string]int{}}
	for _, m := range s.g.members {
		s.clients = append(s.clients, m.dial())
		newGauge(t, m)
	}
	l := newLoad(t, s.g)
	acks := 0
	for round := 1; round <= *stageRounds && !t.Failed(); round++ {
		s.round(l, round)
		if round%stageCheck == 0 || round == *stageRounds {
			l.end()
			acked, _ := l.soFar()
			acks += len(acked)
			s.check(acked)
			l = newLoad(t, s.g)
		}
	}
	l.end()
	t.Logf("%d rounds, %d acknowledged writes, hit in the middle: %v", *stageRounds, acks, s.hits)
	for _, stage := range []string{"compaction", "defragmentation"} {
		if *stageRounds >= 12 && s.hits[stage] == 0 {
			t.Errorf("no %s was under way when a member was killed", stage)
		}
	}
	sameOnDisk(t, s.g)
}

// round begins something, kills in the middle of it, and starts again.
func (s *stages) round(l *load, round int) {
	l.mark()
	l.outage(outageLimit)
	victims := s.victims()
	first := victims[0]
	stage := []string{"batch", "commit", "compaction", "defragmentation"}[round%4]
	switch stage {
	case "commit": // one begins a tenth of a second after the first change
		time.Sleep(time.Duration(s.rng.IntN(110)) * time.Millisecond)
	case "compaction":
		s.fill(200)
		s.compact()
		time.Sleep(time.Duration(s.rng.IntN(150)) * time.Millisecond)
		s.hits[stage]++
	case "defragmentation":
		s.fill(100)
		s.defragment(first)
	}
	s.hits["all"]++
	for _, m := range victims {
		_ = syscall.Kill(-m.proc.cmd.Process.Pid, syscall.SIGKILL)
	}
	for _, m := range victims {
		m.proc.kill()
	}
	if _, err := os.Stat(defragFile(first)); stage == "defragmentation" && err == nil {
		s.hits[stage]++
	}
	for _, m := range victims {
		m.launch()
	}
	for _, m := range victims {
		m.serves()
		if _, err := os.Stat(defragFile(m)); !errors.Is(err, fs.ErrNotExist) {
			s.t.Errorf("%s has left %s: %v", m.name, defragFile(m), err)
		}
	}
}

// victims are one member, two, or all.
func (s *stages) victims() []*member {
	all := slices.Clone(s.g.members)
	s.rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all[:1+s.rng.IntN(len(all))]
}

// fill writes n large values over and over the same keys.
func (s *stages) fill(n int) {
	client := s.g.dial(s.g.members...)
	value := string(bytes.Repeat([]byte{byte('a' + s.rng.IntN(26))}, 50<<10))
	for i := range n {
		ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second)
		_, err := client.Put(ctx, fmt.Sprintf("fill/%d", i%40), value)
		cancel()
		if err != nil {
			s.t.Logf("fill: %v", err) // what matters is in load
		}
	}
}

func (s *stages) compact() {
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second)
	defer cancel()
	client := s.g.dial(s.g.members...)
	resp, err := client.Get(ctx, "nothing")
	if err == nil {
		_, err = client.Compact(ctx, resp.Header.Revision-int64(s.rng.IntN(100)))
	}
	if err != nil {
		s.t.Logf("compact: %v", err)
	}
}

func defragFile(m *member) string { return filepath.Join(m.data, "member", "snap", "db.defrag") }

// defragment returns when it is somewhere in the middle, or nearly done.
func (s *stages) defragment(m *member) {
	client := m.dial()
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = client.Defragment(ctx, m.clientURL()) // it does not get to an answer
	}()
	s.t.Cleanup(func() { cancel(); <-ended })
	eventually(s.t, serveTimeout, "a defragmentation to begin", func() error {
		select {
		case <-ended:
			return nil
		default:
		}
		_, err := os.Stat(defragFile(m))
		return err
	})
	time.Sleep(time.Duration(s.rng.IntN(150)) * time.Millisecond)
}

// check compares all members, and takes the keys of the load away.
func (s *stages) check(acked map[string]int64) {
	for i, m := range s.g.members {
		m.serves()
		holds(s.t, m.name, s.clients[i], acked)
		holds(s.t, m.name+" by itself", s.clients[i], acked, clientv3.WithSerializable())
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
	defer cancel()
	resp, err := s.clients[0].Get(ctx, "nothing")
	if err != nil {
		s.t.Fatal(err)
	}
	var want *clientv3.HashKVResponse
	for i, m := range s.g.members {
		if _, err := s.clients[i].Get(ctx, "nothing"); err != nil { // and so it has that revision
			s.t.Fatal(err)
		}
		h, err := s.clients[i].HashKV(ctx, m.clientURL(), resp.Header.Revision)
		if err != nil {
			s.t.Fatalf("%s: %v", m.name, err)
		}
		if want == nil {
			want = h
		}
		if h.Hash != want.Hash || h.CompactRevision != want.CompactRevision {
			s.t.Errorf("%s has the hash %v, %s %v", m.name, h, s.g.members[0].name, want)
		}
	}
	alarms, err := s.clients[0].AlarmList(ctx)
	if err != nil || len(alarms.Alarms) > 0 {
		s.t.Errorf("alarms %v, %v", alarms, err)
	}
	if _, err := s.clients[0].Delete(ctx, "k/", clientv3.WithPrefix()); err != nil {
		s.t.Fatal(err)
	}
}
