package member

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/conclave-kv/conclave/raftstore/fsm"
)

const (
	// defragDrain is how long the replaced file stays open: a reader that comes
	// across a file being closed waits for all others of it.
	defragDrain = time.Second
	// replacedKeep is how long the replaced file stays open, and takes its space,
	// for clients that still read a snapshot of it.
	replacedKeep = 5 * time.Minute
	// defragMargin is what must be free beside the second copy: the log's
	// reserve, without which writes are refused, and what is written meanwhile.
	defragMargin = 256 << 20
	// maxDefragWaiters bounds who may wait for the end of a defragmentation.
	maxDefragWaiters = 1000
)

// pace is how fast a file is copied: after each step a pause of rest times what
// the step took, and no more than rate bytes a second.
type pace struct {
	rest int
	rate int64
}

var (
	// askedPace leaves half of a disk and of a core to others.
	askedPace = pace{rest: 1, rate: 128 << 20}
	// quietPace is for what nobody waits for.
	quietPace = pace{rest: 4, rate: 16 << 20}
)

// after is the pause behind a step.
func (p pace) after(took time.Duration, bytes int) time.Duration {
	atRate := time.Duration(float64(bytes)/float64(p.rate)*float64(time.Second)) - took
	return min(max(time.Duration(p.rest)*took, atRate), time.Second)
}

// defragmenter defragments the state file, one after the other, on a goroutine
// of its own. Another one waits for the readers of each file that was replaced:
// no more than there may be readers, since a file without any is closed at once.
type defragmenter struct {
	m        *Member
	wake     chan struct{}
	free     func(dir string) (int64, error) // freeBytes, less in tests
	keep     time.Duration                   // replacedKeep, less in tests
	draining sync.WaitGroup

	mu      sync.Mutex
	waiters []chan error // of those who asked; each has room for the answer
}

func newDefragmenter(m *Member) *defragmenter {
	return &defragmenter{m: m, wake: make(chan struct{}, 1), free: freeBytes, keep: replacedKeep}
}

// Defragment gives the free space in this member's state file back to the file
// system, beside everything else, and returns when that is done. It goes on when
// ctx ends. Who asks while it is being done gets the same answer. Errors: those
// of fsm, too little space, and ErrTooManyRequests.
func (m *Member) Defragment(ctx context.Context) error {
	d := m.defragmenter
	done := make(chan error, 1)
	d.mu.Lock()
	if len(d.waiters) == maxDefragWaiters {
		d.mu.Unlock()
		return ErrTooManyRequests
	}
	d.waiters = append(d.waiters, done)
	d.mu.Unlock()
	signal(d.wake)
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return contextError(ctx)
	case <-m.ctx.Done():
		return ErrStopped
	}
}

// asked reports whether somebody waits.
func (d *defragmenter) asked() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.waiters) > 0
}

func (d *defragmenter) answer(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, w := range d.waiters {
		w <- err
	}
	d.waiters = nil
}

// run defragments when somebody asks, or when it is worth it.
func (d *defragmenter) run() {
	defer d.draining.Wait()
	quiet := newQuiet(d)
	look := time.NewTicker(quiet.every)
	defer look.Stop()
	quiet.atStart()
	for {
		select {
		case <-d.wake:
			if d.asked() {
				d.serve(func() error { return nil })
			}
		case <-look.C:
			quiet.look()
		case <-d.m.ctx.Done():
			return
		}
	}
}

// serve defragments once, and answers who waits for it. more is asked between
// steps; its error ends it.
func (d *defragmenter) serve(more func() error) {
	old, err := d.defragment(more)
	d.answer(err)
	if err != nil {
		if d.m.ctx.Err() == nil {
			d.m.cfg.Log.Warn().Err(err).Msg("the state file was not defragmented")
		}
		return
	}
	d.draining.Go(func() { d.drain(old) })
}

// drain closes the file that was replaced when nobody reads it any more. That is
// soon: only snapshots are read for long, and they are ended in time.
func (d *defragmenter) drain(old *fsm.Replaced) {
	pause(d.m.ctx, defragDrain)
	late := time.AfterFunc(d.keep, func() {
		old.EndBackups(fmt.Sprintf("the state file was defragmented %v ago, and the old one is kept no longer; ask again", d.keep))
	})
	defer late.Stop()
	defer context.AfterFunc(d.m.ctx, func() { old.EndBackups("this member is stopping; ask again") })()
	if err := old.Close(); err != nil {
		d.m.cfg.Log.Warn().Err(err).Msg("closing the state file that was defragmented")
	}
}

func (d *defragmenter) defragment(more func() error) (old *fsm.Replaced, err error) {
	m := d.m
	before, inUse, err := m.machine.Size()
	if err != nil {
		return nil, err
	}
	if err := d.room(inUse); err != nil {
		return nil, err
	}
	m.metrics.defragging.Set(1)
	defer m.metrics.defragging.Set(0)
	start := time.Now()
	m.cfg.Log.Info().Str("path", m.machine.Path()).Int64("current-db-size-bytes", before).Int64("current-db-size-in-use-bytes", inUse).Msg("defragmenting")
	run, err := m.machine.Defragment()
	if err != nil {
		return nil, err
	}
	if err = d.copy(run, more); err == nil {
		old, err = run.Finish()
	}
	if err := errors.Join(err, run.Abort()); err != nil { // no more than closes what is left
		return nil, err
	}
	took := time.Since(start)
	m.metrics.defrags.Observe(took.Seconds())
	after, _, err := m.machine.Size()
	m.cfg.Log.Info().Str("path", m.machine.Path()).Int64("current-db-size-bytes-diff", after-before).
		Int64("current-db-size-bytes", after).Dur("took", took).Msg("finished defragmenting directory")
	if err != nil {
		return nil, errors.Join(err, old.Close())
	}
	return old, nil
}

// copy does all steps but the last.
func (d *defragmenter) copy(run *fsm.Defrag, more func() error) error {
	for left := true; left; {
		start := time.Now()
		copied, again, err := run.Step()
		if err == nil && again {
			err = more()
		}
		if err != nil {
			return err
		}
		left = again
		p := quietPace
		if d.asked() {
			p = askedPace
		}
		if left && !pause(d.m.ctx, p.after(time.Since(start), copied)) {
			return ErrStopped
		}
	}
	return nil
}

// room refuses to begin where a second copy has no place.
func (d *defragmenter) room(inUse int64) error {
	path := d.m.machine.Path()
	free, err := d.free(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("free space beside %s: %w", path, err)
	}
	if need := inUse + inUse/8 + defragMargin; free < need {
		return fmt.Errorf("defragmenting %s copies the %d MiB of it that are in use, for which %d MiB must be free on that disk, and %d MiB are: make room, then try again",
			path, inUse>>20, need>>20, free>>20)
	}
	return nil
}

// freeBytes is what this process may still write on the file system of a
// directory.
func freeBytes(dir string) (int64, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0, err
	}
	return int64(s.Bavail) * s.Bsize, nil
}

// pause waits, and reports false when ctx ended.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
