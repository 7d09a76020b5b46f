package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// node is a file or directory. What it does not say itself, reads above all,
// goes straight to BACKING.
type node struct {
	*fs.LoopbackNode
	d   *disk
	gen int // of its mount
}

// WrapChild gives every node found below this one the same faults.
func (n *node) WrapChild(_ context.Context, ops fs.InodeEmbedder) fs.InodeEmbedder {
	return &node{LoopbackNode: ops.(*fs.LoopbackNode), d: n.d, gen: n.gen}
}

func (n *node) relative() string { return n.Path(n.Root()) }

// at is where a name in this directory is in BACKING.
func (n *node) at(name string) string { return filepath.Join(n.d.tree, n.relative(), name) }

// enter subjects an operation on this node, or on a name in it, to the faults.
func (n *node) enter(ctx context.Context, k kind, name string) syscall.Errno {
	return n.d.enter(operation{ctx: ctx, kind: k, path: filepath.Join(n.relative(), name), gen: n.gen})
}

// named performs an operation that gives something a name.
func (n *node) named(ctx context.Context, name string, do func() (*fs.Inode, syscall.Errno)) (child *fs.Inode, errno syscall.Errno) {
	if errno := n.enter(ctx, kindName, name); errno != 0 {
		return nil, errno
	}
	errno = n.d.change(n.gen, func() syscall.Errno {
		if child, errno = do(); errno != 0 {
			return errno
		}
		return n.d.created(n.at(name))
	})
	return child, errno
}

func (n *node) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	return n.named(ctx, name, func() (*fs.Inode, syscall.Errno) { return n.LoopbackNode.Mkdir(ctx, name, mode, out) })
}

func (n *node) Mknod(ctx context.Context, name string, mode, rdev uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	return n.named(ctx, name, func() (*fs.Inode, syscall.Errno) { return n.LoopbackNode.Mknod(ctx, name, mode, rdev, out) })
}

func (n *node) Symlink(ctx context.Context, target, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	return n.named(ctx, name, func() (*fs.Inode, syscall.Errno) { return n.LoopbackNode.Symlink(ctx, target, name, out) })
}

func (n *node) Link(ctx context.Context, target fs.InodeEmbedder, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	return n.named(ctx, name, func() (*fs.Inode, syscall.Errno) { return n.LoopbackNode.Link(ctx, target, name, out) })
}

//nolint:unparam // the interface is go-fuse's
func (n *node) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (child *fs.Inode, h fs.FileHandle, _ uint32, errno syscall.Errno) {
	if errno := n.enter(ctx, kindName, name); errno != 0 {
		return nil, nil, 0, errno
	}
	errno = n.d.change(n.gen, func() syscall.Errno {
		_, err := os.Lstat(n.at(name))
		var errno syscall.Errno
		if child, h, _, errno = n.LoopbackNode.Create(ctx, name, flags, mode, out); errno != 0 {
			return errno
		}
		h = &file{LoopbackFile: h.(*fs.LoopbackFile), n: child.Operations().(*node)}
		if errors.Is(err, os.ErrNotExist) {
			return n.d.created(n.at(name))
		}
		return 0
	})
	return child, h, 0, errno
}

func (n *node) Open(ctx context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	h, out, errno := n.LoopbackNode.Open(ctx, flags)
	if errno != 0 {
		return nil, 0, errno
	}
	return &file{LoopbackFile: h.(*fs.LoopbackFile), n: n}, out, 0
}

func (n *node) Unlink(ctx context.Context, name string) syscall.Errno {
	if errno := n.enter(ctx, kindName, name); errno != 0 {
		return errno
	}
	return n.d.change(n.gen, func() syscall.Errno { return n.d.unlink(n.at(name)) })
}

func (n *node) Rmdir(ctx context.Context, name string) syscall.Errno {
	if errno := n.enter(ctx, kindName, name); errno != 0 {
		return errno
	}
	return n.d.change(n.gen, func() syscall.Errno { return n.d.rmdir(n.at(name)) })
}

