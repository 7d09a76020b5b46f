package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/conclave-kv/conclave/test/faultdisk"
	"golang.org/x/sys/unix"
)

func TestRootDelay_everySyncTakesLonger(t *testing.T) {
	d := mounted(t)
	f := open(t, d, "f", os.O_CREATE|os.O_RDWR)
	const by = 50 * time.Millisecond
	took := func(do func() error) time.Duration {
		began := time.Now()
		must(t, do())
		return time.Since(began)
	}
	do(t, d, "delay", "sync", by)
	for name, sync := range map[string]func() error{
		"fsync": f.Sync, "fdatasync": func() error { return syscall.Fdatasync(int(f.Fd())) },
	} {
		write(t, f, "x", 0)
		if got := took(sync); got < by {
			t.Errorf("%s took %v", name, got)
		}
	}
	dir, err := os.Open(d.Path)
	must(t, err)
	defer dir.Close()
	if got := took(dir.Sync); got < by {
		t.Errorf("the sync of a directory took %v", got)
	}
	do(t, d, "delay", "write", 2*by)
	if got := took(func() error { _, err := f.WriteAt([]byte("x"), 0); return err }); got < 2*by {
		t.Errorf("a write took %v", got)
	}
	do(t, d, "release")
	fastest := time.Hour // of ten: the machine may be busy
	for range 10 {
		write(t, f, "x", 0)
		fastest = min(fastest, took(f.Sync))
	}
	if fastest >= by {
		t.Errorf("released, a sync still takes %v", fastest)
	}
}

func TestRootHang_untilRelease(t *testing.T) {
	d := mounted(t)
	f, other := open(t, d, "f", os.O_CREATE|os.O_RDWR), open(t, d, "other", os.O_CREATE|os.O_RDWR)
	do(t, d, "hang", "sync", "f")
	write(t, f, "x", 0)
	synced := make(chan error, 1)
	go func() { synced <- f.Sync() }()
	must(t, other.Sync()) // the fault is limited to f
	select {
	case err := <-synced:
		t.Fatalf("the sync came back: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	do(t, d, "release")
	must(t, within(t, "the sync after release", synced))
}

// A process killed in a sync that stands still ends; with hang-hard it stays
// until release.
func TestRootHang_killedProcess(t *testing.T) {
	for command, leaves := range map[string]bool{"hang": true, "hang-hard": false} {
		t.Run(command, func(t *testing.T) {
			d := mounted(t, "-forget")
			victim, ended := startVictim(t, filepath.Join(d.Path, "f"))
			eventually(t, "the victim to write", func() bool { return strings.Contains(read(d, "f"), "3\n") })
			do(t, d, command, "sync")
			settle(t, d)
			must(t, victim.Process.Kill())
			if !leaves {
				select {
				case <-ended:
					t.Fatal("it ended")
				case <-time.After(300 * time.Millisecond):
				}
				do(t, d, "release")
			}
			within(t, "the killed process to end", ended) // with an error: it was killed
		})
	}
}

// settle waits until nothing more happens on the disk.
func settle(t *testing.T, d *faultdisk.Disk) {
	t.Helper()
	last := int64(-1)
	eventually(t, "the disk to come to rest", func() bool {
		now, err := d.Count()
		must(t, err)
		before := last
		last = now
		time.Sleep(50 * time.Millisecond) // between two looks
		return now == before
	})
}

func TestRootFail_nextAndAll(t *testing.T) {
	d := mounted(t)
	f := open(t, d, "f", os.O_CREATE|os.O_RDWR)
	put := func() error { _, err := f.WriteAt([]byte("x"), 0); return err }
	do(t, d, "fail", "write", "EIO", 1)
	if err := put(); !errors.Is(err, syscall.EIO) {
		t.Errorf("the write that shall fail: %v", err)
	}
	must(t, put())
	do(t, d, "fail", "sync", "EIO")
	for range 3 {
		must(t, put())
		if err := f.Sync(); !errors.Is(err, syscall.EIO) {
			t.Errorf("a sync, and all shall fail: %v", err)
		}
	}
	do(t, d, "release")
	must(t, f.Sync())
	do(t, d, "fail", "name", "ENOSPC", 1, "dir")
	must(t, os.Mkdir(filepath.Join(d.Path, "other"), 0o700))
	if err := os.Mkdir(filepath.Join(d.Path, "dir"), 0o700); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a directory that shall not be made: %v", err)
	}
	for _, bad := range []string{"fail sync EWHAT", "fail reading EIO", "space -1", "stop 0", "delay sync soon", "dance", "crash 1", "crash"} {
		if answer, err := d.Do(bad); err == nil {
			t.Errorf("%q was answered %q", bad, answer)
		}
	}
}

func TestRootSpace_isUsedUpAndFreed(t *testing.T) {
	d := mounted(t)
	do(t, d, "space", 10000)
	free := func() int64 {
		var st syscall.Statfs_t
		must(t, syscall.Statfs(d.Path, &st))
		return int64(st.Bavail) * st.Frsize
	}
	if got := free(); got < 10000-4096 || got > 10000 {
		t.Errorf("statfs tells %d free bytes of 10000", got)
	}
	f := open(t, d, "f", os.O_CREATE|os.O_RDWR)
	_, err := f.WriteAt(make([]byte, 12000), 0)
	if !errors.Is(err, syscall.ENOSPC) || len(read(d, "f")) != 10000 {
		t.Errorf("12000 bytes into 10000: %v, and the file has %d", err, len(read(d, "f")))
	}
	if got := free(); got != 0 {
		t.Errorf("statfs tells %d free bytes of a full disk", got)
	}
	write(t, f, "over", 100) // what it has, it has
	if err := f.Truncate(20000); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("growing by truncation: %v", err)
	}
	if err := unix.Fallocate(int(f.Fd()), 0, 0, 20000); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("growing by allocation: %v", err)
	}
	must(t, f.Truncate(4000))
	must(t, f.Truncate(9000))
	f.Close()
	must(t, os.Remove(filepath.Join(d.Path, "f")))
	must(t, os.WriteFile(filepath.Join(d.Path, "g"), make([]byte, 10000), 0o600))
	do(t, d, "space", "off")
	must(t, os.WriteFile(filepath.Join(d.Path, "h"), make([]byte, 10000), 0o600))
}

