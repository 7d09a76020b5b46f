// Package faultdisk starts and drives the file system test/faultfs: a disk
// that delays, fails and forgets, for whole processes. It needs root and
// /dev/fuse.
//
// It must not know who uses the disk. It owns one goroutine per Disk, which
// waits for the end of its program.
package faultdisk
