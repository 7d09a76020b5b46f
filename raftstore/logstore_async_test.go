package raftstore

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

const slowWrite = 10 * time.Millisecond

func slowly(string) time.Duration { return slowWrite }

// Entries are there at once and durable later; those that came while a group
// was being written are one group.
func TestLogStore_groups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemoryBackend()
		s := openMemory(t, b, true)
		b.hooks(slowly, nil)
		start := time.Now()
		for i := uint64(1); i <= 100; i++ {
			if err := s.StoreLogs(entries(i, i, 1)); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		var l raft.Log
		if last, _ := s.LastIndex(); time.Since(start) > 0 || last != 100 || s.GetLog(77, &l) != nil || l.Index != 77 {
			t.Errorf("after %v the log ends at %d, read %d", time.Since(start), last, l.Index)
		}
		if s.Durable() != 0 {
			t.Errorf("%d is durable before anything was written", s.Durable())
		}
		if err := s.AwaitDurable(1, nil); err != nil || s.Durable() != 1 || time.Since(start) != slowWrite {
			t.Errorf("%v: %d is durable after %v", err, s.Durable(), time.Since(start))
		}
		if err := s.Flush(nil); err != nil || s.Durable() != 100 || b.writes != 2 {
			t.Errorf("%v: %d is durable after %d writes", err, s.Durable(), b.writes)
		}
	})
}

// A membership takes effect when it is stored, so it is durable then.
func TestLogStore_configurationIsDurable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemoryBackend()
		s := openMemory(t, b, true)
		b.hooks(slowly, nil)
		logs := entries(1, 3, 1)
		logs[1].Type = raft.LogConfiguration
		for _, l := range logs[:2] {
			if err := s.StoreLog(l); err != nil {
				t.Fatal(err)
			}
		}
		if s.Durable() != 2 {
			t.Errorf("%d is durable", s.Durable())
		}
		if err := s.StoreLog(logs[2]); err != nil || s.Durable() != 2 {
			t.Errorf("%v: %d is durable", err, s.Durable())
		}
	})
}

// Nobody is told of success after a write that failed, and waiting ends.
func TestLogStore_waitersOfFailedWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemoryBackend()
		s := openMemory(t, b, true)
		fatal := 0
		s.fatal = func(error) { fatal++ }
		broken := errors.New("broken")
		b.hooks(slowly, func(string) error { return broken })
		if err := s.StoreLogs(entries(1, 2, 1)); err != nil {
			t.Fatal(err)
		}
		answers := make(chan error, 3)
		go func() { answers <- s.AwaitDurable(1, nil) }()
		go func() { answers <- s.AwaitDurable(9, nil) }()
		go func() { answers <- s.Flush(nil) }()
		for range 3 {
			if err := <-answers; !errors.Is(err, broken) {
				t.Errorf("a waiter was told %v", err)
			}
		}
		b.hooks(nil, nil)
		if err := s.StoreLogs(entries(3, 3, 1)); !errors.Is(err, broken) {
			t.Errorf("stored after a failure: %v", err)
		}
		synctest.Wait()
		if fatal != 1 || s.Durable() != 0 || b.writes != 0 {
			t.Errorf("fatal %d times, %d durable, %d writes", fatal, s.Durable(), b.writes)
		}
	})
}

// A tail that is removed while it waits or is written is never on disk, and who
// waits for it to be flushed does not wait any more.
func TestLogStore_tailRemovedInQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemoryBackend()
		s := openMemory(t, b, true)
		b.hooks(slowly, nil)
		for i := uint64(1); i <= 6; i++ { // 1 is being written, the rest is queued
			if err := s.StoreLogs(entries(i, i, 1)); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		flushed := make(chan error, 1)
		go func() { flushed <- s.Flush(nil) }()
		synctest.Wait()
		if err := s.DeleteRange(3, 6); err != nil {
			t.Fatal(err)
		}
		if err := s.StoreLogs(entries(3, 4, 2)); err != nil {
			t.Fatal(err)
		}
		if err := <-flushed; err != nil || s.Durable() < 2 {
			t.Errorf("flush of removed entries: %v at %d", err, s.Durable())
		}
		time.Sleep(slowWrite / 2) // 3 and 4 are being written
		if err := s.DeleteRange(4, 4); err != nil {
			t.Fatal(err)
		}
		if last, _ := b.LastIndex(); last != 3 || s.Durable() != 3 {
			t.Errorf("the disk's log ends at %d, %d is durable", last, s.Durable())
		}
		var l raft.Log
		if err := b.GetLog(3, &l); err != nil || l.Term != 2 {
			t.Errorf("entry 3 is of term %d: %v", l.Term, err)
		}
	})
}

// Removing the head leaves the rest of the cache in place.
func TestLogStore_headRemovedKeepsCache(t *testing.T) {
	b := newMemoryBackend()
	s := openMemory(t, b, true)
	if err := s.StoreLogs(entries(1, 100, 1)); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteRange(1, 50); err != nil {
		t.Fatal(err)
	}
	var l raft.Log
	if err := s.GetLog(50, &l); !errors.Is(err, raft.ErrLogNotFound) {
		t.Errorf("entry 50 after its removal: %v", err)
	}
	if first, last, bytes := s.Span(); first != 51 || last != 100 || bytes <= 0 || s.cache.get(51) == nil {
		t.Errorf("%d to %d, %d bytes, cached %v", first, last, bytes, s.cache.get(51))
	}
}