// At the n-th change everything stands still, and nothing of it happens.
func TestRootStop_atTheNthChange(t *testing.T) {
	for n := 1; n <= 6; n++ {
		d := mounted(t, "-forget")
		before, err := d.Count()
		must(t, err)
		do(t, d, "stop", n)
		victim, ended := startVictim(t, filepath.Join(d.Path, "f"))
		eventually(t, "the disk to stand still", func() bool {
			stopped, err := d.Stopped()
			must(t, err)
			return stopped
		})
		settle(t, d)
		must(t, victim.Process.Kill())
		within(t, "the victim to end", ended) // it was killed
		if after, err := d.Count(); err != nil || after != before+int64(n) {
			t.Errorf("stop %d: %d changes, %v", n, after-before, err)
		}
		do(t, d, "crash", "all")
		// Create, then write and sync in turn.
		want := map[int]string{1: "", 2: "", 3: "", 4: "0\n", 5: "0\n", 6: "0\n1\n"}[n]
		if got := read(d, "f"); got != want && !(want == "" && strings.Contains(got, "no such file")) {
			t.Errorf("stop %d: %q, want %q", n, got, want)
		}
	}
}

// Locks are the kernel's own; a second process does not get one.
func TestRootLock_excludes(t *testing.T) {
	d := mounted(t)
	first, second := open(t, d, "lock", os.O_CREATE|os.O_RDWR), open(t, d, "lock", os.O_RDWR)
	must(t, syscall.Flock(int(first.Fd()), syscall.LOCK_EX|syscall.LOCK_NB))
	if err := syscall.Flock(int(second.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); !errors.Is(err, syscall.EWOULDBLOCK) {
		t.Errorf("a second lock: %v", err)
	}
	must(t, syscall.Flock(int(first.Fd()), syscall.LOCK_UN))
	must(t, syscall.Flock(int(second.Fd()), syscall.LOCK_EX|syscall.LOCK_NB))
}

// The program unmounts on SIGTERM, when its input ends, and while files are
// open and operations stand still.
func TestRootUnmount_always(t *testing.T) {
	if err := faultdisk.Available(); err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	mnt := filepath.Join(dir, "mnt")
	for range 3 {
		d, err := faultdisk.Start(program, filepath.Join(dir, "backing"), mnt)
		must(t, err)
		f, err := os.Create(filepath.Join(mnt, "f"))
		must(t, err)
		do(t, d, "hang-hard", "sync")
		synced := make(chan error, 1)
		go func() { synced <- f.Sync() }()
		settle(t, d)
		must(t, d.Close())
		if err := within(t, "the sync after the unmount", synced); err == nil {
			t.Error("a sync that stood still until the disk was gone succeeded")
		}
		f.Close()
		mounts, err := os.ReadFile("/proc/self/mounts")
		must(t, err)
		if strings.Contains(string(mounts), mnt) {
			t.Fatalf("%s is still mounted", mnt)
		}
	}
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !condition(); {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 20 s", what)
		}
		time.Sleep(5 * time.Millisecond) // between two looks
	}
}
