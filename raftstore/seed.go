package raftstore

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// Seed makes an empty log in dir that goes on behind a state which is there
// already: its entries up to index, of term, are in no log, so that a member
// which lacks them is sent the state. The directory must not hold a log.
func Seed(dir string, index, term uint64, log zerolog.Logger) error {
	logs, err := openLogStore(dir, prometheus.NewRegistry(), log)
	if err != nil {
		return err
	}
	if last, err := logs.LastIndex(); err != nil || last > 0 || logs.Start() > 0 {
		return errors.Join(errNotEmpty, err, logs.Close())
	}
	// The term first: see bootstrap.
	return errors.Join(logs.SetUint64(keyCurrentTerm, term), logs.Reset(index), logs.Close())
}

var errNotEmpty = errors.New("raftstore: the directory holds a log already")
