package raftstore

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// Operations of a memoryBackend, as its hooks see them.
const (
	opStoreLogs   = "StoreLogs"
	opDeleteRange = "DeleteRange"
	opSet         = "Set"
)

var errCrashed = errors.New("backend has crashed")

// memoryBackend is a logBackend whose disk is memory. What a call has written
// counts when the call returns; a crash while it runs forgets it, or not.
//
// delay is slept (time.Sleep, so that synctest's time serves) and fail is asked
// before an operation takes effect, without the lock held; nil hooks do nothing.
// They are set before use or through hooks. A copy of each entry is kept, so that
// one that is changed after it was stored shows.
type memoryBackend struct {
	mu     sync.Mutex
	first  uint64 // index of logs[0]
	logs   []*raft.Log
	stable map[string][]byte
	flight []*raft.Log // of a StoreLogs that has not returned
	down   error       // answers every call once set
	delay  func(op string) time.Duration
	fail   func(op string) error
	writes int // StoreLogs that succeeded
}

var _ logBackend = (*memoryBackend)(nil)

func newMemoryBackend() *memoryBackend { return &memoryBackend{stable: map[string][]byte{}} }

// hooks replaces delay and fail.
func (b *memoryBackend) hooks(delay func(string) time.Duration, fail func(string) error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.delay, b.fail = delay, fail
}

// crash ends this backend, whose calls under way fail, and returns the one that
// the next process finds: what was synced, and also the group that was being
// written if kept says that it reached the disk.
func (b *memoryBackend) crash(kept bool) *memoryBackend {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.down = errCrashed
	next := newMemoryBackend()
	next.first, next.logs, next.stable = b.first, slices.Clone(b.logs), maps.Clone(b.stable)
	if kept && len(b.flight) > 0 {
		next.append(b.flight)
	}
	return next
}

// Close ends the use of the backend; crash then gives the one to open again.
func (b *memoryBackend) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.down = errors.New("backend is closed")
	return nil
}

func (b *memoryBackend) IsMonotonic() bool { return true }

// await runs the hooks of op. b.mu is held, but not while they run.
func (b *memoryBackend) await(op string) error {
	delay, fail := b.delay, b.fail
	b.mu.Unlock()
	defer b.mu.Lock()
	if delay != nil {
		if d := delay(op); d > 0 {
			time.Sleep(d)
		}
	}
	if fail != nil {
		return fail(op)
	}
	return nil
}

// change runs op and makes its effect unless the backend ended meanwhile.
func (b *memoryBackend) change(op string, effect func() error) error {
	if b.down != nil {
		return b.down
	}
	if err := b.await(op); err != nil {
		return err
	}
	if b.down != nil {
		return b.down
	}
	return effect()
}

func (b *memoryBackend) StoreLog(l *raft.Log) error { return b.StoreLogs([]*raft.Log{l}) }

func (b *memoryBackend) StoreLogs(logs []*raft.Log) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, l := range logs {
		if i > 0 && l.Index != logs[i-1].Index+1 || i == 0 && len(b.logs) > 0 && l.Index != b.last()+1 {
			return fmt.Errorf("entry %d does not follow", l.Index)
		}
	}
	b.flight = logs
	defer func() { b.flight = nil }()
	return b.change(opStoreLogs, func() error {
		b.writes++
		b.append(logs)
		return nil
	})
}

func (b *memoryBackend) append(logs []*raft.Log) {
	if len(b.logs) == 0 {
		b.first = logs[0].Index
	}
	for _, l := range logs {
		c := *l
		c.Data, c.Extensions = bytes.Clone(l.Data), bytes.Clone(l.Extensions)
		b.logs = append(b.logs, &c)
	}
}

func (b *memoryBackend) last() uint64 { return b.first + uint64(len(b.logs)) - 1 }

func (b *memoryBackend) FirstIndex() (uint64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.logs) == 0 {
		return 0, b.down
	}
	return b.first, b.down
}

func (b *memoryBackend) LastIndex() (uint64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.logs) == 0 {
		return 0, b.down
	}
	return b.last(), b.down
}

func (b *memoryBackend) GetLog(index uint64, l *raft.Log) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.down != nil {
		return b.down
	}
	if len(b.logs) == 0 || index < b.first || index > b.last() {
		return raft.ErrLogNotFound
	}
	*l = *b.logs[index-b.first]
	return nil
}

// DeleteRange removes entries from either end, like raft-wal.
func (b *memoryBackend) DeleteRange(lo, hi uint64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.change(opDeleteRange, func() error {
		switch {
		case len(b.logs) == 0 || lo > hi || hi < b.first || lo > b.last():
			return nil
		case lo <= b.first && hi >= b.last():
			b.logs = nil
		case lo <= b.first:
			b.logs = slices.Clone(b.logs[hi-b.first+1:])
			b.first = hi + 1
		case hi >= b.last():
			b.logs = slices.Clone(b.logs[:lo-b.first])
		default:
			return errors.New("neither the head nor the tail")
		}
		return nil
	})
}

func (b *memoryBackend) Set(key, value []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.change(opSet, func() error {
		b.stable[string(key)] = bytes.Clone(value)
		return nil
	})
}

func (b *memoryBackend) Get(key []byte) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Clone(b.stable[string(key)]), b.down
}

func (b *memoryBackend) SetUint64(key []byte, value uint64) error {
	return b.Set(key, fmt.Append(nil, value))
}

func (b *memoryBackend) GetUint64(key []byte) (uint64, error) {
	raw, err := b.Get(key)
	if err != nil || len(raw) == 0 {
		return 0, err
	}
	var value uint64
	_, err = fmt.Sscan(string(raw), &value)
	return value, err
}

// A crash keeps what was synced and forgets the rest.
func TestMemoryBackend_forgets(t *testing.T) {
	b := newMemoryBackend()
	if err := b.StoreLogs([]*raft.Log{{Index: 1}, {Index: 2}}); err != nil {
		t.Fatal(err)
	}
	if err := b.SetUint64([]byte("k"), 7); err != nil {
		t.Fatal(err)
	}
	for _, kept := range []bool{false, true} {
		var next *memoryBackend
		b.hooks(func(string) time.Duration { next = b.crash(kept); return 0 }, nil)
		if err := b.StoreLog(&raft.Log{Index: 3}); !errors.Is(err, errCrashed) {
			t.Fatalf("stored during a crash: %v", err)
		}
		want := uint64(2)
		if kept {
			want = 3
		}
		if last, err := next.LastIndex(); last != want || err != nil {
			t.Errorf("kept %v: the log ends at %d, %v", kept, last, err)
		}
		if v, err := next.GetUint64([]byte("k")); v != 7 || err != nil {
			t.Errorf("kept %v: the setting is %d, %v", kept, v, err)
		}
		b.mu.Lock()
		b.down = nil
		b.mu.Unlock()
	}
}
