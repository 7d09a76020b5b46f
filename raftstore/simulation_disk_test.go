package raftstore

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// simDisk is one process's view of its disk: the log with raft's few values,
// and the state file. Every change of it takes time, and is there after a crash
// only if it had ended; of a write under way, a part may be there.
//
// A crash does not stop the old process at once. It goes on with its simDisk,
// which nobody looks at any more, while its successor gets a copy.
type simDisk struct {
	rng *rand.Rand // of the schedule's writes; guarded by mu

	mu      sync.Mutex
	logs    []*raft.Log // consecutive
	stable  map[string][]byte
	state   *simState
	files   *simFiles     // of the state file and of installs; nil: there are none
	writing []*raft.Log   // what a crash may tear
	delay   time.Duration // the longest that a write takes
	hung    chan struct{} // closed when writes go on; nil: not hung
	faulty  bool          // the next write to the log fails
	trap    int           // writes until onTrap is called, within one; 0: none
	onTrap  func()
}

const simDiskDelay = 2 * time.Millisecond

var errSimDisk = errors.New("input/output error")

func newSimDisk(seed uint64) *simDisk {
	return &simDisk{
		rng:    rand.New(rand.NewPCG(seed, 3)),
		stable: map[string][]byte{},
		state:  &simState{},
		delay:  simDiskDelay,
	}
}

// crash is the disk as the next process finds it. A part of the write under way
// may be on it.
func (d *simDisk) crash() *simDisk {
	d.mu.Lock()
	defer d.mu.Unlock()
	next := newSimDisk(d.rng.Uint64())
	next.logs = slices.Clone(d.logs)
	if n := len(d.writing); n > 0 {
		next.append(d.writing[:d.rng.IntN(n+1)])
	}
	next.stable = maps.Clone(d.stable)
	next.state = d.state
	if d.files != nil {
		next.files = d.files.crash()
		next.state = next.files.read()
	}
	return next
}

// end is the last index that the state file may be at.
func (d *simDisk) end() uint64 {
	_, last := d.span()
	var start uint64
	fmt.Sscan(string(d.stable[string(keyLogStart)]), &start)
	return max(last, start)
}

// span is the first and last index on the disk, 0 for none.
func (d *simDisk) span() (first, last uint64) {
	if len(d.logs) == 0 {
		return 0, 0
	}
	return d.logs[0].Index, d.logs[len(d.logs)-1].Index
}

// recorded is the newest index that a Machine sees of those that some entry in
// the log says are agreed.
func (d *simDisk) recorded() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	var commit, newest uint64
	for _, l := range d.logs {
		commit = max(commit, recordedCommit(l))
	}
	for _, l := range d.logs {
		if l.Index <= commit && (l.Type == raft.LogCommand || l.Type == raft.LogConfiguration) {
			newest = l.Index
		}
	}
	return newest
}

// at is the entry at index, nil if the disk has none.
func (d *simDisk) at(index uint64) *raft.Log {
	first, last := d.span()
	if index < first || index > last || first == 0 {
		return nil
	}
	return d.logs[index-first]
}

// holds says whether this disk counts for an agreed entry: it is in the log or,
// the log having been truncated or replaced, in the state file.
func (d *simDisk) holds(index, term uint64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if l := d.at(index); l != nil {
		return l.Term == term
	}
	return index <= d.state.position.index
}

// write takes the time of one write. It holds no lock meanwhile.
func (d *simDisk) write() {
	d.mu.Lock()
	wait := time.Duration(0)
	if d.delay > 0 {
		wait = time.Duration(d.rng.Int64N(int64(d.delay)))
	}
	hung := d.hung
	var sprung func()
	if d.trap > 0 {
		if d.trap--; d.trap == 0 {
			sprung = d.onTrap
		}
	}
	d.mu.Unlock()
	time.Sleep(wait / 2)
	if hung != nil {
		<-hung
	}
	if sprung != nil {
		sprung()
	}
	time.Sleep(wait / 2)
}

