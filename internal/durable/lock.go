package durable

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// ErrInUse means that another process holds the lock of the directory.
var ErrInUse = errors.New("in use by another process")

// lockName is the file that carries the lock. Its content, the holder's
// process id, is for the error message only; the kernel's flock decides, so a
// file left behind by a crash locks nothing.
const lockName = ".lock"

// DirLock is an exclusive hold on a directory.
type DirLock struct {
	f *os.File
}

// Lock takes the lock of an existing directory without waiting. When another
// process (or another DirLock of this one) holds it the error wraps ErrInUse and
// names the holder's process id where known.
func Lock(dir string) (*DirLock, error) {
	path := filepath.Join(dir, lockName)
	// A holder removes the file when it unlocks, so the file opened may no
	// longer be the one of that name; a few tries settle it.
	for range 10 {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
			defer f.Close()
			if errors.Is(err, syscall.EWOULDBLOCK) {
				return nil, fmt.Errorf("directory %s: %w%s", dir, ErrInUse, holder(f))
			}
			return nil, fmt.Errorf("lock directory %s: %w", dir, err)
		}
		if !named(f, path) {
			_ = f.Close()
			continue
		}
		if err := f.Truncate(0); err == nil {
			_, _ = fmt.Fprintf(f, "%d\n", os.Getpid()) // only for the message
		}
		return &DirLock{f: f}, nil
	}
	return nil, fmt.Errorf("directory %s: %w", dir, ErrInUse)
}

// Unlock ends the hold and removes the lock's file, so that a start that was
// refused leaves nothing behind. Further calls do nothing.
func (l *DirLock) Unlock() error {
	if l == nil || l.f == nil {
		return nil
	}
	f := l.f
	l.f = nil
	// Removed while still held: nobody can have locked this file meanwhile,
	// and who opened it before sees in named that it lost its name.
	err := os.Remove(f.Name())
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// named reports whether path still names the open file.
func named(f *os.File, path string) bool {
	open, err := f.Stat()
	if err != nil {
		return false
	}
	now, err := os.Stat(path)
	return err == nil && os.SameFile(open, now)
}

// holder reads the process id in a lock file, as a suffix for an error.
func holder(f *os.File) string {
	b, err := io.ReadAll(io.LimitReader(f, 32))
	pid := strings.TrimSpace(string(b))
	if err != nil || pid == "" {
		return ""
	}
	return " (process " + pid + ")"
}
