package raftstore

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"google.golang.org/protobuf/proto"

	"github.com/conclave-kv/conclave/internal/conclavepb"
	"github.com/conclave-kv/conclave/internal/durable"
)

// toyFile is the state file of a toyMachine.
type toyFile struct {
	Index, Term, ConfIndex uint64
	Conf                   *conclavepb.Configuration
	Commands               []string
	Padding                []byte // to make it large
}

// Position and Membership are those of a Snapshot.
func (f *toyFile) Position() (uint64, uint64) { return f.Index, f.Term }

func (f *toyFile) Membership() (uint64, *conclavepb.Configuration) { return f.ConfIndex, f.Conf }

func (f *toyFile) position() toyPosition { return toyPosition{f.Index, f.Term, f.ConfIndex, f.Conf} }

// errToyFile: a file is no state file.
var errToyFile = errors.New("not a state file")

func readToyFile(path string) (*toyFile, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	f := &toyFile{}
	if err := json.Unmarshal(raw, f); err != nil {
		return nil, fmt.Errorf("%w: %w", errToyFile, err)
	}
	return f, nil
}

// openToy loads a state file, or begins with none.
func openToy(path string) (*toyMachine, error) {
	f, err := readToyFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return &toyMachine{path: path}, nil
	}
	if err != nil {
		return nil, err
	}
	at := f.position()
	return &toyMachine{path: path, commands: f.Commands, kept: f.Commands, at: at, applied: at, synced: at, padding: f.Padding}, nil
}

// file is the state file as it is; m.mu is held.
func (m *toyMachine) file() *toyFile {
	return &toyFile{m.synced.index, m.synced.term, m.synced.confIndex, m.synced.conf, m.kept, m.padding}
}

// save writes the state file of a machine that has one; m.mu is held.
func (m *toyMachine) save() {
	if m.path == "" {
		return
	}
	raw, err := json.Marshal(m.file())
	if err == nil {
		err = durable.WriteFile(m.path, raw, 0o600)
	}
	if err != nil {
		panic(err)
	}
}

type toySnapshot struct {
	*toyFile
	raw []byte
}

func (s *toySnapshot) Size() int64 { return int64(len(s.raw)) }

func (s *toySnapshot) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(s.raw)
	return int64(n), err
}

func (s *toySnapshot) Close() error { return nil }

// Snapshot is part of Machine.
func (m *toyMachine) Snapshot() (Snapshot, error) {
	m.mu.Lock()
	f := m.file()
	m.mu.Unlock()
	raw, err := json.Marshal(f)
	return &toySnapshot{f, raw}, err
}

type toyPrepared struct {
	*toyFile
	machine *toyMachine
}

// Prepare is part of Machine.
func (m *toyMachine) Prepare(path string) (Prepared, error) {
	m.mu.Lock()
	preparing := m.preparing
	m.mu.Unlock()
	if preparing != nil {
		preparing()
	}
	f, err := readToyFile(path)
	if err != nil {
		return nil, err
	}
	return &toyPrepared{f, m}, nil
}

func (p *toyPrepared) Install() func() error {
	m := p.machine
	m.mu.Lock()
	defer m.mu.Unlock()
	at := p.position()
	m.commands, m.kept, m.pending, m.padding = p.Commands, p.Commands, nil, p.Padding
	m.at, m.applied, m.synced = at, at, at
	m.installed++
	return func() error {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.drained++
		return nil
	}
}

func (p *toyPrepared) Close() error { return nil }

func mustMarshal(m proto.Message) []byte {
	b, err := proto.Marshal(m)
	if err != nil {
		panic(err)
	}
	return b
}
