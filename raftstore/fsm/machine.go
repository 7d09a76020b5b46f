package fsm

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/rs/zerolog"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/conclave-kv/conclave/internal/conclavepb"
	"github.com/conclave-kv/conclave/kv"
	"github.com/conclave-kv/conclave/pki/ledger"
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
	Log   zerolog.Logger
}

// Machine is the replicated state of one member.
type Machine struct {
	db     *bbolt.DB
	keys   *kv.Store
	ledger *ledger.Ledger
	sink   Sink
	log    zerolog.Logger

	// applying is held from the first entry after a Publish to that Publish,
	// and by Prune.
	applying sync.Mutex
	held     bool // by the goroutine that applies

	// Guarded by applying.
	at             position
	batch          *kv.Batch // begun with the first key change since Publish
	members        *Members
	clusterVersion string
	opened         uint64 // term opened since Publish, 0 if none
	deliveries     []delivery
	changed        changeSet

	view   atomic.Pointer[View]
	queue  queue
	synced atomic.Pointer[position]
	failed error // of the first Commit that failed
}

type delivery struct {
	batch, term uint64
	results     []Result
}

// noSink is in place until SetSink: while the log is replayed nobody waits.
type noSink struct{}

func (noSink) Wants(uint64) bool               { return false }
func (noSink) Deliver(_, _ uint64, _ []Result) {}
func (noSink) Opened(uint64)                   {}
func (noSink) Published(*View)                 {}

// Open opens or creates the state file and loads what readers need of it.
func Open(o Options) (*Machine, error) {
	db, err := bbolt.Open(o.Path, 0o600, &bbolt.Options{
		Timeout:         1, // nanosecond: a file in use is an error, not a wait
		NoFreelistSync:  true,
		FreelistType:    bbolt.FreelistMapType,
		InitialMmapSize: int(2 * o.Quota),
	})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("%w: %s", ErrInUse, o.Path)
	}
	if err != nil {
		return nil, fmt.Errorf("open state file %s: %w", o.Path, err)
	}
	m := &Machine{db: db, sink: noSink{}, log: o.Log}
	if err := m.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("state file %s: %w", o.Path, err), db.Close())
	}
	return m, nil
}

func (m *Machine) load() error {
	err := m.db.Update(func(tx *bbolt.Tx) error {
		return errors.Join(createBuckets(tx), ledger.CreateBuckets(tx))
	})
	if err != nil {
		return err
	}
	return m.db.View(func(tx *bbolt.Tx) error {
		if m.keys, err = kv.Open(m.db, tx, kv.Options{}); err != nil {
			return err
		}
		if m.at, err = loadPosition(tx); err != nil {
			return err
		}
		if m.members, err = loadMembers(tx, m.at.conf); err != nil {
			return err
		}
		if m.ledger, err = ledger.Open(tx); err != nil {
			return err
		}
		m.clusterVersion = string(tx.Bucket(bucketCluster).Get(keyClusterVersion))
		at := m.at
		m.synced.Store(&at)
		m.publishView()
		return nil
	})
}

// SetSink says who is told about what is applied from now on. Not to be called
// while entries are applied.
func (m *Machine) SetSink(s Sink) { m.sink = s }

// View is the newest published state. Safe for concurrent use.
func (m *Machine) View() *View { return m.view.Load() }

// Applied is the index of the newest entry published. Safe for concurrent use.
func (m *Machine) Applied() uint64 { return m.view.Load().Applied }

// Synced is the position of the state file. Safe for concurrent use.
func (m *Machine) Synced() interface {
	Position() (index, term uint64)
	Membership() (index uint64, conf *conclavepb.Configuration)
} {
	return *m.synced.Load()
}

// begin starts or continues a batch of entries.
func (m *Machine) begin() {
	if !m.held {
		m.applying.Lock()
		m.held = true
	}
}

// Prune takes a bounded step in removing what a compaction made unreachable,
// which otherwise is done beside writes. It reports whether there was a step to
// take. Safe beside applying.
func (m *Machine) Prune() bool {
	m.applying.Lock()
	defer m.applying.Unlock()
	if !m.keys.Pruning() {
		return false
	}
	_, keys := m.keys.NewBatch().Freeze()
	m.publishView()
	m.queue.push(&changeSet{at: m.at, keys: keys})
	return true
}

// CompactedOnDisk is the newest compaction whose deletions are all in the state
// file. Safe for concurrent use.
func (m *Machine) CompactedOnDisk() int64 { return m.keys.CompactedOnDisk() }

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
		m.batch = nil
	}
	_, set.ledger = m.ledger.Freeze()
	set.at = m.at
	view := m.publishView()
	m.queue.push(&set)
	for _, d := range m.deliveries {
		m.sink.Deliver(d.batch, d.term, d.results)
	}
	clear(m.deliveries)
	m.deliveries = m.deliveries[:0]
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
		KV:             m.keys.View(),
		Ledger:         m.ledger.View(),
		Members:        m.members,
		ClusterVersion: m.clusterVersion,
		Applied:        m.at.index,
		Term:           m.at.term,
	}
	m.view.Store(view)
	return view
}

// Queued is how many records wait for Commit. Safe for concurrent use.
func (m *Machine) Queued() int { return m.queue.size() }

// Commit writes everything queued, and the position it belongs to, to the state
// file in one synced transaction. One call at a time, beside applying. After an
// error nothing of it is in the file, and nothing ever will be by this Machine:
// each further call returns the error, and the process must end. The log still
// has it all.
func (m *Machine) Commit() error {
	if m.failed != nil {
		return m.failed
	}
	sets := m.queue.take()
	if len(sets) == 0 {
		return nil
	}
	at := sets[len(sets)-1].at
	err := m.db.Update(func(tx *bbolt.Tx) error {
		for _, set := range sets {
			if err := set.write(tx); err != nil {
				return err
			}
		}
		return at.write(tx)
	})
	if err != nil {
		m.failed = fmt.Errorf("write state file: %w", err)
		return m.failed
	}
	for i := len(sets) - 1; i >= 0; i-- {
		if keys := sets[i].keys; keys != nil && !keys.Empty() {
			keys.Done() // and with it all before
			break
		}
	}
	m.synced.Store(&at)
	return nil
}

// HashKV is etcd's hash of the key-value history at a revision, 0 for the
// newest. Safe for concurrent use.
func (m *Machine) HashKV(revision int64) (kv.Hash, error) { return m.keys.HashKV(revision) }

// Size returns the bytes of the state file, and how many of them are in use.
// The file may be longer on disk, since it grows in steps.
func (m *Machine) Size() (total, inUse int64, err error) {
	err = m.db.View(func(tx *bbolt.Tx) error {
		total = tx.Size()
		return nil
	})
	if err != nil {
		return 0, 0, fmt.Errorf("size of state file: %w", err)
	}
	free := int64(m.db.Stats().FreePageN) * int64(m.db.Info().PageSize)
	return total, max(total-free, 0), nil
}

// Close writes what is queued and closes the state file. Nothing may be applied
// or read afterwards.
func (m *Machine) Close() error {
	return errors.Join(m.Commit(), m.db.Close())
}
