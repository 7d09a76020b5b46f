package raftstore

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/raft"
	"github.com/rs/zerolog"

	"github.com/conclave-kv/conclave/internal/conclavepb"
)

// copiedSegments is how many of the newest files of a log Inspect copies. The
// library repairs the end of a log when it opens it, which is in the newest
// file; it only reads the others.
const copiedSegments = 3

// Inspect reports what the log of a stopped member holds, without changing
// anything in dir: a copy of what opening changes is opened in a temporary
// directory. It needs room there for that, at most about 200 MiB. Only the
// fields that come from the log are set. Error: fs.ErrNotExist without a log.
func Inspect(dir string) (_ *conclavepb.RaftReport, err error) {
	copied, err := copyLog(dir)
	if err != nil {
		return nil, fmt.Errorf("copy log of %s (TMPDIR says where to): %w", dir, err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(copied)) }()
	files, err := checkLog(copied, zerolog.Nop())
	if errors.Is(err, ErrCorruptLog) {
		trouble := strings.ReplaceAll(err.Error(), copied, dir)
		return &conclavepb.RaftReport{Role: roleStopped, Log: &conclavepb.RaftLog{Segments: segments(dir)}, Troubles: []string{trouble}}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open log of %s: %w", dir, err)
	}
	backend, err := openWAL(copied, files, zerolog.Nop())
	if err != nil {
		return nil, fmt.Errorf("open log of %s: %w", dir, err)
	}
	defer func() { err = errors.Join(err, backend.Close()) }()
	return inspect(dir, backend)
}

func inspect(dir string, logs logBackend) (*conclavepb.RaftReport, error) {
	first, last, err := bounds(logs)
	if err != nil {
		return nil, fmt.Errorf("read log of %s: %w", dir, err)
	}
	r := &conclavepb.RaftReport{Role: roleStopped, Log: &conclavepb.RaftLog{FirstIndex: first, LastIndex: last, DurableIndex: last, Segments: segments(dir)}}
	if r.Term, err = logs.GetUint64(keyCurrentTerm); err != nil {
		return nil, fmt.Errorf("read term of %s: %w", dir, err)
	}
	if r.Log.StartIndex, err = logs.GetUint64(keyLogStart); err != nil {
		return nil, fmt.Errorf("read start of the log of %s: %w", dir, err)
	}
	r.VotedFor, r.VotedTerm = votedFor(logs)
	var entry raft.Log
	for index := first; index > 0 && index <= last; index++ {
		if err := logs.GetLog(index, &entry); err != nil {
			r.Troubles = append(r.Troubles, fmt.Sprintf("entry %d of the log in %s cannot be read: %v", index, dir, err))
			return r, nil
		}
		r.Log.LastTerm = entry.Term
		r.Log.Bytes += int64(len(entry.Data))
		r.CommitIndex = max(r.CommitIndex, recordedCommit(&entry))
		if entry.Type != raft.LogConfiguration {
			continue
		}
		conf, err := decodeConfiguration(raft.DecodeConfiguration(entry.Data))
		if err != nil {
			return nil, fmt.Errorf("read membership in entry %d of %s: %w", index, dir, err)
		}
		r.Membership = membershipReport(index, conf, nameless)
	}
	return r, nil
}

// StoppedMembership is a membership as reports show it, for one that was read
// from a state file.
func StoppedMembership(index uint64, conf *conclavepb.Configuration) *conclavepb.RaftMembership {
	return membershipReport(index, conf, nameless)
}

// nameless is for where no names are known.
func nameless(uint64) string { return "" }

// copyLog makes a directory in which the log can be opened: copies of the
// newest files, and links to the others.
func copyLog(dir string) (copied string, err error) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return "", err
	}
	if copied, err = os.MkdirTemp("", "conclave-log-"); err != nil {
		return "", err
	}
	left := copiedSegments
	for _, f := range slices.Backward(files) { // names begin with the index
		from, to := filepath.Join(dir, f.Name()), filepath.Join(copied, f.Name())
		switch {
		case !f.Type().IsRegular():
		case strings.HasSuffix(f.Name(), ".wal") && left == 0:
			err = os.Symlink(from, to)
		case strings.HasSuffix(f.Name(), ".wal"):
			left--
			err = copyFile(from, to)
		default:
			err = copyFile(from, to)
		}
		if err != nil {
			return "", errors.Join(err, os.RemoveAll(copied))
		}
	}
	return copied, nil
}

func copyFile(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	_, err = io.Copy(out, in)
	return err
}
