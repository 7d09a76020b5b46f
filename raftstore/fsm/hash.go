package fsm

import (
	"bytes"
	"errors"
	"hash"
	"hash/crc32"

	"go.etcd.io/bbolt"
)

// hashStep and hashBytes are what is hashed at most between looks at whether the
// copy was ended, which a commit may wait for.
const (
	hashStep  = 1000 // records
	hashBytes = 4 << 20
)

// hashTries bounds how often Hash begins again because its copy was ended.
const hashTries = 3

// Hash is etcd's checksum of a whole state file, as of the last Commit: CRC-32C
// over the names and records of all buckets. What tells how far the file is,
// and not what it holds, is left out, so that members agree whose state is
// equal. Safe for concurrent use. Errors: ErrBackupEnded, kv.ErrClosed.
func (m *Machine) Hash() (sum uint32, err error) {
	for range hashTries {
		if sum, err = m.hash(); !errors.Is(err, ErrBackupEnded) {
			break
		}
	}
	return sum, err
}

func (m *Machine) hash() (uint32, error) {
	b, err := m.Backup()
	if err != nil {
		return 0, err
	}
	h := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	err = b.hashAll(h)
	return h.Sum32(), errors.Join(err, b.Close())
}

func (b *Backup) hashAll(h hash.Hash32) error {
	var names [][]byte
	err := b.with(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(name []byte, _ *bbolt.Bucket) error {
			names = append(names, bytes.Clone(name))
			return nil
		})
	})
	for _, name := range names {
		h.Write(name)
		for from, more := []byte{}, true; more && err == nil; {
			err = b.with(func(tx *bbolt.Tx) error {
				from, more = hashRecords(h, tx, name, from)
				return nil
			})
		}
	}
	return err
}

// hashRecords hashes the next records of a bucket, and returns where to go on.
func hashRecords(h hash.Hash32, tx *bbolt.Tx, name, from []byte) (next []byte, more bool) {
	c := tx.Bucket(name).Cursor()
	n, size := 0, 0
	for k, v := c.Seek(from); k != nil; k, v = c.Next() {
		if n == hashStep || size >= hashBytes {
			return bytes.Clone(k), true
		}
		n, size = n+1, size+len(k)+len(v)
		if !tellsPosition(name, k) {
			h.Write(k)
			h.Write(v)
		}
	}
	return nil, false
}

// tellsPosition reports whether a record tells how far a file is; for etcd's, as
// etcd does.
func tellsPosition(bucket, key []byte) bool {
	switch {
	case bytes.Equal(bucket, bucketMeta):
		return bytes.Equal(key, keyConsistentIndex) || bytes.Equal(key, keyTerm) || bytes.Equal(key, keyStorageVersion)
	case bytes.Equal(bucket, bucketOwn):
		return bytes.Equal(key, keyPositionSum)
	}
	return false
}

// with runs fn on the copy, which is not ended meanwhile; fn is short.
func (b *Backup) with(fn func(*bbolt.Tx) error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.why != nil {
		return b.why
	}
	return fn(b.tx)
}
