package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// change is one operation on names that a crash may undo.
type change struct {
	dirs    []uint64     // the directories it happened in
	subject uint64       // the file or directory concerned
	undo    func() error // valid when all later changes were undone
	settle  func()       // when it is durable
}

// record notes a change that has just happened, if it may have to be undone. It
// has mu.
func (d *disk) record(c change) {
	if d.forget {
		d.names = append(d.names, c)
	}
}

// syncedNames makes durable what the sync of a file or directory does.
func (d *disk) syncedNames(ino uint64) {
	durable := 0
	for i, c := range d.names {
		if slices.Contains(c.dirs, ino) || !d.strictNames && c.subject == ino {
			durable = i + 1
		}
	}
	for _, c := range d.names[:durable] {
		if c.settle != nil {
			c.settle()
		}
	}
	d.names = slices.Delete(d.names, 0, durable)
}

// forgetNames undoes changes from the last one back: all, or by chance fewer.
func (d *disk) forgetNames(ch *chance) error {
	kept := 0
	if ch != nil {
		kept = ch.IntN(len(d.names) + 1)
	}
	var errs []error
	for _, c := range slices.Backward(d.names[kept:]) {
		errs = append(errs, c.undo())
	}
	for _, c := range d.names[:kept] {
		if c.settle != nil {
			c.settle()
		}
	}
	d.names = nil
	return errors.Join(errs...)
}

// created notes that something has a new name.
func (d *disk) created(path string) syscall.Errno {
	subject, dir, errno := d.identify(path)
	if errno == 0 {
		d.record(change{dirs: []uint64{dir}, subject: subject, undo: func() error { return os.Remove(path) }})
	}
	return errno
}

// identify gives the inodes of what has a name, and of its directory.
func (d *disk) identify(path string) (subject, dir uint64, errno syscall.Errno) {
	var st, above syscall.Stat_t
	if err := syscall.Lstat(path, &st); err != nil {
		return 0, 0, errnoOf(err)
	}
	if err := syscall.Lstat(filepath.Dir(path), &above); err != nil {
		return 0, 0, errnoOf(err)
	}
	return st.Ino, above.Ino, 0
}

// unlink removes the name of a file, so that it can come back.
func (d *disk) unlink(path string) syscall.Errno {
	subject, dir, errno := d.identify(path)
	if errno != 0 {
		return errno
	}
	size := freedBy(path)
	defer func() {
		if errno == 0 {
			d.faults.give(size)
		}
	}()
	if !d.forget {
		errno = errnoOf(syscall.Unlink(path))
		return errno
	}
	grave := d.dig()
	if errno = errnoOf(os.Rename(path, grave)); errno == 0 {
		d.record(change{
			dirs: []uint64{dir}, subject: subject,
			undo: func() error { return os.Rename(grave, path) }, settle: func() { d.bury(grave, subject) },
		})
	}
	return errno
}

// freedBy is the space that removing a name frees.
func freedBy(path string) int64 {
	var st syscall.Stat_t
	if err := syscall.Lstat(path, &st); err != nil || st.Nlink > 1 || st.Mode&syscall.S_IFMT != syscall.S_IFREG {
		return 0
	}
	return st.Size
}

// dig is a new place for what was unlinked.
func (d *disk) dig() string {
	d.dug++
	return filepath.Join(d.grave, fmt.Sprint(d.dug))
}

// bury removes what cannot come back.
func (d *disk) bury(grave string, ino uint64) {
	var st syscall.Stat_t
	last := syscall.Lstat(grave, &st) == nil && st.Nlink == 1
	err := os.Remove(grave)
	if c := d.files[ino]; c != nil && last {
		err = errors.Join(err, c.f.Close())
		delete(d.files, ino)
	}
	if err != nil {
		complain(err)
	}
}

// rmdir removes an empty directory.
func (d *disk) rmdir(path string) syscall.Errno {
	subject, dir, errno := d.identify(path)
	if errno != 0 {
		return errno
	}
	info, err := os.Lstat(path)
	if err != nil {
		return errnoOf(err)
	}
	if err := syscall.Rmdir(path); err != nil {
		return errnoOf(err)
	}
	d.record(change{dirs: []uint64{dir}, subject: subject, undo: func() error { return os.Mkdir(path, info.Mode().Perm()) }})
	return 0
}

// rename is atomic, also in a crash.
func (d *disk) rename(from, to string) syscall.Errno {
	subject, fromDir, errno := d.identify(from)
	if errno != 0 {
		return errno
	}
	replaced, toDir, errno := d.identify(to)
	if errno == syscall.ENOENT {
		var above syscall.Stat_t
		if err := syscall.Lstat(filepath.Dir(to), &above); err != nil {
			return errnoOf(err)
		}
		return d.move(from, to, change{dirs: []uint64{fromDir, above.Ino}, subject: subject, undo: func() error { return os.Rename(to, from) }})
	}
	if errno != 0 {
		return errno
	}
	c, size := change{dirs: []uint64{fromDir, toDir}, subject: subject}, freedBy(to)
	info, err := os.Lstat(to)
	switch {
	case err != nil:
		return errnoOf(err)
	case replaced == subject:
		return 0 // two names of one file: rename does nothing
	case !d.forget:
	case info.IsDir():
		c.undo = func() error { return errors.Join(os.Rename(to, from), os.Mkdir(to, info.Mode().Perm())) }
	default:
		grave := d.dig()
		if err := os.Link(to, grave); err != nil {
			return errnoOf(err)
		}
		c.undo = func() error { return errors.Join(os.Rename(to, from), os.Rename(grave, to)) }
		c.settle = func() { d.bury(grave, replaced) }
	}
	if errno = d.move(from, to, c); errno == 0 {
		d.faults.give(size)
	}
	return errno
}

func (d *disk) move(from, to string, c change) syscall.Errno {
	if err := os.Rename(from, to); err != nil {
		return errnoOf(err)
	}
	d.record(c)
	return 0
}
