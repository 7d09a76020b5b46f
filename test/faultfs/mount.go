package main

import (
	"errors"
	"fmt"
	"io"
	"log"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// cached is how long the kernel may trust what it was told. Everything that
// changes goes through it, or ends the mount.
const cached = time.Minute

// mount shows BACKING/tree at the mount point.
func (d *disk) mount() error {
	loop, err := fs.NewLoopbackRoot(d.tree)
	if err != nil {
		return err
	}
	d.mu.Lock()
	d.gen++
	d.gone = make(chan struct{})
	root := &node{LoopbackNode: loop.(*fs.LoopbackNode), d: d, gen: d.gen}
	d.mu.Unlock()
	timeout, quiet := cached, log.New(io.Discard, "", 0)
	server, err := fs.Mount(d.mountpoint, root, &fs.Options{
		EntryTimeout: &timeout, AttrTimeout: &timeout, Logger: quiet,
		MountOptions: fuse.MountOptions{
			FsName: d.backing, Name: "faultfs", DirectMountStrict: true, MaxWrite: 1 << 20, Logger: quiet,
		},
	})
	if err != nil {
		return fmt.Errorf("mount %s: %w", d.mountpoint, err)
	}
	d.server = server
	return nil
}

// end turns away everything that waits, and unmounts. Files that are still open
// give EIO.
func (d *disk) end() {
	d.mu.Lock()
	if d.server == nil {
		d.mu.Unlock()
		return
	}
	d.gen++
	close(d.gone)
	d.server = nil
	d.mu.Unlock()
	err := syscall.Unmount(d.mountpoint, 0)
	if errors.Is(err, syscall.EBUSY) {
		err = syscall.Unmount(d.mountpoint, syscall.MNT_DETACH)
	}
	if err != nil {
		complain(fmt.Errorf("unmount %s: %w", d.mountpoint, err))
	}
}
