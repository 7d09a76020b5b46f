package audit

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/conclave-kv/conclave/internal/logging"
)

const (
	// gather is how long the writer lets records come together. A wake-up for each
	// would cost more than the record.
	gather = 10 * time.Millisecond
	// chunk is about how many bytes are written at once.
	chunk = 64 << 10
	// retryWrite is the pause after a write that failed.
	retryWrite = 500 * time.Millisecond
	// DefaultAnchorEvery is the pause between anchors.
	DefaultAnchorEvery = time.Minute
)

// Options of a Log.
type Options struct {
	// Output is a file, - for the standard output, or syslog. Files are rotated as
	// Rotation says.
	Output   string
	Rotation logging.Rotation
	Level    Level
	// FailClosed has Admit refuse what could not be recorded. Else records that find
	// no room are counted, and the log says how many.
	FailClosed bool
	// Member is this member's id, Version this program's version, which the first
	// record tells.
	Member  uint64
	Version string
	// Anchored is the newest record that the cluster remembers of this member; zero
	// for none. Anchor has it remember another, and may take its time.
	Anchored Head
	Anchor   func(ctx context.Context, h Head) error
	// AnchorEvery is the pause between two anchors, 0 for DefaultAnchorEvery.
	AnchorEvery time.Duration
	Log         zerolog.Logger
}

// Log is where records go, from Open to Close. All methods are safe for concurrent
// use, and on a nil Log do nothing.
type Log struct {
	level      Level
	failClosed bool
	queue      *queue
	sink       sink
	log        zerolog.Logger

	// The writer's own.
	chain   chain
	records []Record
	line    []byte
	failed  bool // the last write

	written  atomic.Uint64 // records
	failures atomic.Uint64 // writes
	head     atomic.Pointer[Head]
	anchors  anchors

	stop    chan struct{} // closed by Close
	writer  sync.WaitGroup
	closing sync.Once
}

// Open goes on with the log in an output, or begins it. Error: one that names
// --audit-log.
func Open(o Options) (*Log, error) {
	s, found, err := openSink(o)
	if err != nil {
		return nil, fmt.Errorf("--audit-log %q: %w", o.Output, err)
	}
	l := &Log{
		level: o.Level, failClosed: o.FailClosed, queue: newQueue(), sink: s, log: o.Log,
		chain: chain{Head: found.Head, member: fmt.Sprintf("%x", o.Member)}, stop: make(chan struct{}),
	}
	if o.Anchored.Seq > found.Seq {
		l.chain.Head = o.Anchored
		if found.named {
			o.Log.Warn().Uint64("last", found.Seq).Uint64("remembered", o.Anchored.Seq).
				Msg("the audit log ends before a record that the cluster remembers: it was cut, or is a new file; it goes on behind that record")
		}
	}
	if found.torn {
		l.line = append(l.line, '\n')
		o.Log.Warn().Msg("the last line of the audit log is cut, as a crash leaves it; it goes on behind it")
	}
	l.line = l.chain.event(l.line, time.Now(), eventStart, Fact{"version", o.Version}, Fact{"level", o.Level.String()}, Fact{"fail_closed", o.FailClosed})
	l.head.Store(&o.Anchored)
	if err := l.flush(1); err != nil {
		_ = s.Close() // nothing of ours is in it
		return nil, fmt.Errorf("--audit-log %q: %w", o.Output, err)
	}
	l.anchors.begin(l, o)
	l.writer.Go(l.write)
	return l, nil
}

// Records reports whether requests of a level are recorded.
func (l *Log) Records(at Level) bool { return l != nil && l.level >= at }

// Admit is asked before something is done that will be recorded; r says what. With
// FailClosed it keeps a place for r, and Add has to follow if it says yes; else it
// always does. It waits a second for room at most. Errors: ErrUnavailable, those of
// ctx.
func (l *Log) Admit(ctx context.Context, r *Record) error {
	if l == nil || !l.failClosed || r.reserved > 0 {
		return nil
	}
	return l.queue.admit(ctx, r)
}

// Add takes a record. It does not wait: what finds no room, and has no place, is
// counted.
func (l *Log) Add(r *Record) {
	if l != nil {
		l.queue.add(r)
	}
}

// Stats says how a Log does.
type Stats struct {
	Written  uint64 // records in the output
	Dropped  uint64 // records that are not
	Failures uint64 // writes that failed
	Waiting  int    // records
	Anchored uint64 // the newest record that the cluster remembers
}

// Stats are those since the start.
func (l *Log) Stats() Stats {
	s := Stats{Written: l.written.Load(), Failures: l.failures.Load(), Anchored: l.anchors.seq.Load()}
	s.Waiting, s.Dropped = l.queue.state()
	return s
}

// Close writes what waits, has the end anchored for as long as that takes until ctx
// is done, and closes the output. Records that are added later are lost.
func (l *Log) Close(ctx context.Context) (err error) {
	if l == nil {
		return nil
	}
	l.closing.Do(func() {
		l.queue.close()
		close(l.stop)
		l.writer.Wait()
		l.anchors.end(ctx)
		err = l.sink.Close()
	})
	return err
}

// write is the writer.
func (l *Log) write() {
	for {
		select {
		case <-l.queue.some:
		case <-l.stop:
			l.drain()
			l.line = l.chain.event(l.line, time.Now(), eventStop)
			l.last(1)
			return
		}
		if !l.failed {
			select {
			case <-time.After(gather):
			case <-l.stop:
			}
		}
		l.drain()
	}
}

// last writes what is left, once.
func (l *Log) last(records uint64) {
	if err := l.flush(records); err != nil {
		l.queue.lose(records)
		l.log.Error().Err(err).Msg("the end of the audit log could not be written")
	}
}

// drain writes what waits.
func (l *Log) drain() {
	var dropped uint64
	l.records, dropped = l.queue.take(l.records)
	n := uint64(0)
	if dropped > 0 {
		l.line = l.chain.event(l.line, time.Now(), eventDropped, Fact{"records", int64(dropped)})
		n++
	}
	for i := range l.records {
		l.line = l.chain.record(l.line, &l.records[i])
		if n++; len(l.line) >= chunk {
			if !l.persist(n) {
				l.queue.lose(uint64(len(l.records) - i - 1))
				return
			}
			n = 0
		}
	}
	l.persist(n)
}

// persist writes the lines there are, and tries again until it can, or must stop.
func (l *Log) persist(records uint64) bool {
	for {
		err := l.flush(records)
		if err == nil {
			return true
		}
		select {
		case <-time.After(retryWrite):
		case <-l.stop:
			l.last(records)
			return false
		}
	}
}

// flush writes the lines there are. After an error what is left of them is written
// first of all.
func (l *Log) flush(records uint64) error {
	if len(l.line) == 0 {
		return nil
	}
	n, err := l.sink.Write(l.line)
	l.line = append(l.line[:0], l.line[n:]...)
	if err != nil {
		l.failures.Add(1)
		if !l.failed {
			l.log.Error().Err(err).Msg("the audit log could not be written")
		}
		if len(l.line) > 0 {
			l.failed = true
			l.queue.fail(true)
			return err
		}
	}
	if l.failed {
		l.failed = false
		l.queue.fail(false)
		l.log.Info().Msg("the audit log can be written again")
	}
	l.written.Add(records)
	head := l.chain.Head
	l.head.Store(&head)
	if l.sink.Rotated() {
		l.anchors.hurry()
	}
	return nil
}
