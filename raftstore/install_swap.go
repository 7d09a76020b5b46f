package raftstore

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/conclave-kv/conclave/internal/durable"
)

// intentSuffix ends the name of the file that says that a staged file is to
// become the state.
const intentSuffix = ".install"

// intent is what is about to become the state. While its file is there, the
// state file may be the old or the new one, and the log may be whole or empty;
// Recover makes both new.
type intent struct {
	Index uint64 `json:"index"`
	Term  uint64 `json:"term"`
	Size  int64  `json:"size"`
	Sum   uint32 `json:"crc32c"`
}

// swap is one exchange of the state file for a staged one.
type swap struct {
	state    string
	log      swapLog
	prepared Prepared
	term     uint64 // of the leader that sent it
	intent   intent

	announced bool // an intent may be on disk
	drain     func() error
}

// swapLog is the log as an install needs it.
type swapLog interface {
	GetUint64(key []byte) (uint64, error)
	SetUint64(key []byte, value uint64) error
	Reset(after uint64) error
}

// step is a piece of work that a crash leaves done or not done.
type step struct {
	name string
	do   func() error
}

// perform does steps in order, up to the first that fails. After, which may be
// nil, is told of each; for tests.
func perform(steps []step, after func(name string)) error {
	for _, s := range steps {
		if err := s.do(); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		if after != nil {
			after(s.name)
		}
	}
	return nil
}

// announce are the steps that may fail without harm: they make the leader's term
// known, which a state of that term must not be without, and write the intent.
func (s *swap) announce() []step {
	return []step{
		{"make the term known", s.raiseTerm},
		{"write the intent", s.writeIntent},
	}
}

func (s *swap) raiseTerm() error {
	if term, err := s.log.GetUint64(keyCurrentTerm); err == nil && term >= s.term {
		return nil
	}
	return s.log.SetUint64(keyCurrentTerm, s.term)
}

func (s *swap) writeIntent() error {
	raw, err := json.Marshal(s.intent)
	if err != nil {
		return err
	}
	s.announced = true
	return durable.WriteFile(s.state+intentSuffix, raw, 0o600)
}

// retract undoes a failed announce. If that fails too, nobody knows what is on
// disk, and the process must end.
func (s *swap) retract() error {
	if !s.announced {
		return nil
	}
	if err := s.forgetIntent(); err != nil {
		return fmt.Errorf("take back the intent to install: %w", err)
	}
	s.announced = false
	return nil
}

// steps come after the intent. Each is done again by Recover if need be, so each
// must bear that.
func (s *swap) steps() []step {
	steps := []step{
		{"rename the staged file", func() error { return os.Rename(s.state+stagedSuffix, s.state) }},
		{"sync the directory", s.syncDir},
		{"empty the log", func() error { return s.log.Reset(s.intent.Index) }},
	}
	if s.prepared != nil {
		steps = append(steps, step{"take the state over", func() error {
			s.drain = s.prepared.Install()
			return nil
		}})
	}
	// Only now may anything be appended: an intent found later would empty the
	// log again.
	return append(steps, step{"remove the intent", s.forgetIntent})
}

func (s *swap) syncDir() error { return durable.SyncDir(filepath.Dir(s.state)) }

func (s *swap) forgetIntent() error {
	return errors.Join(removeFile(s.state+intentSuffix), s.syncDir())
}
