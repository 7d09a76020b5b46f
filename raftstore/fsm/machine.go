package fsm

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"github.com/rs/zerolog"

	"github.com/conclave-kv/conclave/internal/conclavepb"
	"github.com/conclave-kv/conclave/kv"
)

// ErrInUse: another process has the state file open.
var ErrInUse = errors.New("fsm: state file is in use")

// Options of a Machine.
type Options struct {
	// Path of the state file; its directory exists.
	Path string
	// Quota in bytes that the file is meant to stay below; the address space
	// reserved for it is twice as large, so that growing never remaps.
	Quota int64
	// PruneStep is how many revisions a step of removing history takes at most; 0,
	// and more than that, means kv.DefaultPruneStep. PruneApart leaves all steps to
	// Prune.
	PruneStep  int
	PruneApart bool
	// Level is up to which feature level log and state are understood; 0 means
	// NewestLevel. Less is for tests.
	Level uint32
	Log   zerolog.Logger
}

// Machine is the replicated state of one member.
type Machine struct {
	quota      int64
	keys       kv.Options
	newest     uint32 // Options.Level
	maxBacklog int64  // of applied bytes, where applying waits
	sink       Sink
	log        zerolog.Logger
	file       atomic.Pointer[stateFile] // replaced by an install, with applying held
	view       atomic.Pointer[View]
	hub        *kv.Hub
	pruned     atomic.Uint64

	// installs is held by the end of a defragmentation, and guards preparing:
	// how many received files may be about to take the name of the one in use.
	installs  sync.Mutex
	preparing int
	defrag    defragLimits
	after     func(what string) // told of what a Defrag did to files; nil but in tests

	// applying is held from the first entry after a Publish to that Publish,
	// by Prune, and by an install.
	applying sync.Mutex
	held     bool // by the goroutine that applies

	// Guarded by applying.
	loaded
	batch      *kv.Batch // begun with the first key change since Publish
	opened     uint64    // term opened since Publish, 0 if none
	deliveries []delivery
	results    []Result // of all deliveries; reused
	tasks      [kv.PrefetchGroup]task
	changed    changeSet
}

type delivery struct {
	batch, term uint64
	skipped     bool // the entry had ended up in another term
	first, end  int  // of its results in Machine.results
}

// keepResults is how much room for results is kept from one publication to the
// next.
const keepResults = 16 << 10

// deliver hands the results over and forgets them.
func (m *Machine) deliver() {
	for _, d := range m.deliveries {
		switch {
		case d.skipped:
			m.sink.Deliver(d.batch, d.term, nil)
		case d.first == d.end:
			m.sink.Deliver(d.batch, d.term, []Result{})
		default:
			m.sink.Deliver(d.batch, d.term, m.results[d.first:d.end])
		}
	}
	m.deliveries = m.deliveries[:0]
	clear(m.results)
	if m.results = m.results[:0]; cap(m.results) > keepResults {
		m.results = nil
	}
}

// noSink is in place until SetSink: while the log is replayed nobody waits.
type noSink struct{}

func (noSink) Wants(uint64) bool               { return false }
func (noSink) Deliver(_, _ uint64, _ []Result) {}
func (noSink) LeasesChanged([]kv.LeaseChange)  {}
func (noSink) Opened(uint64)                   {}
func (noSink) Published(*View)                 {}
func (noSink) Installed(*View)                 {}

// Open opens or creates the state file and loads what readers need of it.
func Open(o Options) (*Machine, error) {
	keys := kv.Options{PruneStep: min(o.PruneStep, kv.DefaultPruneStep), PruneApart: o.PruneApart, Counts: &kv.Counts{}}
	newest := cmp.Or(o.Level, NewestLevel)
	f, l, err := openFile(o.Path, os.O_CREATE, o.Quota, keys, newest)
	if err != nil {
		return nil, err
	}
	if err := discardDefrag(o.Path); err != nil {
		return nil, errors.Join(err, f.close())
	}
	m := &Machine{quota: o.Quota, keys: keys, newest: newest, maxBacklog: maxBacklog, defrag: defaultDefrag, sink: noSink{}, log: o.Log, loaded: l}
	m.file.Store(f)
	m.hub = kv.NewHub(m.publishView().KV)
	return m, nil
}

// SetSink says who is told about what is applied from now on. Not to be called
// while entries are applied.
func (m *Machine) SetSink(s Sink) { m.sink = s }

// did tells tests what was done to files.
func (m *Machine) did(what string) {
	if m.after != nil {
		m.after(what)
	}
}

// View is the newest published state. Safe for concurrent use.
func (m *Machine) View() *View { return m.view.Load() }

// Hub has the watches of the keys, over installs. Somebody has to call its Route.
func (m *Machine) Hub() *kv.Hub { return m.hub }

// Applied is the index of the newest entry published. Safe for concurrent use.
func (m *Machine) Applied() uint64 { return m.view.Load().Applied }

// Synced is the position of the state file. Safe for concurrent use.
func (m *Machine) Synced() interface {
	Position() (index, term uint64)
	Membership() (index uint64, conf *conclavepb.Configuration)
} {
	return *m.file.Load().synced.Load()
}

// begin starts or continues a batch of entries. It is the one place where
// applying may wait for the disk: when the state file is so far behind that
// memory is at stake. A leader's proposers stop long before; so this member
// follows, and falls behind.
func (m *Machine) begin() {
	if m.held {
		return
	}
	if room := m.file.Load().queue.full(m.maxBacklog); room != nil {
		m.log.Warn().Int64("bytes", m.Backlog()).Msg("the disk is too slow for the state file; applying waits for it")
		<-room
	}
	m.applying.Lock()
	m.held = true
}