// The queue is bounded: StoreLogs waits until there is room.
func TestLogStore_queueBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemoryBackend()
		s := openMemory(t, b, true)
		b.hooks(slowly, nil)
		data := make([]byte, groupBytes)
		start := time.Now()
		for i := uint64(1); i <= 3*queueBytes/groupBytes; i++ {
			if err := s.StoreLog(&raft.Log{Index: i, Data: data}); err != nil {
				t.Fatal(err)
			}
			s.mu.RLock()
			queued := s.queued
			s.mu.RUnlock()
			if queued > queueBytes {
				t.Fatalf("%d bytes are queued", queued)
			}
		}
		if time.Since(start) == 0 {
			t.Error("never waited")
		}
	})
}

// An orderly stop loses nothing that was stored.
func TestLogStore_closeWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemoryBackend()
		s := openMemory(t, b, true)
		b.hooks(slowly, nil)
		for i := uint64(1); i <= 5; i++ {
			if err := s.StoreLogs(entries(i, i, 1)); err != nil {
				t.Fatal(err)
			}
			synctest.Wait() // the first is being written
		}
		late := make(chan error, 1)
		go func() { late <- s.AwaitDurable(6, nil) }()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-late; !errors.Is(err, errLogClosed) {
			t.Errorf("waiting for what nobody stored: %v", err)
		}
		if last, _ := b.crash(false).LastIndex(); last != 5 {
			t.Errorf("closed, and the log ends at %d", last)
		}
		if err := s.StoreLogs(entries(6, 6, 1)); !errors.Is(err, errLogClosed) {
			t.Errorf("stored after Close: %v", err)
		}
	})
}

// A wait ends when its caller is told to stop, and leaves nothing behind.
func TestLogStore_awaitQuit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openMemory(t, newMemoryBackend(), true)
		quit := make(chan struct{})
		close(quit)
		if err := s.AwaitDurable(7, quit); !errors.Is(err, errLogQuit) {
			t.Errorf("got %v", err)
		}
		if len(s.waits) != 0 {
			t.Errorf("%d waits are left", len(s.waits))
		}
	})
}

// Stuck tells how long a write hangs, whichever it is.
func TestLogStore_stuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemoryBackend()
		s := openMemory(t, b, true)
		if err := s.StoreLogs(entries(1, 3, 1)); err != nil {
			t.Fatal(err)
		}
		if err := s.Flush(nil); err != nil {
			t.Fatal(err)
		}
		b.hooks(func(string) time.Duration { return time.Hour }, nil)
		for name, hang := range map[string]func(){
			opStoreLogs:   func() { s.StoreLog(&raft.Log{Index: 4, Type: raft.LogConfiguration}) },
			opDeleteRange: func() { s.DeleteRange(1, 2) },
			opSet:         func() { s.SetUint64(keyCurrentTerm, 2) },
		} {
			done := make(chan struct{})
			go func() { defer close(done); hang() }()
			time.Sleep(time.Minute)
			if stuck := s.Stuck(); stuck != time.Minute {
				t.Errorf("%s hangs for a minute, not %v", name, stuck)
			}
			<-done
			if stuck := s.Stuck(); stuck != 0 {
				t.Errorf("%s has ended, and is stuck for %v", name, stuck)
			}
		}
	})
}

// A Reset that a crash interrupts after its mark is ended at the next open.
func TestLogStore_resetInterrupted(t *testing.T) {
	for _, op := range []string{opSet, opDeleteRange} {
		b := newMemoryBackend()
		s := openMemory(t, b, true)
		if err := s.StoreLogs(entries(1, 9, 1)); err != nil {
			t.Fatal(err)
		}
		if err := s.Flush(nil); err != nil {
			t.Fatal(err)
		}
		var next *memoryBackend
		b.hooks(nil, func(o string) error {
			if o == op {
				next = b.crash(false)
			}
			return nil
		})
		if err := s.Reset(5); err == nil {
			t.Fatal("no crash")
		}
		again := openMemory(t, next, true)
		first, last, _ := again.Span()
		if op == opSet && (first != 1 || last != 9 || again.Start() != 0) {
			t.Errorf("crash before the mark: %d to %d, start %d", first, last, again.Start())
		}
		if op == opDeleteRange && (first != 0 || again.Start() != 5 || again.Durable() != 5) {
			t.Errorf("crash after the mark: %d to %d, start %d, durable %d", first, last, again.Start(), again.Durable())
		}
		if err := again.Reset(5); err != nil {
			t.Fatal(err)
		}
		if err := again.StoreLogs(entries(7, 7, 2)); !errors.Is(err, errLogGap) {
			t.Errorf("the log continues with 7 after 5: %v", err)
		}
		if err := again.StoreLogs(entries(6, 7, 2)); err != nil {
			t.Errorf("the log does not continue: %v", err)
		}
	}
}

// An entry that the log holds but the disk does not give back is fatal.
func TestLogStore_unreadableEntry(t *testing.T) {
	b := newMemoryBackend()
	if err := b.StoreLogs(entries(1, 3, 1)); err != nil {
		t.Fatal(err)
	}
	s := openMemory(t, b, true)
	fatal := 0
	s.fatal = func(error) { fatal++ }
	b.mu.Lock()
	b.logs = b.logs[:2]
	b.mu.Unlock()
	var l raft.Log
	if err := s.GetLog(4, &l); !errors.Is(err, raft.ErrLogNotFound) || fatal != 0 {
		t.Errorf("entry 4: %v, fatal %d", err, fatal)
	}
	if err := s.GetLog(3, &l); err == nil || fatal != 1 {
		t.Errorf("entry 3: %v, fatal %d", err, fatal)
	}
}
