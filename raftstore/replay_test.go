package raftstore

import (
	"testing"

	"github.com/hashicorp/raft"
	"github.com/rs/zerolog"

	"github.com/conclave-kv/conclave/internal/conclavepb"
)

// countingMachine counts what replay has it do.
type countingMachine struct {
	*toyMachine
	published, committed int
}

func (m *countingMachine) Publish() {
	m.published++
	m.toyMachine.Publish()
}

func (m *countingMachine) CommitDue() error {
	m.committed++
	return nil
}

// A long log is replayed in bounded memory: the Machine publishes, and writes
// its state file, as it goes.
func TestReplay_bounded(t *testing.T) {
	b := newMemoryBackend()
	const entries = 80
	data := make([]byte, replayPublish)
	for i := uint64(1); i <= entries; i++ {
		if err := b.StoreLog(&raft.Log{Index: i, Term: 1, Data: data, Extensions: recordCommit(i - 1)}); err != nil {
			t.Fatal(err)
		}
	}
	m := &countingMachine{toyMachine: &toyMachine{}}
	if err := replay(m, openMemory(t, b, false), func(uint64, *conclavepb.Configuration) {}, zerolog.Nop()); err != nil {
		t.Fatal(err)
	}
	if m.Applied() != entries-1 || m.published != entries-1 || m.committed != entries-1 {
		t.Errorf("applied %d, published %d times, written %d times", m.Applied(), m.published, m.committed)
	}
}
