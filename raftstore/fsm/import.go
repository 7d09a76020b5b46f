package fsm

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"

	"go.etcd.io/bbolt"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/conclave-kv/conclave/auth"
	"github.com/conclave-kv/conclave/internal/conclavepb"
	"github.com/conclave-kv/conclave/kv"
	"github.com/conclave-kv/conclave/pki/ledger"
)

// ErrNotSnapshot: a file is not a whole snapshot of a member's state, ours or
// etcd's. The text says what is wrong.
var ErrNotSnapshot = errors.New("not a whole snapshot")

// ImportIndex and ImportTerm are where in the log of a new cluster an imported
// state is: it holds the first entry, the membership. The log begins behind it,
// so that a member which is added later is sent the state first.
const (
	ImportIndex = 1
	ImportTerm  = 1
)

// ImportOptions say what becomes of a snapshot.
type ImportOptions struct {
	// Members are the first members of the new cluster.
	Members *conclavepb.Configuration
	// Bump is added to the newest revision, if it is not 0; all before is then
	// compacted, so that nobody takes a new revision for one seen before.
	Bump uint64
}

// Imported tells what an imported state holds.
type Imported struct {
	Revision int64
	Keys     int
	// Auth: requests had to be authenticated.
	Auth bool
	// Origin is a hash of everything in it. Members of one cluster have to begin
	// with the same.
	Origin string
}

// imported are the buckets without which a file is no member's state. Older
// etcds lack some of the others.
var imported = []string{"key", "meta"}

// Import makes a snapshot the state of a new cluster's member, in place: path is
// a copy of it, of nothing but bbolt's file. What was known of the old cluster's
// members goes, also their alarms and certificates; keys with their history,
// leases, users and roles stay, and nobody is logged in. Errors: ErrNotSnapshot.
func Import(path string, o ImportOptions) (found Imported, err error) {
	err = editSnapshot(path, func(tx *bbolt.Tx) error { return o.rewrite(tx) })
	if err != nil {
		return found, err
	}
	f, l, err := openFile(path, 0, 0, kv.Options{}, NewestLevel) // as the member will do
	if err != nil {
		return found, notSnapshot(path, err)
	}
	view := f.keys.View()
	found.Revision, found.Keys = view.Rev(), view.Len()
	if o.Bump > 0 {
		found.Keys-- // the record that raises the revision
	}
	err = f.view(func(tx *bbolt.Tx) error {
		found.Auth = auth.EnabledIn(tx)
		found.Origin, err = digest(tx)
		return err
	})
	if l.at.index != ImportIndex && err == nil {
		err = fmt.Errorf("%w: %s is at index %d", ErrNotSnapshot, path, l.at.index)
	}
	return found, errors.Join(err, f.close())
}

// editSnapshot checks a file and changes it in one synced transaction.
func editSnapshot(path string, edit func(*bbolt.Tx) error) error {
	if err := checkSnapshot(path); err != nil {
		return err
	}
	err := guarded(func() error {
		db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: 1, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType})
		if err != nil {
			return err
		}
		return errors.Join(db.Update(edit), db.Close())
	})
	if err != nil {
		return notSnapshot(path, err)
	}
	return nil
}

// checkSnapshot looks for what bbolt would not survive.
func checkSnapshot(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.Size() == 0 {
		return fmt.Errorf("%w: %s is empty", ErrNotSnapshot, path)
	}
	if err := checkFile(path); err != nil {
		return notSnapshot(path, err)
	}
	return nil
}

// notSnapshot says that a snapshot is damaged, where a state file would be.
func notSnapshot(path string, err error) error {
	var c corruption
	if errors.As(err, &c) {
		err = c.cause // without what to do about a member
	}
	if errors.Is(err, ErrNotSnapshot) || errors.Is(err, ErrInUse) || errors.Is(err, ErrNewerFormat) {
		return err
	}
	return fmt.Errorf("%w: %s: %w", ErrNotSnapshot, path, err)
}

func (o ImportOptions) rewrite(tx *bbolt.Tx) error {
	for _, name := range imported {
		if tx.Bucket([]byte(name)) == nil {
			return damage{-1, fmt.Sprintf("it has no bucket %q; a snapshot of etcd or conclave has", name)}
		}
	}
	if own := tx.Bucket(bucketOwn); own != nil {
		if f := own.Get(keyFormat); len(f) != 1 || f[0] > stateFormat {
			return fmt.Errorf("%w: format %v, this program reads up to %d", ErrNewerFormat, f, stateFormat)
		}
		if _, err := loadLevel(own, NewestLevel); err != nil { // the new cluster begins at the first level again
			return err
		}
	}
	for _, name := range [][]byte{bucketMembers, bucketMembersRemoved, bucketCluster, bucketOwn, bucketAnchors} {
		if err := tx.DeleteBucket(name); err != nil && tx.Bucket(name) != nil {
			return err
		}
	}
	at := position{index: ImportIndex, term: ImportTerm, confIndex: ImportIndex, conf: o.Members}
	members := (&Members{}).configure(o.Members)
	return errors.Join(
		createBuckets(tx), ledger.CreateBuckets(tx), ledger.ForgetMembers(tx), auth.ForgetTokens(tx),
		o.bump(tx), keepAlarms(tx, members), members.write(tx), at.write(tx),
	)
}

// bump raises the revision as etcd's restore tool does: by an empty record,
// which is marked as the one to compact at.
func (o ImportOptions) bump(tx *bbolt.Tx) error {
	if o.Bump == 0 {
		return nil
	}
	keys := tx.Bucket([]byte("key"))
	newest := uint64(0)
	if k, _ := keys.Cursor().Last(); len(k) >= 8 {
		newest = binary.BigEndian.Uint64(k)
	}
	if newest > math.MaxInt64 || o.Bump > math.MaxInt64-newest {
		return fmt.Errorf("%w: its revision %d cannot be raised by %d", ErrNotSnapshot, newest, o.Bump)
	}
	k := binary.BigEndian.AppendUint64(nil, newest+o.Bump)
	k = append(k, '_', 0, 0, 0, 0, 0, 0, 0, 0)
	return errors.Join(keys.Put(k, nil), tx.Bucket(bucketMeta).Put([]byte("scheduledCompactRev"), k))
}

// keepAlarms drops alarms of those who are no members any more.
func keepAlarms(tx *bbolt.Tx, members *Members) error {
	c := tx.Bucket(bucketAlarm).Cursor()
	for k, _ := c.First(); k != nil; k, _ = c.Next() {
		var a pb.AlarmMember
		if err := proto.Unmarshal(k, &a); err == nil {
			if _, stays := members.Get(a.GetMemberID()); stays {
				continue
			}
		}
		if err := c.Delete(); err != nil {
			return err
		}
	}
	return nil
}

// digest is a hash of the names and records of all buckets.
func digest(tx *bbolt.Tx) (string, error) {
	h := sha256.New()
	put := func(b []byte) {
		h.Write(strconv.AppendInt(nil, int64(len(b)), 10))
		h.Write([]byte{':'})
		h.Write(b)
	}
	mapped := residentOf(tx)
	err := tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
		h.Write([]byte{'/'})
		put(name)
		return b.ForEach(func(k, v []byte) error {
			mapped.read(len(k) + len(v))
			put(k)
			put(v)
			return nil
		})
	})
	return hex.EncodeToString(h.Sum(nil)), err
}
