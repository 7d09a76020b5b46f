package logging

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
)

// ErrInUse: another process, or another part of this one, writes to a file.
var ErrInUse = errors.New("the file is in use; give each process its own")

// File is a file of lines that is rotated, and written by nobody else meanwhile.
// Write and Append are called by one goroutine at a time, Sync by another; Close
// when both are done.
type File struct {
	f         *rotated
	rotations int

	mu  sync.Mutex
	now *os.File
	old []*os.File // rotated away since the last Sync, still open
}

// OpenFile opens a file to append to it, with mode 0600 if it is new. Errors:
// ErrInUse, those of the file system.
func OpenFile(name string, r Rotation) (*File, error) {
	f := &File{}
	var err error
	f.f, err = openRotatedBy(name, r, f.open, f.retire)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (f *File) open(name string) (*os.File, error) {
	file, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("%w (%w)", ErrInUse, err), file.Close())
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = file
	return file, nil
}

func (f *File) retire(file *os.File) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rotations++
	f.old = append(f.old, file)
	return nil
}

// Write writes lines, to a new file if they have no room in this one. Where that
// cannot be made they go to the old one, with an error. It returns how many bytes
// are written.
func (f *File) Write(lines []byte) (int, error) { return f.f.Write(lines) }

// Append goes on with a line that was written in part.
func (f *File) Append(rest []byte) (int, error) {
	n, err := f.f.file.Write(rest)
	f.f.size += int64(n)
	return n, err
}

// Rotations is how often a new file was begun. By the goroutine that writes.
func (f *File) Rotations() int { return f.rotations }

// Sync returns when everything that was written before is on the disk.
func (f *File) Sync() error {
	f.mu.Lock()
	old, now := f.old, f.now
	f.old = nil
	f.mu.Unlock()
	var errs []error
	for _, file := range old {
		errs = append(errs, file.Sync(), file.Close())
	}
	return errors.Join(append(errs, now.Sync())...)
}

// Old lists the files that were rotated away and are still there, the newest first.
func (f *File) Old() ([]string, error) {
	old, err := f.f.old()
	names := make([]string, len(old))
	for i, o := range old {
		names[i] = o.name
	}
	return names, err
}

// Close waits until old files are dealt with.
func (f *File) Close() error {
	f.mu.Lock()
	old := f.old
	f.old = nil
	f.mu.Unlock()
	var errs []error
	for _, file := range old {
		errs = append(errs, file.Close())
	}
	return errors.Join(append(errs, f.f.Close())...)
}