// fails reports whether a write to the log fails that took its time.
func (d *simDisk) fails() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.faulty {
		d.faulty = false
		return errSimDisk
	}
	return nil
}

// hang makes writes wait until the disk is released.
func (d *simDisk) hang() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.hung == nil {
		d.hung = make(chan struct{})
	}
}

func (d *simDisk) release() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.delay = simDiskDelay
	if d.hung != nil {
		close(d.hung)
		d.hung = nil
	}
}

func (d *simDisk) append(logs []*raft.Log) { d.logs = append(d.logs, logs...) }

// FirstIndex and the rest make a simDisk a logBackend.
func (d *simDisk) FirstIndex() (uint64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	first, _ := d.span()
	return first, nil
}

func (d *simDisk) LastIndex() (uint64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, last := d.span()
	return last, nil
}

func (d *simDisk) GetLog(index uint64, l *raft.Log) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	found := d.at(index)
	if found == nil {
		return raft.ErrLogNotFound
	}
	*l = *found
	return nil
}

func (d *simDisk) StoreLog(l *raft.Log) error { return d.StoreLogs([]*raft.Log{l}) }

func (d *simDisk) StoreLogs(logs []*raft.Log) error {
	if len(logs) == 0 {
		return nil
	}
	copies := make([]*raft.Log, len(logs))
	for i, l := range logs {
		c := *l
		c.Data, c.Extensions = slices.Clone(l.Data), slices.Clone(l.Extensions)
		copies[i] = &c
	}
	d.mu.Lock()
	_, last := d.span()
	for i, l := range copies {
		if want := last + uint64(i) + 1; last != 0 && l.Index != want {
			d.mu.Unlock()
			return fmt.Errorf("entry %d was written where %d is next", l.Index, want)
		}
	}
	d.writing = copies
	d.mu.Unlock()
	d.write()
	err := d.fails()
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		// Nobody knows what is there.
		d.append(d.writing[:d.rng.IntN(len(d.writing)+1)])
	} else {
		d.append(d.writing)
	}
	d.writing = nil
	return err
}

func (d *simDisk) DeleteRange(lo, hi uint64) error {
	d.write()
	if err := d.fails(); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	first, last := d.span()
	switch {
	case first == 0 || hi < first || lo > last:
	case lo <= first && hi >= last:
		d.logs = nil
	case lo <= first:
		d.logs = slices.Clone(d.logs[hi-first+1:])
	case hi >= last:
		d.logs = slices.Clone(d.logs[:lo-first])
	default:
		return fmt.Errorf("entries %d to %d are in the middle of the log", lo, hi)
	}
	return nil
}

// IsMonotonic is true as for the log on disk: it takes no gap.
func (d *simDisk) IsMonotonic() bool { return true }

func (d *simDisk) Close() error { return nil }

// Set never fails: raft then ends the process by a panic.
func (d *simDisk) Set(key, value []byte) error {
	d.write()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stable[string(key)] = slices.Clone(value)
	return nil
}

func (d *simDisk) Get(key []byte) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.stable[string(key)], nil
}

func (d *simDisk) SetUint64(key []byte, value uint64) error {
	return d.Set(key, fmt.Append(nil, value))
}

func (d *simDisk) GetUint64(key []byte) (value uint64, err error) {
	raw, err := d.Get(key)
	if err != nil || len(raw) == 0 {
		return 0, err
	}
	_, err = fmt.Sscan(string(raw), &value)
	return value, err
}

// setTrap has power fail in the middle of the n-th write from now.
func (d *simDisk) setTrap(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.trap = n
}

func (d *simDisk) slow(most time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.delay = max(d.delay, most)
}

func (d *simDisk) failNext() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faulty = true
}

// clear takes back the faults that have not come yet.
func (d *simDisk) clear() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faulty, d.trap = false, 0
}
