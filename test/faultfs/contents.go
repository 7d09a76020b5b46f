package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"syscall"
)

// blockSize is the unit of what is lost of a file.
const blockSize = 4096

// content is a file's contents as of its last sync, as differences to what it
// holds now.
type content struct {
	f    *os.File // of BACKING, for reading and writing; keeps the inode from being used again
	size int64    // at the last sync
	was  map[int64][]byte
	// was has the blocks changed since then, with what they held, cut at size; a
	// block beyond it has nothing.
}

// chance decides what survives a crash.
type chance struct{ *rand.Rand }

func newChance(seed uint64) *chance { return &chance{rand.New(rand.NewPCG(seed, seed))} }

// content finds or begins the record of an open file. It has mu.
func (d *disk) content(fd int, ino uint64) (*content, error) {
	if c := d.files[ino]; c != nil {
		return c, nil
	}
	// The descriptor itself may be open for writing only, and its name gone.
	f, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", fd), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	c := &content{f: f, size: info.Size(), was: map[int64][]byte{}}
	d.files[ino] = c
	return c, nil
}

// keep remembers what n bytes at off held, before they change.
func (c *content) keep(off, n int64) error {
	for b := off / blockSize; b*blockSize < off+n; b++ {
		if _, ok := c.was[b]; ok {
			continue
		}
		held := make([]byte, min(max(c.size-b*blockSize, 0), blockSize))
		if _, err := c.f.ReadAt(held, b*blockSize); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		c.was[b] = held
	}
	return nil
}

// keepTail remembers what a truncation to size takes away.
func (c *content) keepTail(size int64) error { return c.keep(size, max(c.size-size, 0)) }

// synced notes that the contents are on stable storage as they are. The kernel
// lets nobody write to a file while its sync is under way.
func (c *content) synced() error {
	info, err := c.f.Stat()
	if err == nil {
		c.size = info.Size()
		clear(c.was)
	}
	return err
}

// forgetContents puts every file back to its last sync, or some way towards it.
func (d *disk) forgetContents(ch *chance) error {
	var errs []error
	for _, ino := range slices.Sorted(maps.Keys(d.files)) {
		c := d.files[ino]
		errs = append(errs, c.forget(ch), c.f.Close())
	}
	clear(d.files)
	return errors.Join(errs...)
}

func (c *content) forget(ch *chance) error {
	info, err := c.f.Stat()
	if err != nil {
		return err
	}
	now, size := info.Size(), c.size
	if ch != nil {
		size = ch.size(c.size, now)
	}
	for _, b := range slices.Sorted(maps.Keys(c.was)) {
		if ch != nil && b*blockSize < now && ch.IntN(2) == 0 {
			continue // it made it to the disk
		}
		held := make([]byte, blockSize)
		copy(held, c.was[b])
		if _, err := c.f.WriteAt(held, b*blockSize); err != nil {
			return err
		}
	}
	// The writes above may have gone beyond.
	return c.f.Truncate(size)
}

// size picks the size of a file after a crash.
func (ch *chance) size(synced, now int64) int64 {
	switch ch.IntN(3) {
	case 0:
		return synced
	case 1:
		return now
	}
	if first, last := synced/blockSize+1, now/blockSize; last >= first {
		return (first + ch.Int64N(last-first+1)) * blockSize
	}
	return synced
}

// inode is a file's number in BACKING.
func inode(fd int) (ino uint64, size int64, errno syscall.Errno) {
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil {
		return 0, 0, errnoOf(err)
	}
	return st.Ino, st.Size, 0
}

// errnoOf is the number in an error of the os or syscall package.
func errnoOf(err error) syscall.Errno {
	var errno syscall.Errno
	switch {
	case err == nil:
		return 0
	case errors.As(err, &errno):
		return errno
	}
	return syscall.EIO
}
