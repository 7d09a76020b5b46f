package fsm

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"

	"go.etcd.io/bbolt"
	"google.golang.org/protobuf/proto"

	"github.com/conclave-kv/conclave/internal/conclavepb"
	"github.com/conclave-kv/conclave/internal/version"
)

// Buckets of the state file that this package writes. All but the last are
// etcd's, with its names and forms.
var (
	bucketMeta           = []byte("meta")
	bucketMembers        = []byte("members")
	bucketMembersRemoved = []byte("members_removed")
	bucketCluster        = []byte("cluster")
	bucketOwn            = []byte("conclave")
)

// otherBuckets are etcd's buckets that kv and auth store something in, or nobody
// does; tools that open the file expect them all.
var otherBuckets = []string{"key", "auth", "authUsers", "authRoles", "lease"}

var (
	keyConsistentIndex = []byte("consistent_index")
	keyTerm            = []byte("term")
	keyConfState       = []byte("confState")
	keyStorageVersion  = []byte("storageVersion")
	keyClusterVersion  = []byte("clusterVersion")
	keyFormat          = []byte("format")
	keyMembership      = []byte("membership")
	keyMembershipIndex = []byte("membership_index")
	keyPositionSum     = []byte("position_sum") // crc32c of index, term, membership index, membership
)

// stateFormat is the version of the state file's own part.
const stateFormat = 1

// ErrNewerFormat: the state file was written by a newer version.
var ErrNewerFormat = errors.New("fsm: state file is of a newer version")

// position is where in the log the state file, or the state in memory, is.
type position struct {
	index, term uint64
	confIndex   uint64
	conf        *conclavepb.Configuration
}

// Position returns the index and term of the last entry held.
func (p position) Position() (index, term uint64) { return p.index, p.term }

// Membership returns the membership in force and the index of its entry.
func (p position) Membership() (index uint64, conf *conclavepb.Configuration) {
	return p.confIndex, p.conf
}

// buckets lists the fixed buckets of a file.
func buckets() [][]byte {
	names := [][]byte{bucketMeta, bucketMembers, bucketMembersRemoved, bucketCluster, bucketAlarm, bucketOwn}
	for _, name := range otherBuckets {
		names = append(names, []byte(name))
	}
	return names
}

// hasBuckets reports whether createBuckets would change nothing.
func hasBuckets(tx *bbolt.Tx) bool {
	for _, name := range buckets() {
		if tx.Bucket(name) == nil {
			return false
		}
	}
	return tx.Bucket(bucketOwn).Get(keyFormat) != nil
}

// createBuckets makes the fixed buckets of a new file.
func createBuckets(tx *bbolt.Tx) error {
	for _, name := range buckets() {
		if _, err := tx.CreateBucketIfNotExists(name); err != nil {
			return fmt.Errorf("create bucket %s: %w", name, err)
		}
	}
	own := tx.Bucket(bucketOwn)
	if own.Get(keyFormat) == nil {
		return own.Put(keyFormat, []byte{stateFormat})
	}
	return nil
}

// loadPosition reads what writePosition wrote.
func loadPosition(tx *bbolt.Tx) (position, error) {
	own, meta := tx.Bucket(bucketOwn), tx.Bucket(bucketMeta)
	if f := own.Get(keyFormat); len(f) != 1 || f[0] > stateFormat {
		return position{}, fmt.Errorf("%w: format %v, this program reads up to %d", ErrNewerFormat, f, stateFormat)
	}
	p := position{
		index:     number(meta.Get(keyConsistentIndex)),
		term:      number(meta.Get(keyTerm)),
		confIndex: number(own.Get(keyMembershipIndex)),
	}
	if raw := own.Get(keyMembership); raw != nil {
		p.conf = &conclavepb.Configuration{}
		if err := proto.Unmarshal(raw, p.conf); err != nil {
			return position{}, fmt.Errorf("read membership: %w", err)
		}
	}
	if p.index > 0 && p.conf == nil {
		return position{}, errors.New("it has a position in the log and no membership")
	}
	if raw := own.Get(keyPositionSum); raw != nil || p.index > 0 {
		if sum := p.sum(own.Get(keyMembership)); !bytes.Equal(raw, sum) {
			return position{}, fmt.Errorf("its position in the log, index %d of term %d, does not fit its checksum", p.index, p.term)
		}
	}
	return p, nil
}

// sum is a checksum of the position. With a wrong one entries would be applied
// twice, or never, and nobody would notice.
func (p position) sum(membership []byte) []byte {
	var head []byte
	for _, n := range []uint64{p.index, p.term, p.confIndex} {
		head = binary.BigEndian.AppendUint64(head, n)
	}
	table := crc32.MakeTable(crc32.Castagnoli)
	return binary.BigEndian.AppendUint32(nil, crc32.Update(crc32.Checksum(head, table), table, membership))
}

// confState is the membership in the form of etcd's tools.
type confState struct {
	Voters    []uint64 `json:"voters"`
	Learners  []uint64 `json:"learners,omitempty"`
	AutoLeave bool     `json:"auto_leave"`
}

// write stores the position in etcd's keys and in conclave's own.
func (p position) write(tx *bbolt.Tx) error {
	var etcd confState
	for _, s := range p.conf.Servers {
		if s.Learner || s.Pending {
			etcd.Learners = append(etcd.Learners, s.Id)
		} else {
			etcd.Voters = append(etcd.Voters, s.Id)
		}
	}
	state, err := json.Marshal(etcd)
	if err != nil {
		return err
	}
	membership, err := proto.MarshalOptions{Deterministic: true}.Marshal(p.conf)
	if err != nil {
		return err
	}
	meta, own := tx.Bucket(bucketMeta), tx.Bucket(bucketOwn)
	return errors.Join(
		meta.Put(keyConsistentIndex, binary.BigEndian.AppendUint64(nil, p.index)),
		meta.Put(keyTerm, binary.BigEndian.AppendUint64(nil, p.term)),
		meta.Put(keyConfState, state),
		meta.Put(keyStorageVersion, []byte(version.Storage)),
		own.Put(keyMembership, membership),
		own.Put(keyPositionSum, p.sum(membership)),
		own.Put(keyMembershipIndex, binary.BigEndian.AppendUint64(nil, p.confIndex)),
	)
}

func number(b []byte) uint64 {
	if len(b) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}