// Prune takes a bounded step in removing what a compaction made unreachable,
// which is also done beside writes unless Options say otherwise. It reports whether there was a step to
// take. Safe beside applying.
func (m *Machine) Prune() bool {
	m.applying.Lock()
	defer m.applying.Unlock()
	f := m.file.Load()
	if !f.keys.Pruning() {
		return false
	}
	_, keys := f.keys.Prune()
	m.pruned.Add(uint64(keys.Pruned()))
	m.hub.Publish(m.publishView().KV, keys)
	f.queue.push(&changeSet{at: m.at, keys: keys})
	return true
}

// Counts are the operations on keys since the start. Safe for concurrent use.
func (m *Machine) Counts() *kv.Counts { return m.keys.Counts }

// OpenReads is how many read transactions of the state file are open. Safe for
// concurrent use.
func (m *Machine) OpenReads() int { return m.file.Load().db.Load().Stats().OpenTxN }

// Pruned counts the revisions that compactions have taken away here since the start.
// Safe for concurrent use.
func (m *Machine) Pruned() uint64 { return m.pruned.Load() }

// CompactedOnDisk is the newest compaction whose deletions are all in the state
// file. Safe for concurrent use.
func (m *Machine) CompactedOnDisk() int64 { return m.file.Load().keys.CompactedOnDisk() }

// Publish makes everything applied since the last call visible to readers, at
// once, then tells the sink, then queues the changes for Commit.
func (m *Machine) Publish() {
	if !m.held {
		return
	}
	set := m.changed
	m.changed = changeSet{}
	if m.batch != nil {
		_, set.keys = m.batch.Freeze()
		m.pruned.Add(uint64(set.keys.Pruned()))
		m.batch = nil
	}
	_, set.auth = m.auth.Freeze()
	_, set.ledger = m.ledger.Freeze()
	set.at = m.at
	view := m.publishView()
	if set.keys != nil {
		m.hub.Publish(view.KV, set.keys)
	}
	m.file.Load().queue.push(&set)
	if set.keys != nil && len(set.keys.Leases()) > 0 {
		m.sink.LeasesChanged(set.keys.Leases())
	}
	m.deliver()
	if m.opened != 0 {
		m.sink.Opened(m.opened)
		m.opened = 0
	}
	m.held = false
	m.applying.Unlock()
	m.sink.Published(view)
}

func (m *Machine) publishView() *View {
	view := &View{
		KV:             m.file.Load().keys.View(),
		Auth:           m.auth.View(),
		Ledger:         m.ledger.View(),
		Members:        m.members,
		Alarms:         m.alarms,
		Downgrade:      m.downgrade,
		Anchors:        m.anchors,
		ClusterVersion: m.clusterVersion,
		Level:          m.level,
		Applied:        m.at.index,
		Term:           m.at.term,
	}
	m.view.Store(view)
	return view
}

// Pending reports whether some change waits for Commit, and due whether so much
// does that Commit should not wait for more. Safe for concurrent use.
func (m *Machine) Pending() (some, due bool) {
	records, bytes := m.file.Load().queue.size()
	return records > 0, records >= dueRecords || bytes >= dueBytes
}

// CommitDue commits if so much waits that a commit is due. For replaying a log,
// beside which nobody else commits.
func (m *Machine) CommitDue() error {
	if _, due := m.Pending(); due {
		return m.Commit()
	}
	return nil
}

// Backlog is how many bytes are applied and not in the state file yet, those
// being written included. At 256 MiB applying waits; proposers should stop
// well before. Safe for concurrent use.
func (m *Machine) Backlog() int64 { return m.file.Load().queue.backlog.Load() }

// Commit writes everything queued, and the position it belongs to, to the state
// file in one synced transaction, beside applying and installs. After an error
// nothing of it is in the file, and nothing ever will be by this Machine: each
// further call returns the error, and the process must end. The log still has
// it all.
func (m *Machine) Commit() error { return m.file.Load().commit() }

// HashKV is etcd's hash of the key-value history at a revision, 0 for the
// newest. Safe for concurrent use.
func (m *Machine) HashKV(revision int64) (h kv.Hash, err error) {
	return m.HashKVBeside(revision, func() error { return nil })
}

// HashKVBeside is HashKV that calls rest now and then, to leave time to others;
// an error of rest ends it.
func (m *Machine) HashKVBeside(revision int64, rest func() error) (h kv.Hash, err error) {
	err = m.read(func(f *stateFile) error {
		h, err = f.keys.HashKVBeside(revision, rest)
		return err
	})
	return h, err
}

// Path is the path of the state file. Safe for concurrent use.
func (m *Machine) Path() string { return m.file.Load().path }

// Size returns the bytes of the state file, and how many of them are in use.
// The file may be longer on disk, since it grows in steps. Safe for concurrent
// use.
func (m *Machine) Size() (total, inUse int64, err error) {
	err = m.read(func(f *stateFile) error {
		total, inUse, err = f.size()
		return err
	})
	if err != nil {
		return 0, 0, fmt.Errorf("size of state file: %w", err)
	}
	return total, inUse, nil
}

// Close writes what is queued and closes the state file, when the snapshots of
// it are closed. Nothing may be applied afterwards.
func (m *Machine) Close() error {
	f := m.file.Load()
	return errors.Join(f.commit(), f.close())
}
