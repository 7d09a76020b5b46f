package main

import (
	"context"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// file is an open file.
type file struct {
	*fs.LoopbackFile
	n *node
}

// inner is a handle as the wrapped node knows it.
func inner(h fs.FileHandle) fs.FileHandle {
	if own, ok := h.(*file); ok {
		return own.LoopbackFile
	}
	return h
}

// PassthroughFd keeps the kernel from going to BACKING by itself.
func (f *file) PassthroughFd() (int, bool) { return 0, false }

// Ioctl would be another way around.
func (f *file) Ioctl(context.Context, uint32, uint64, []byte, []byte) (int32, syscall.Errno) {
	return 0, syscall.ENOTTY
}

// fd is the descriptor in BACKING, valid until Release.
func (f *file) fd() int {
	fd, ok := f.LoopbackFile.PassthroughFd()
	if !ok {
		return -1
	}
	return fd
}

func (f *file) Read(ctx context.Context, buf []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	f.n.d.mu.Lock()
	gone := f.n.gen != f.n.d.gen
	f.n.d.mu.Unlock()
	if gone {
		return nil, errGone
	}
	return f.LoopbackFile.Read(ctx, buf, off)
}

func (f *file) Write(ctx context.Context, data []byte, off int64) (written uint32, errno syscall.Errno) {
	if errno := f.n.enter(ctx, kindWrite, ""); errno != 0 {
		return 0, errno
	}
	errno = f.n.d.change(f.n.gen, func() syscall.Errno {
		n, errno := f.n.d.prepare(f.fd(), off, int64(len(data)))
		if errno != 0 {
			return errno
		}
		written, errno = f.LoopbackFile.Write(ctx, data[:n], off)
		return errno
	})
	return written, errno
}

// The modes of fallocate(2) that are offered.
const (
	allocKeepSize = 1
	allocPunch    = 2
	allocZero     = 16
)

func (f *file) Allocate(ctx context.Context, off, size uint64, mode uint32) syscall.Errno {
	if mode&^(allocKeepSize|allocPunch|allocZero) != 0 {
		return syscall.EOPNOTSUPP
	}
	if errno := f.n.enter(ctx, kindWrite, ""); errno != 0 {
		return errno
	}
	return f.n.d.change(f.n.gen, func() syscall.Errno {
		if errno := f.n.d.allocate(f.fd(), int64(off), int64(size), mode); errno != 0 {
			return errno
		}
		return f.LoopbackFile.Allocate(ctx, off, size, mode)
	})
}

// prepare has n bytes at off counted and remembered before they are written,
// and returns how many of them may be. It has mu, as have the others here.
func (d *disk) prepare(fd int, off, n int64) (int64, syscall.Errno) {
	ino, size, errno := inode(fd)
	if errno != 0 {
		return 0, errno
	}
	if n, errno = d.faults.fit(size, off, n); errno != 0 || !d.forget {
		return n, errno
	}
	c, err := d.content(fd, ino)
	if err == nil {
		err = c.keep(off, n)
	}
	return n, errnoOf(err)
}

// allocate does the same before an allocation, which takes all or nothing. What
// is only reserved, without growing the file, costs nothing.
func (d *disk) allocate(fd int, off, n int64, mode uint32) syscall.Errno {
	ino, size, errno := inode(fd)
	if errno != 0 {
		return errno
	}
	if end := off + n; mode&allocKeepSize == 0 {
		if errno := d.grow(size, end); errno != 0 {
			return errno
		}
	}
	if !d.forget {
		return 0
	}
	c, err := d.content(fd, ino)
	if err == nil && mode&^allocKeepSize != 0 {
		err = c.keep(off, n)
	}
	return errnoOf(err)
}

// resize does the same before a truncation.
func (d *disk) resize(fd int, to int64) syscall.Errno {
	ino, size, errno := inode(fd)
	if errno != 0 {
		return errno
	}
	if errno := d.grow(size, to); errno != 0 || !d.forget {
		return errno
	}
	c, err := d.content(fd, ino)
	if err == nil {
		err = c.keepTail(to)
	}
	return errnoOf(err)
}

// grow takes or gives the space of a file that changes its size.
func (d *disk) grow(size, to int64) syscall.Errno {
	if space := d.faults.space; space != nil && to-size > *space {
		return syscall.ENOSPC
	}
	if to < size {
		d.faults.give(size - to)
		return 0
	}
	_, errno := d.faults.fit(size, size, to-size)
	if to == size {
		return 0
	}
	return errno
}

// synced makes durable what a sync does.
func (d *disk) synced(fd int) syscall.Errno {
	if !d.forget {
		return 0
	}
	ino, _, errno := inode(fd)
	if errno != 0 {
		return errno
	}
	d.syncedNames(ino)
	if c := d.files[ino]; c != nil {
		return errnoOf(c.synced())
	}
	return 0
}
