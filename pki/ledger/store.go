package ledger

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"

	"go.etcd.io/bbolt"
	"google.golang.org/protobuf/proto"

	pb "github.com/conclave-kv/conclave/internal/conclavepb"
)

// The ledger's buckets, beside etcd's in the state file. They are flat, as
// etcd's tools expect of every bucket they walk over.
var (
	bucketGenerations = []byte("conclave_pki_generations") // number, 8 bytes big-endian: Generation
	bucketMembers     = []byte("conclave_pki_members")     // id, 8 bytes big-endian: CertifiedMember
	bucketIssued      = []byte("conclave_pki_issued")      // serial: Issued
)

var buckets = [][]byte{bucketGenerations, bucketMembers, bucketIssued}

// HasBuckets reports whether CreateBuckets would change nothing.
func HasBuckets(tx *bbolt.Tx) bool {
	for _, name := range buckets {
		if tx.Bucket(name) == nil {
			return false
		}
	}
	return true
}

// CreateBuckets makes the ledger's buckets where they are missing.
func CreateBuckets(tx *bbolt.Tx) error {
	for _, name := range buckets {
		if _, err := tx.CreateBucketIfNotExists(name); err != nil {
			return fmt.Errorf("create bucket %s: %w", name, err)
		}
	}
	return nil
}

// ForgetMembers empties the buckets of what is known of members' certificates, for
// a state that becomes another cluster's: the CAs and the inventory stay, so that
// certificates of clients stay good.
func ForgetMembers(tx *bbolt.Tx) error {
	if err := tx.DeleteBucket(bucketMembers); err != nil {
		return err
	}
	_, err := tx.CreateBucket(bucketMembers)
	return err
}

// Open loads the ledger from its buckets; missing ones are empty. The Ledger
// keeps nothing of the transaction.
func Open(tx *bbolt.Tx) (*Ledger, error) {
	v := &View{
		members:  make(map[uint64]*pb.CertifiedMember),
		issued:   make(map[string]*pb.Issued),
		earliest: math.MaxInt64,
	}
	err := load(tx, bucketGenerations, func(k []byte, g *pb.Generation) bool {
		v.generations = append(v.generations, g)
		return bytes.Equal(k, number(g.GetNumber())) && g.GetNumber() == uint64(len(v.generations))
	})
	if err != nil {
		return nil, err
	}
	err = load(tx, bucketMembers, func(k []byte, m *pb.CertifiedMember) bool {
		v.members[m.GetId()] = m
		return bytes.Equal(k, number(m.GetId()))
	})
	if err != nil {
		return nil, err
	}
	err = load(tx, bucketIssued, func(k []byte, i *pb.Issued) bool {
		v.issued[string(k)] = i
		v.earliest = min(v.earliest, i.GetNotAfter())
		return bytes.Equal(k, i.GetSerial())
	})
	if err != nil {
		return nil, err
	}
	return &Ledger{view: v}, nil
}

// load decodes each record of a bucket; keep says whether it fits its key.
func load[T any, M interface {
	*T
	proto.Message
}](tx *bbolt.Tx, bucket []byte, keep func(key []byte, m M) bool) error {
	b := tx.Bucket(bucket)
	if b == nil {
		return nil
	}
	return b.ForEach(func(k, value []byte) error {
		m := M(new(T))
		if err := proto.Unmarshal(value, m); err != nil {
			return fmt.Errorf("%w: bucket %s, key %x: %w", errCorrupt, bucket, k, err)
		}
		if !keep(k, m) {
			return fmt.Errorf("%w: bucket %s, key %x does not fit its record", errCorrupt, bucket, k)
		}
		return nil
	})
}

// Changes are what one batch of commands does to the state file: the last word
// on each record it touched.
type Changes struct {
	generations map[uint64]*pb.Generation
	members     map[uint64]*pb.CertifiedMember
	issued      map[string]*pb.Issued // by serial; nil: dropped
}

func newChanges() *Changes {
	return &Changes{
		generations: make(map[uint64]*pb.Generation),
		members:     make(map[uint64]*pb.CertifiedMember),
		issued:      make(map[string]*pb.Issued),
	}
}

// Write brings the buckets, which must exist, from the previous view's state
// to the changed one. Writing the same changes again changes nothing; nil
// Changes write nothing.
func (c *Changes) Write(tx *bbolt.Tx) error {
	if c == nil {
		return nil
	}
	for n, g := range c.generations {
		if err := write(tx, bucketGenerations, number(n), g); err != nil {
			return err
		}
	}
	for id, m := range c.members {
		if err := write(tx, bucketMembers, number(id), m); err != nil {
			return err
		}
	}
	for serial, i := range c.issued {
		var m proto.Message
		if i != nil {
			m = i
		}
		if err := write(tx, bucketIssued, []byte(serial), m); err != nil {
			return err
		}
	}
	return nil
}

// write puts the record m under key, or deletes the key when m is nil.
func write(tx *bbolt.Tx, bucket, key []byte, m proto.Message) error {
	b := tx.Bucket(bucket)
	switch {
	case b == nil:
		return fmt.Errorf("%w: bucket %s is missing", errCorrupt, bucket)
	case m == nil:
		return b.Delete(key)
	default:
		return b.Put(key, mustMarshal(m))
	}
}

// number is a key that sorts as the number does.
func number(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
