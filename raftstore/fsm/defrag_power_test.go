//go:build interop

package fsm

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/conclave-kv/conclave/internal/durable"
	"github.com/conclave-kv/conclave/test/faultdisk"
)

// victimFile and victimPoint tell a process of this test what to do, and where
// to die.
const (
	victimFile  = "CONCLAVE_TEST_VICTIM_FILE"
	victimPoint = "CONCLAVE_TEST_VICTIM_POINT"
)

// prepare makes a state file of which most is free.
func prepare(t *testing.T, path string) *Machine {
	t.Helper()
	m := openMachine(t, path)
	m.defrag.bytes = 8 * large // more than is added beside a step
	feed(t, m, "k", 1, 100)
	commit(t, m)
	compact(t, m)
	return m
}

// TestDefragment_victim is the process whose host loses its power: it
// defragments, with changes in between, and kills itself at a point. Before, it
// says which point that is, and the index that it took for durable.
func TestDefragment_victim(t *testing.T) {
	path := os.Getenv(victimFile)
	if path == "" {
		t.Skip("TestDefragment_powerCutAnywhere starts it")
	}
	last, err := strconv.Atoi(os.Getenv(victimPoint))
	if err != nil {
		t.Fatal(err)
	}
	m := prepare(t, path)
	if err := durable.SyncDir(filepath.Dir(path)); err != nil {
		t.Fatal(err)
	}
	point := 0
	m.after = func(what string) {
		if point++; point < last {
			return
		}
		index, _ := m.Synced().Position()
		fmt.Printf("\nvictim: %d %s\n", index, what)
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // it is on its way
	}
	mustDefragment(t, m, func() {
		feed(t, m, "k", m.Applied()+1, m.Applied()+3)
		commit(t, m)
		feed(t, m, "k", m.Applied()+1, m.Applied()+1) // applied, and not committed
	})
	feed(t, m, "k", m.Applied()+1, m.Applied()+1)
	commit(t, m)
	m.did("commit to the new file")
	fmt.Printf("\nvictim: 0 the end\n")
}

// victimTold is the line that a victim prints.
var victimTold = regexp.MustCompile(`(?m)^victim: (\d+) (.+)$`)

// die has a victim die at a point, and returns what it had taken for durable
// there; point is empty where it came to its end.
func die(t *testing.T, path string, at int) (synced uint64, point string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestDefragment_victim$")
	cmd.Env = append(os.Environ(), victimFile+"="+path, fmt.Sprintf("%s=%d", victimPoint, at))
	out, err := cmd.CombinedOutput()
	told := victimTold.FindSubmatch(out)
	if told == nil {
		t.Fatalf("the victim of point %d: %v\n%s", at, err, out)
	}
	if point = string(told[2]); point == "the end" && err == nil {
		return 0, ""
	}
	var exit *exec.ExitError
	killed := errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
	if !killed {
		t.Fatalf("the victim of point %d: %v\n%s", at, err, out)
	}
	if synced, err = strconv.ParseUint(string(told[1]), 10, 64); err != nil {
		t.Fatal(err)
	}
	return synced, point
}

// A power cut anywhere in a defragmentation, also right after the new file took
// the old one's place, leaves a whole file with all that was taken for durable:
// the log may have been truncated up to there.
func TestDefragment_powerCutAnywhere(t *testing.T) {
	if err := faultdisk.Available(); err != nil {
		t.Skip(err)
	}
	binary, err := faultdisk.Build(t.Context(), filepath.Join("..", ".."), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for name, options := range map[string][]string{"namesInOrder": {"-forget"}, "strictNames": {"-forget", "-strict-names"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			disk, err := faultdisk.Start(binary, filepath.Join(dir, "backing"), filepath.Join(dir, "disk"), options...)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := disk.Close(); err != nil {
					t.Error(err)
				}
			})
			points := map[string]int{}
			for at := 1; ; at++ {
				point := cutPower(t, disk, at)
				if point == "" {
					break
				}
				points[point]++
			}
			if points["switched"] != 1 || points["commit to the new file"] != 1 || points["new file renamed"] != 1 || points["new file complete"] != 1 || points["step synced"] < 2 {
				t.Errorf("the power was cut at %v", points)
			}
		})
	}
}

// cutPower cuts the power at a point, several times: once all is lost that was
// not synced, then some of it.
func cutPower(t *testing.T, disk *faultdisk.Disk, at int) (point string) {
	t.Helper()
	for i, lost := range []any{"all", 1, 2, 3} {
		path := filepath.Join(disk.Path, fmt.Sprintf("%d-%d", at, i), "db")
		if err := durable.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		var synced uint64
		if synced, point = die(t, path, at); point == "" {
			return ""
		}
		if _, err := disk.Do("crash", lost); err != nil {
			t.Fatal(err)
		}
		m, err := Open(Options{Path: path, Quota: 64 << 20})
		for deadline := time.Now().Add(time.Minute); errors.Is(err, ErrInUse) && time.Now().Before(deadline); {
			// The kernel tells the disk a moment after the end of a process that its locks are gone.
			m, err = Open(Options{Path: path, Quota: 64 << 20})
		}
		if err != nil {
			t.Errorf("cut at %d, %s, lost %v: %v", at, point, lost, err)
			continue
		}
		if err := restored(t, m, synced); err != nil {
			t.Errorf("cut at %d, %s, lost %v: %v", at, point, lost, err)
		}
		closeMachine(t, m)
	}
	return point
}

// restored says what is wrong with a state file after a crash: it has less than
// was synced, or the log from there on does not lead to the same state.
func restored(t *testing.T, m *Machine, synced uint64) error {
	t.Helper()
	index, _ := m.Synced().Position()
	if index < synced {
		return fmt.Errorf("it is at index %d, and %d was synced", index, synced)
	}
	plain := prepare(t, filepath.Join(t.TempDir(), "db"))
	defer closeMachine(t, plain)
	last := synced + 10
	feed(t, plain, "k", plain.Applied()+1, last)
	feed(t, m, "k", index+1, last)
	if got, want := hashOf(t, m), hashOf(t, plain); got != want {
		return fmt.Errorf("it has\n%s, want\n%s", got, want)
	}
	mustDefragment(t, m, func() {})
	consistent(t, m)
	return nil
}
