package raftstore

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// The disk is asked once a second at most, and not while it hangs.
func TestLogStore_lowSpace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemoryBackend()
		s := openMemory(t, b, true)
		if s.lowSpace() {
			t.Error("a log without a disk is low")
		}
		free, asked, failed := int64(lowSpaceBytes), 0, error(nil)
		s.space.free = func() (int64, error) {
			asked++
			return free, failed
		}
		check := func(what string, want bool, times int) {
			t.Helper()
			asked = 0
			for range 10 {
				if got := s.lowSpace(); got != want {
					t.Errorf("%s: low %v", what, got)
				}
			}
			if asked != times {
				t.Errorf("%s: asked %d times", what, asked)
			}
		}
		check("enough", false, 1)
		free--
		check("one byte less, at once", false, 0)
		time.Sleep(lowSpaceEvery)
		check("one byte less", true, 1)
		free++
		time.Sleep(lowSpaceEvery)
		check("enough again", false, 1)
		free--
		b.hooks(func(string) time.Duration { return time.Minute }, nil)
		if err := s.StoreLogs(entries(1, 1, 1)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * lowSpaceEvery)
		check("the disk hangs", false, 0)
		if err := s.Flush(nil); err != nil {
			t.Fatal(err)
		}
		check("it goes on", true, 1)
		failed = errors.New("no answer")
		time.Sleep(lowSpaceEvery)
		check("it cannot be asked", false, 1)
	})
}

// The log on disk asks its disk.
func TestOpenLogStore_space(t *testing.T) {
	s, err := openLogStore(t.TempDir(), prometheus.NewRegistry(), zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if free, err := s.space.free(); err != nil || free <= 0 || s.lowSpace() != (free < lowSpaceBytes) {
		t.Errorf("%d bytes free: %v", free, err)
	}
}
