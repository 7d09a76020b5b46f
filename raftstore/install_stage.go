package raftstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"os"
	"path/filepath"
	"time"
)

const (
	// stagedSuffix ends the name of a state file that is being received.
	stagedSuffix = ".part"
	// syncBytes is how much of it is written between two syncs. One large sync
	// at the end would hold up the syncs of the log for seconds.
	syncBytes = 16 << 20
	// installReserve is what must stay free on the disk beside a received
	// state, in bytes: the log goes on.
	installReserve = 64 << 20
)

var (
	// ErrNoSpace: the disk has no room for a second state file beside the one in
	// use.
	ErrNoSpace    = errors.New("raftstore: not enough disk space for the state of the leader")
	errIncomplete = errors.New("raftstore: snapshot is not of the announced size")
	errChecksum   = errors.New("raftstore: checksum of the snapshot is wrong")
	errGap        = errors.New("raftstore: chunks of the snapshot are missing")
)

// stagedFile is a received state file, whole and synced.
type stagedFile struct {
	path string
	size int64
	sum  uint32 // CRC-32C
}

// staging writes the content of an install to a file.
type staging struct {
	in       *installer
	a        *arriving
	file     *os.File
	sum      hash.Hash32
	written  int64
	synced   int64
	early    map[uint64]frame // chunks that came before their turn, by offset
	progress *progress
}

// stage receives the content. The file is returned with an error too, if it was
// begun.
func (in *installer) stage(a *arriving) (staged *stagedFile, err error) {
	path := in.node.cfg.State + stagedSuffix
	if err := checkSpace(filepath.Dir(path), a.req.Size); err != nil {
		return nil, err
	}
	defer func() {
		traffic := in.node.cfg.Mesh.snapshots
		if err != nil {
			traffic.receiveFailed.WithLabelValues(a.peer.text).Inc()
			return
		}
		traffic.receivedWhole.WithLabelValues(a.peer.text).Inc()
	}()
	if err := removeFile(path); err != nil { // with whatever mode it had
		return nil, err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	s := &staging{
		in: in, a: a, file: file, sum: crc32.New(castagnoli), early: map[uint64]frame{},
		progress: newProgress(in.log, "receiving a snapshot", a.peer.text, a.req.Size),
	}
	err = s.receive()
	if err == nil {
		err = file.Sync()
	}
	return &stagedFile{path, s.written, s.sum.Sum32()}, errors.Join(err, file.Close())
}

// checkSpace refuses a snapshot that the disk has no room for. The file in use
// stays beside it until the swap.
func checkSpace(dir string, size int64) error {
	free, err := freeSpace(dir)
	if err != nil {
		return fmt.Errorf("free space of %s: %w", dir, err)
	}
	if free-size < installReserve {
		return fmt.Errorf("%w: %s has %d MiB free and needs %d MiB; make room there", ErrNoSpace, dir, free>>20, (size+installReserve)>>20)
	}
	return nil
}

// receive takes pieces until the end, which must match.
func (s *staging) receive() error {
	stall := time.NewTimer(snapshotStall)
	defer stall.Stop()
	for {
		var f frame
		select {
		case f = <-s.a.pieces:
		case <-stall.C:
			return errSnapshotStalled
		case <-s.a.ctx.Done():
			return context.Cause(s.a.ctx)
		}
		if term := s.in.node.Term(); term > s.a.req.Term {
			return fmt.Errorf("raftstore: the snapshot of term %d is given up in term %d", s.a.req.Term, term)
		}
		if f.kind == kindSnapshotEnd {
			return s.end(f)
		}
		before := s.written
		if err := s.chunk(f); err != nil {
			return err
		}
		if s.written > before {
			stall.Reset(snapshotStall)
		}
	}
}

// chunk writes a chunk, and those after it that came early.
func (s *staging) chunk(f frame) error {
	if len(f.payload) <= chunkHead {
		return errGap
	}
	offset := binary.BigEndian.Uint64(f.payload[8:])
	if offset < uint64(s.written) { // it came twice
		s.a.peer.answer(f.id, nil, nil)
		return nil
	}
	s.early[offset] = f
	for {
		f, ok := s.early[uint64(s.written)]
		if !ok {
			break
		}
		delete(s.early, uint64(s.written))
		if err := s.write(f); err != nil {
			return err
		}
	}
	if len(s.early) > chunksAtOnce {
		return errGap
	}
	return nil
}

func (s *staging) write(f frame) error {
	data := f.payload[chunkHead:]
	if s.written+int64(len(data)) > s.a.req.Size {
		return fmt.Errorf("%w: more than %d bytes", errIncomplete, s.a.req.Size)
	}
	if _, err := s.file.Write(data); err != nil {
		return fmt.Errorf("write received state: %w", err)
	}
	s.sum.Write(data)
	s.written += int64(len(data))
	s.a.got.Store(s.written)
	s.progress.add(len(data))
	if s.written-s.synced >= syncBytes {
		if err := s.file.Sync(); err != nil {
			return fmt.Errorf("sync received state: %w", err)
		}
		s.synced = s.written
	}
	s.a.peer.answer(f.id, nil, nil)
	return nil
}

// end checks the whole, and has further ends answered at once.
func (s *staging) end(f frame) error {
	if s.written != s.a.req.Size || len(f.payload) != endBytes {
		return fmt.Errorf("%w: %d bytes of %d", errIncomplete, s.written, s.a.req.Size)
	}
	if sum := binary.BigEndian.Uint32(f.payload[8:]); sum != s.sum.Sum32() {
		return fmt.Errorf("%w: %08x, sent as %08x", errChecksum, s.sum.Sum32(), sum)
	}
	s.in.mu.Lock()
	s.a.whole = true
	s.in.mu.Unlock()
	s.a.peer.answer(f.id, nil, nil)
	return nil
}
