package fsm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"
)

// SnapshotStatus is what a snapshot holds.
type SnapshotStatus struct {
	Hash     uint32 // CRC-32C over the names and records of all buckets
	Revision int64  // newest
	Keys     int    // that exist at that revision
	Size     int64  // bytes of bbolt's pages
	Version  string // of the storage; empty before etcd 3.6
}

// InspectSnapshot checks a snapshot, and tells what etcdutl's `snapshot status`
// tells. The file is only read; what follows bbolt's pages is not looked at.
// Errors: ErrNotSnapshot, fs.ErrNotExist.
func InspectSnapshot(path string) (s SnapshotStatus, err error) {
	if err := checkSnapshot(path); err != nil {
		return s, err
	}
	err = guarded(func() error {
		db, err := bbolt.Open(path, 0, &bbolt.Options{ReadOnly: true, Timeout: 1, NoFreelistSync: true})
		if err != nil {
			return err
		}
		return errors.Join(db.View(s.load), db.Close())
	})
	if err != nil {
		return s, notSnapshot(path, err)
	}
	return s, nil
}

func (s *SnapshotStatus) load(tx *bbolt.Tx) error {
	for _, name := range imported {
		if tx.Bucket([]byte(name)) == nil {
			return damage{-1, fmt.Sprintf("it has no bucket %q; a snapshot of etcd or conclave has", name)}
		}
	}
	s.Size = tx.Size()
	s.Version = string(tx.Bucket(bucketMeta).Get(keyStorageVersion))
	h := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	living := make(map[string]struct{})
	mapped := residentOf(tx)
	err := tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
		h.Write(name)
		keys := string(name) == "key"
		return b.ForEach(func(k, v []byte) error {
			mapped.read(len(k) + len(v))
			h.Write(k)
			h.Write(v)
			if keys {
				return s.record(living, k, v)
			}
			return nil
		})
	})
	s.Hash, s.Keys = h.Sum32(), len(living)
	return err
}

// recordKey is the length of a key in the key bucket; deletions append 't'.
const recordKey = 17

// record follows one record of the key bucket.
func (s *SnapshotStatus) record(living map[string]struct{}, k, v []byte) error {
	gone := len(k) == recordKey+1 && k[recordKey] == 't'
	if len(k) != recordKey && !gone || k[8] != '_' {
		return damage{-1, fmt.Sprintf("the key bucket has the key %x, which is no revision", k)}
	}
	var r mvccpb.KeyValue
	if err := proto.Unmarshal(v, &r); err != nil {
		return damage{-1, fmt.Sprintf("record %x in the key bucket cannot be decoded", k)}
	}
	s.Revision = int64(binary.BigEndian.Uint64(k))
	if gone {
		delete(living, string(r.Key))
	} else {
		living[string(r.Key)] = struct{}{}
	}
	return nil
}
