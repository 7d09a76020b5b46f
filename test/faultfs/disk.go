package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// errGone is what an operation on a mount gives that a crash has ended.
const errGone = syscall.EIO

// disk is the state behind the mount. Every change to BACKING happens under mu.
type disk struct {
	options
	tree, grave string // below BACKING: what is shown; what was unlinked and may come back

	mu      sync.Mutex
	gen     int           // which mount is in use; older ones get errGone
	gone    chan struct{} // closed when the mount in use ends
	changed chan struct{} // closed and replaced when the faults change
	faults  faults
	count   int64 // changes and syncs since the start
	server  *fuse.Server

	files map[uint64]*content // by inode: those with something to forget
	names []change            // in their order: those that a crash may undo
	dug   int                 // graves used
}

// options are what the command line says.
type options struct {
	backing, mountpoint string
	forget              bool
	strictNames         bool
}

// newDisk prepares BACKING.
func newDisk(o options) (*disk, error) {
	d := &disk{
		options: o, tree: filepath.Join(o.backing, "tree"), grave: filepath.Join(o.backing, "grave"),
		changed: make(chan struct{}), files: map[uint64]*content{},
	}
	// What an earlier process was asked to unlink stays unlinked.
	if err := os.RemoveAll(d.grave); err != nil {
		return nil, err
	}
	for _, dir := range []string{d.tree, d.grave, o.mountpoint} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// operation is one request of the kernel that passes the gate.
type operation struct {
	ctx  context.Context
	kind kind
	path string // from the mount point
	gen  int    // of the mount it came through
}

// enter counts an operation and subjects it to the faults: it may wait, and it
// may fail.
func (d *disk) enter(op operation) syscall.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.count++
	d.faults.reach(d.count)
	if errno := d.standStill(op); errno != 0 {
		return errno
	}
	if errno := d.faults.failure(op); errno != 0 {
		return errno
	}
	return d.delay(op)
}

// change makes a change to BACKING, unless the mount that asked for it is gone.
func (d *disk) change(gen int, do func() syscall.Errno) syscall.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	if gen != d.gen {
		return errGone
	}
	return do()
}

// crash ends the mount, forgets, and mounts again. A nil choice forgets
// everything that can be forgotten.
func (d *disk) crash(c *chance) error {
	if !d.forget {
		return errors.New("crash: start with -forget")
	}
	d.end()
	d.mu.Lock()
	err := errors.Join(d.forgetContents(c), d.forgetNames(c))
	d.faults = faults{}
	d.mu.Unlock()
	if err != nil {
		return fmt.Errorf("crash: %w", err)
	}
	return d.mount()
}
