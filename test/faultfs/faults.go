package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// kind is what a fault can be limited to.
type kind int

const (
	kindWrite kind = iota // of contents: writes, truncations, allocations
	kindSync
	kindName // creating, removing, renaming, linking
	kinds
)

// faults is what was asked for, until release.
type faults struct {
	delays [kinds]time.Duration
	hangs  []fault
	fails  []fault
	stopAt int64 // count at which everything that changes stands still; 0: never
	still  bool  // it has been reached
	space  *int64
}

// fault concerns operations of some kinds, below a path.
type fault struct {
	kinds [kinds]bool
	below string        // "" is everything
	hard  bool          // hang: a killed process stays
	errno syscall.Errno // fail: with what
	left  int           // fail: how often; negative: always
}

func (f fault) concerns(op operation) bool {
	return f.kinds[op.kind] && (f.below == "" || op.path == f.below || strings.HasPrefix(op.path, f.below+"/"))
}

// reach notes that the n-th operation has come.
func (f *faults) reach(n int64) {
	if f.stopAt > 0 && n >= f.stopAt {
		f.still = true
	}
}

// hung says whether an operation has to wait, and whether even if its process
// is killed.
func (f *faults) hung(op operation) (hung, hard bool) {
	hung = f.still
	for _, h := range f.hangs {
		if h.concerns(op) {
			hung, hard = true, hard || h.hard
		}
	}
	return hung, hard
}

// failure takes one failure for the operation, if there is one.
func (f *faults) failure(op operation) syscall.Errno {
	for i := range f.fails {
		if fail := &f.fails[i]; fail.left != 0 && fail.concerns(op) {
			fail.left--
			return fail.errno
		}
	}
	return 0
}

// killPoll is how often a waiting operation looks whether its process is being
// killed: the kernel says so only once, and not always.
const killPoll = 20 * time.Millisecond

// standStill waits, without mu, while the operation has to.
func (d *disk) standStill(op operation) syscall.Errno {
	for {
		if op.gen != d.gen {
			return errGone
		}
		hung, hard := d.faults.hung(op)
		if !hung {
			return 0
		}
		if !hard && killed(op) {
			return syscall.EINTR
		}
		changed, gone := d.changed, d.gone
		d.mu.Unlock()
		select {
		case <-changed:
		case <-gone:
		case <-time.After(killPoll):
		}
		d.mu.Lock()
	}
}

// delay waits, without mu, as long as an operation of this kind shall.
func (d *disk) delay(op operation) syscall.Errno {
	if d.faults.delays[op.kind] <= 0 {
		return 0
	}
	timer, gone := time.NewTimer(d.faults.delays[op.kind]), d.gone
	defer timer.Stop()
	d.mu.Unlock()
	defer d.mu.Lock()
	select {
	case <-timer.C:
		return 0
	case <-gone:
		return errGone
	}
}

// killed says whether SIGKILL waits for the thread that asked: every thread of
// a process that is killed or exits has it pending (proc(5), SigPnd).
func killed(op operation) bool {
	caller, ok := fuse.FromContext(op.ctx)
	if !ok {
		return false
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", caller.Pid))
	if err != nil {
		return true
	}
	for line := range strings.Lines(string(text)) {
		if mask, ok := strings.CutPrefix(line, "SigPnd:"); ok {
			pending, err := strconv.ParseUint(strings.TrimSpace(mask), 16, 64)
			return err == nil && pending&(1<<(uint(syscall.SIGKILL)-1)) != 0
		}
	}
	return false
}

// fit says how many of n bytes at off may be written into a file of a size, and
// takes the space that it grows by.
func (f *faults) fit(size, off, n int64) (int64, syscall.Errno) {
	grow := max(off+n-size, 0)
	if f.space == nil || grow == 0 {
		return n, 0
	}
	if grow > *f.space {
		n -= grow - *f.space
		grow = *f.space
	}
	if n <= 0 {
		return 0, syscall.ENOSPC
	}
	*f.space -= grow
	return n, 0
}

// give returns space.
func (f *faults) give(n int64) {
	if f.space != nil {
		*f.space += max(n, 0)
	}
}
