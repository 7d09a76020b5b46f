package fsm

import (
	"fmt"
	"syscall"

	"go.etcd.io/bbolt"
)

// forgetPages gives the pages back that loading has mapped into this process,
// which is all of the file. They stay in the kernel's cache, and are mapped again
// when they are read.
func forgetPages(db *bbolt.DB, size int64) error {
	_, _, errno := syscall.Syscall(syscall.SYS_MADVISE, db.Info().Data, uintptr(size), syscall.MADV_DONTNEED)
	if errno != 0 {
		return fmt.Errorf("madvise of the state file: %w", errno)
	}
	return nil
}
