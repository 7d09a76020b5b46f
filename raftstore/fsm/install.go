package fsm

import (
	"errors"
	"fmt"
	"io"
	"os"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/conclave-kv/conclave/internal/conclavepb"
	"github.com/conclave-kv/conclave/kv"
)

// ErrNotReceived: a file is not a state file that another member sent.
var ErrNotReceived = errors.New("fsm: not the state file of a member")

// Snapshot opens a copy of the state file as it is now, as of the last Commit.
// Until it is closed the file grows instead of reusing space, and Close of the
// Machine waits. Safe for concurrent use.
func (m *Machine) Snapshot() (interface {
	Position() (index, term uint64)
	Membership() (index uint64, conf *conclavepb.Configuration)
	Size() int64
	io.WriterTo
	io.Closer
}, error) {
	var s *snapshot
	err := m.read(func(f *stateFile) error {
		tx, err := f.begin()
		if err != nil {
			return err
		}
		at, err := loadPosition(tx)
		if err != nil {
			return errors.Join(err, tx.Rollback())
		}
		s = &snapshot{position: at, tx: tx}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("snapshot of the state file: %w", err)
	}
	return s, nil
}

// snapshot is a read transaction of the file, whatever its name is meanwhile:
// bbolt copies from the descriptor that it has open.
type snapshot struct {
	position
	tx *bbolt.Tx
}

func (s *snapshot) Size() int64 { return s.tx.Size() }

func (s *snapshot) WriteTo(w io.Writer) (int64, error) { return s.tx.WriteTo(w) }

// Close may be called again.
func (s *snapshot) Close() error {
	if err := s.tx.Rollback(); !errors.Is(err, bolterrors.ErrTxClosed) {
		return err
	}
	return nil
}

// Prepare opens and loads a state file that was received at path, beside the
// one in use and without a trace on it. The file may be renamed afterwards.
// Errors: ErrNotReceived, ErrCorrupt, ErrNewerFormat.
func (m *Machine) Prepare(path string) (interface {
	Position() (index, term uint64)
	Membership() (index uint64, conf *conclavepb.Configuration)
	Install() (drain func() error)
	Close() error
}, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() == 0 {
		return nil, fmt.Errorf("%w: %s is empty", ErrNotReceived, path)
	}
	m.expect(1)
	f, l, err := openFile(path, 0, m.quota, m.keys, m.newest)
	if err == nil && l.at.index == 0 {
		err = errors.Join(fmt.Errorf("%w: %s has no position in the log", ErrNotReceived, path), f.close())
	}
	if err != nil {
		m.expect(-1)
		return nil, err
	}
	f.path = m.file.Load().path
	return &prepared{position: l.at, loaded: l, machine: m, file: f}, nil
}

// expect counts the files that may be about to take the place of the one in use,
// which no defragmentation may come in between.
func (m *Machine) expect(n int) {
	m.installs.Lock()
	defer m.installs.Unlock()
	m.preparing += n
}

// prepared is a state file that waits to be installed.
type prepared struct {
	position
	loaded
	machine *Machine
	file    *stateFile
}

// Install makes the file the Machine's state: everything in memory, the queue
// of changes, the position. It is called while nothing is applied; everything
// else may go on. drain closes the file that was in use, and waits for who
// reads it; a view from before then answers kv.ErrClosed where it needs it.
func (p *prepared) Install() (drain func() error) {
	m := p.machine
	m.applying.Lock()
	old := m.file.Load()
	m.loaded = p.loaded
	m.file.Store(p.file)
	view := m.publishView()
	m.hub.Reset(view.KV)
	m.applying.Unlock()
	m.expect(-1)
	m.sink.Installed(view)
	return old.close
}

// Close gives the file up, instead of Install.
func (p *prepared) Close() error {
	p.machine.expect(-1)
	return p.file.close()
}

// read has fn read the file in use, and again if that was replaced meanwhile.
func (m *Machine) read(fn func(*stateFile) error) error {
	for {
		f := m.file.Load()
		err := fn(f)
		if !errors.Is(err, kv.ErrClosed) || m.file.Load() == f {
			return err
		}
	}
}
