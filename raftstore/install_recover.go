package raftstore

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/conclave-kv/conclave/internal/durable"
)

var errNoPosition = errors.New("it names no position in the log")

// Recover finishes or discards an install that a crash interrupted. It is to be
// called before the state file and the log are opened: dir is that of the log,
// state the path of the state file. It may be interrupted itself, and called
// again.
func Recover(dir, state string, log zerolog.Logger) error {
	return recoverInstall(state, func() (*logStore, error) {
		return openLogStore(dir, prometheus.NewRegistry(), log)
	}, log)
}

// recoverInstall is Recover for a log that open opens.
func recoverInstall(state string, open func() (*logStore, error), log zerolog.Logger) error {
	raw, err := os.ReadFile(state + intentSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		// A process that was killed may have removed it and not synced that.
		if err := durable.SyncDir(filepath.Dir(state)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return discardStaged(state, log)
	}
	if err != nil {
		return fmt.Errorf("read the intent to install: %w", err)
	}
	var meant intent
	err = json.Unmarshal(raw, &meant)
	if err == nil && meant.Index == 0 {
		err = errNoPosition
	}
	if err != nil {
		return fmt.Errorf("%s is damaged: %w; remove the member from the cluster and add it again under a new id", state+intentSuffix, err)
	}
	return finishInstall(state, open, meant, log)
}

// discardStaged removes what was received of a state that nobody meant to use
// yet, and files that were being written when the process ended.
func discardStaged(state string, log zerolog.Logger) error {
	files := []string{state + stagedSuffix}
	entries, err := os.ReadDir(filepath.Dir(state))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries { // durable.WriteFile's
		if strings.HasPrefix(e.Name(), "."+filepath.Base(state)+intentSuffix+".tmp-") {
			files = append(files, filepath.Join(filepath.Dir(state), e.Name()))
		}
	}
	for _, path := range files {
		switch err := os.Remove(path); {
		case err == nil:
			log.Info().Str("file", path).Msg("removed what an interrupted install left")
		case !errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("remove what an interrupted install left: %w", err)
		}
	}
	return nil
}

// finishInstall does the steps that are left. Once the staged file has become
// the state there is nothing to check: it was checked before the intent.
func finishInstall(state string, open func() (*logStore, error), meant intent, log zerolog.Logger) error {
	s := &swap{state: state, intent: meant}
	steps := s.steps()
	switch err := meant.matches(state + stagedSuffix); {
	case errors.Is(err, fs.ErrNotExist):
		steps = steps[1:] // renamed already
	case errors.Is(err, errChecksum):
		// The log is emptied only after the renaming, so the old state and the
		// old log are whole.
		log.Error().Err(err).Str("file", state+stagedSuffix).Msg("the received state was damaged on disk; going on with the one before it")
		return errors.Join(s.forgetIntent(), discardStaged(state, log))
	case err != nil:
		return fmt.Errorf("check the received state: %w", err)
	}
	logs, err := open()
	if err != nil {
		return err
	}
	s.log = logs
	if err := errors.Join(perform(steps, nil), logs.Close()); err != nil {
		return fmt.Errorf("finish the install of %s: %w", state, err)
	}
	log.Info().Uint64("index", meant.Index).Msg("finished an install that was interrupted")
	return discardStaged(state, log)
}

// matches reports an error unless the file is the one that was meant.
func (i intent) matches(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	sum := crc32.New(castagnoli)
	size, err := io.Copy(sum, f)
	if err != nil {
		return err
	}
	if size != i.Size || sum.Sum32() != i.Sum {
		return fmt.Errorf("%w: %d bytes with %08x, %d with %08x were received", errChecksum, size, sum.Sum32(), i.Size, i.Sum)
	}
	return nil
}
