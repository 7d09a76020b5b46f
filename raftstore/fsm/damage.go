package fsm

import (
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/conclave-kv/conclave/kv"
)

// ErrCorrupt: the state file is damaged. The text says where, and how a member
// comes back: its state is with the others, or in a backup, not here.
var ErrCorrupt = errors.New("state file is damaged")

const wayBack = "rebuild this member: `conclave member remove ID`, `conclave member add NAME --peer-urls=URL`, " +
	"then start it with an empty data directory and --initial-cluster-state existing; a cluster of one member is restored from a snapshot"

// damage is where a state file cannot be what a member wrote.
type damage struct {
	offset int64 // in bytes; -1: not known
	what   string
}

func (d damage) Error() string {
	if d.offset < 0 {
		return d.what
	}
	return fmt.Sprintf("at byte %d: %s", d.offset, d.what)
}

// corruption is ErrCorrupt of one file.
type corruption struct {
	path  string
	cause error
}

func (c corruption) Error() string {
	return fmt.Sprintf("%v: %s: %v; %s", ErrCorrupt, c.path, c.cause, wayBack)
}

func (c corruption) Unwrap() []error { return []error{ErrCorrupt, c.cause} }

// corrupt makes the one line that tells a user of damage.
func corrupt(path string, cause error) error { return corruption{path, cause} }

// guarded runs fn, which reads a file that may be damaged. What makes fn panic,
// also a fault of memory that the file was mapped to, becomes an error.
func guarded(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		switch p := recover().(type) {
		case nil:
		case interface{ Addr() uintptr }:
			err = damage{-1, "a page of it cannot be read: the disk failed, or the file was cut short"}
		default:
			err = damage{-1, fmt.Sprint(p)}
		}
	}()
	return fn()
}

// loadError sorts what loading a file says into damage and the rest.
func loadError(path string, err error) error {
	if errors.Is(err, ErrNewerFormat) || errors.Is(err, kv.ErrClosed) {
		return fmt.Errorf("state file %s: %w", path, err)
	}
	return corrupt(path, err)
}
