//go:build interop

package raftstore

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/conclave-kv/conclave/internal/durable"
	"github.com/conclave-kv/conclave/test/faultdisk"
)

// forgetful mounts a disk that forgets what was not synced.
func forgetful(t *testing.T) *faultdisk.Disk {
	t.Helper()
	if err := faultdisk.Available(); err != nil {
		t.Skipf("only a disk that forgets what was not synced shows this, and there can be none here: %v", err)
	}
	binary, err := faultdisk.Build(t.Context(), "..", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	disk, err := faultdisk.Start(binary, filepath.Join(home, "backing"), filepath.Join(home, "disk"), "-forget", "-strict-names")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := disk.Close(); err != nil {
			t.Error(err)
		}
	})
	return disk
}

// losePower has the disk forget.
func losePower(t *testing.T, disk *faultdisk.Disk) {
	t.Helper()
	if _, err := disk.Do("crash", "all"); err != nil {
		t.Fatal(err)
	}
}

// replaceUnsynced does what is left of durable.WriteFile when its process is
// killed before the directory is synced.
func replaceUnsynced(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := durable.WriteFile(path+".new", b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// durably copies the files of a directory.
func durably(t *testing.T, from, to string) {
	t.Helper()
	if err := durable.MkdirAll(to, 0o700); err != nil {
		t.Fatal(err)
	}
	names, err := os.ReadDir(from)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		b, err := os.ReadFile(filepath.Join(from, n.Name()))
		if err == nil {
			err = durable.WriteFile(filepath.Join(to, n.Name()), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// A process that is killed between a write and its sync leaves the write to the
// kernel's cache, where the next process finds it. What that one takes for durable,
// and tells the leader so, is there after a power cut.
func TestLogCheck_killedBeforeSync(t *testing.T) {
	disk := forgetful(t)
	for name, size := range map[string]int{"in a segment": 100, "seals it": 3000} {
		t.Run(name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(12, 12))
			s := tearLog(t, [][]*raft.Log{noise(rng, 1, 3, 500)}, noise(rng, 4, 4, size))
			dir := filepath.Join(disk.Path, name)
			durably(t, s.dir, dir)
			file, err := os.OpenFile(filepath.Join(dir, s.file), os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			used := len(bytes.TrimRight(s.after, "\x00"))
			if _, err := file.WriteAt(s.after[s.from:used], int64(s.from)); err != nil {
				t.Fatal(err)
			}
			if err := file.Close(); err != nil {
				t.Fatal(err)
			}
			logs := mustOpenSmall(t, dir)
			told := logs.Durable()
			if err := logs.Flush(nil); err != nil || told != 4 {
				t.Fatalf("durable up to %d: %v", told, err)
			}
			losePower(t, disk)
			if last, _ := mustOpenSmall(t, dir).LastIndex(); last < told {
				t.Errorf("the log ends at %d, and %d was said to be durable", last, told)
			}
		})
	}
}

// The same for the seal of a segment that a conflict cuts, although all of its
// entries were on the disk.
func TestLogCheck_killedBeforeSyncOfSeal(t *testing.T) {
	disk := forgetful(t)
	live, dir := t.TempDir(), filepath.Join(disk.Path, "wal")
	rng := rand.New(rand.NewPCG(13, 13))
	s := mustOpenSmall(t, live)
	if err := errors.Join(s.StoreLogs(noise(rng, 1, 6, 300)), s.Close()); err != nil {
		t.Fatal(err)
	}
	durably(t, live, dir)
	meta, err := readLogMeta(live)
	if err != nil {
		t.Fatal(err)
	}
	name := segment.FileName(*meta.tail())
	if err := mustOpenSmall(t, live).DeleteRange(5, 6); err != nil {
		t.Fatal(err)
	}
	sealed, err := os.ReadFile(filepath.Join(live, name))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name), sealed, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	mustOpenSmall(t, dir) // seals it in the list of segments, too
	losePower(t, disk)
	if last, _ := mustOpenSmall(t, dir).LastIndex(); last != 6 {
		t.Errorf("the log ends at %d", last)
	}
}

// The same for a vote.
func TestLogMeta_killedBeforeSync(t *testing.T) {
	disk := forgetful(t)
	live, dir := t.TempDir(), filepath.Join(disk.Path, "wal")
	s := mustOpenSmall(t, live)
	durably(t, live, dir)
	if err := s.SetUint64(keyLastVoteTerm, 7); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(live, logMetaName))
	if err != nil {
		t.Fatal(err)
	}
	replaceUnsynced(t, filepath.Join(dir, logMetaName), b)
	if voted, err := mustOpenSmall(t, dir).GetUint64(keyLastVoteTerm); err != nil || voted != 7 {
		t.Fatalf("voted in %d: %v", voted, err)
	}
	losePower(t, disk)
	if voted, err := mustOpenSmall(t, dir).GetUint64(keyLastVoteTerm); err != nil || voted != 7 {
		t.Errorf("voted in %d after a power cut: %v", voted, err)
	}
}

// An install is over when its intent is removed, durably: found again, when there
// are entries behind it, it cannot be finished. The log may be on another disk,
// where things are durable at other times.
func TestRecover_killedBeforeSync(t *testing.T) {
	disk := forgetful(t)
	state, wal := filepath.Join(disk.Path, "db"), filepath.Join(t.TempDir(), "wal")
	logs, err := openLogStore(wal, prometheus.NewRegistry(), zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	if err := logs.Reset(100); err != nil {
		t.Fatal(err)
	}
	if err := logs.Close(); err != nil {
		t.Fatal(err)
	}
	for path, b := range map[string]string{state: "the state", state + intentSuffix: `{"index":100,"term":3,"size":9,"crc32c":1}`} {
		if err := durable.WriteFile(path, []byte(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(state + intentSuffix); err != nil { // the last step, up to its sync
		t.Fatal(err)
	}
	restart := func() *logStore {
		t.Helper()
		if err := Recover(wal, state, zerolog.Nop()); err != nil {
			t.Fatal(err)
		}
		logs, err := openLogStore(wal, prometheus.NewRegistry(), zerolog.Nop())
		if err != nil {
			t.Fatal(err)
		}
		return logs
	}
	logs = restart()
	if err := errors.Join(logs.StoreLogs(entries(101, 105, 3)), logs.Close()); err != nil {
		t.Fatal(err)
	}
	losePower(t, disk)
	logs = restart()
	if last, _ := logs.LastIndex(); last != 105 {
		t.Errorf("the log ends at %d", last)
	}
	if err := logs.Close(); err != nil {
		t.Fatal(err)
	}
}

// A claim that was granted is there after a power cut.
func TestClaims_killedBeforeSync(t *testing.T) {
	disk := forgetful(t)
	path := filepath.Join(disk.Path, "claims.json")
	replaceUnsynced(t, path, []byte(`{"7":"one"}`))
	c, err := LoadClaims(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Claim(7, "one"); err != nil {
		t.Fatal(err)
	}
	losePower(t, disk)
	if c, err = LoadClaims(path); err != nil {
		t.Fatal(err)
	}
	if err := c.Claim(7, "two"); err == nil {
		t.Error("two data directories were granted one id")
	}
}