// renameNoReplace is renameat2's flag; exchanging two names is not offered.
const renameNoReplace = 1

func (n *node) Rename(ctx context.Context, name string, newParent fs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	if errno := n.enter(ctx, kindName, name); errno != 0 {
		return errno
	}
	other, ok := newParent.(*node)
	if !ok {
		return syscall.EXDEV
	}
	if flags&^renameNoReplace != 0 {
		return syscall.EINVAL
	}
	return n.d.change(n.gen, func() syscall.Errno {
		if _, err := os.Lstat(other.at(newName)); err == nil && flags == renameNoReplace {
			return syscall.EEXIST
		}
		return n.d.rename(n.at(name), other.at(newName))
	})
}

// Setattr is where truncations come in.
func (n *node) Setattr(ctx context.Context, h fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	size, ok := in.GetSize()
	if !ok {
		return n.LoopbackNode.Setattr(ctx, inner(h), in, out)
	}
	if errno := n.enter(ctx, kindWrite, ""); errno != 0 {
		return errno
	}
	return n.d.change(n.gen, func() syscall.Errno {
		f, err := n.reopen(h, os.O_RDWR)
		if err != nil {
			return errnoOf(err)
		}
		defer f.Close()
		if errno := n.d.resize(int(f.Fd()), int64(size)); errno != 0 {
			return errno
		}
		return n.LoopbackNode.Setattr(ctx, inner(h), in, out)
	})
}

// Fsync is a file's fsync and fdatasync, and a directory's.
func (n *node) Fsync(ctx context.Context, h fs.FileHandle, flags uint32) syscall.Errno {
	if errno := n.enter(ctx, kindSync, ""); errno != 0 {
		return errno
	}
	f, err := n.reopen(h, os.O_RDONLY)
	if err != nil {
		return errnoOf(err)
	}
	defer f.Close()
	sync := syscall.Fsync
	if flags&dataOnly != 0 {
		sync = syscall.Fdatasync
	}
	if err := sync(int(f.Fd())); err != nil {
		return errnoOf(err)
	}
	return n.d.change(n.gen, func() syscall.Errno { return n.d.synced(int(f.Fd())) })
}

// dataOnly is FUSE_FSYNC_FDATASYNC.
const dataOnly = 1

// reopen is another descriptor of the file in BACKING, also if its name is gone.
func (n *node) reopen(h fs.FileHandle, flag int) (*os.File, error) {
	if own, ok := h.(*file); ok {
		return os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", own.fd()), flag, 0)
	}
	return os.OpenFile(n.at(""), flag, 0)
}

// Statfs tells the free space that was set.
func (n *node) Statfs(ctx context.Context, out *fuse.StatfsOut) syscall.Errno {
	errno := n.LoopbackNode.Statfs(ctx, out)
	n.d.mu.Lock()
	defer n.d.mu.Unlock()
	if space := n.d.faults.space; errno == 0 && space != nil {
		used := out.Blocks - out.Bfree
		out.Bfree = uint64(*space) / uint64(max(out.Bsize, 1))
		out.Bavail = out.Bfree
		out.Blocks = used + out.Bfree
	}
	return errno
}

// CopyFileRange is left to the kernel, which reads and writes.
func (n *node) CopyFileRange(context.Context, fs.FileHandle, uint64, *fs.Inode, fs.FileHandle, uint64, uint64, uint64) (uint32, syscall.Errno) {
	return 0, syscall.ENOSYS
}

// OpendirHandle has the sync of a directory come to Fsync.
func (n *node) OpendirHandle(ctx context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	h, out, errno := n.LoopbackNode.OpendirHandle(ctx, flags)
	if errno != 0 {
		return nil, 0, errno
	}
	return &directory{h.(stream)}, out, 0
}

// stream is what reading an open directory needs.
type stream interface {
	fs.FileReaddirenter
	fs.FileSeekdirer
	fs.FileReleasedirer
}

type directory struct{ stream }
