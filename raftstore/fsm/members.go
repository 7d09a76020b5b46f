package fsm

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"go.etcd.io/bbolt"

	"github.com/conclave-kv/conclave/internal/conclavepb"
)

// Member is one member of the cluster as agreed.
type Member struct {
	ID         uint64
	Name       string // empty until the member has published it
	PeerURLs   []string
	ClientURLs []string
	Learner    bool
	Pending    bool   // added as a voter, has no vote yet
	Level      uint32 // the highest feature level it understands; 0 until it told
}

// Members is the immutable member table, sorted by id.
type Members struct {
	list    []Member
	removed map[uint64]bool
}

// All returns the members sorted by id; the caller must not change them.
func (m *Members) All() []Member { return m.list }

// Get returns the member with an id.
func (m *Members) Get(id uint64) (Member, bool) {
	i, found := slices.BinarySearchFunc(m.list, id, func(e Member, id uint64) int {
		switch {
		case e.ID < id:
			return -1
		case e.ID > id:
			return 1
		}
		return 0
	})
	if !found {
		return Member{}, false
	}
	return m.list[i], true
}

// Removed reports whether an id once was a member and no longer is; such an id
// never comes back.
func (m *Members) Removed(id uint64) bool { return m.removed[id] }

// configure returns the table after a membership entry; what members published
// about themselves is kept.
func (m *Members) configure(conf *conclavepb.Configuration) *Members {
	next := &Members{removed: make(map[uint64]bool, len(m.removed))}
	for id := range m.removed {
		next.removed[id] = true
	}
	for _, s := range conf.Servers {
		known, _ := m.Get(s.Id)
		next.list = append(next.list, Member{
			ID: s.Id, PeerURLs: s.PeerUrls, Learner: s.Learner, Pending: s.Pending,
			Name: known.Name, ClientURLs: known.ClientURLs, Level: known.Level,
		})
	}
	slices.SortFunc(next.list, func(a, b Member) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	for _, old := range m.list {
		if _, stays := next.Get(old.ID); !stays {
			next.removed[old.ID] = true
		}
	}
	return next
}

// publish returns the table after a member told its name and client URLs. One
// that was removed meanwhile is not heard.
func (m *Members) publish(a *conclavepb.Attributes) *Members {
	next := &Members{list: slices.Clone(m.list), removed: m.removed}
	for i := range next.list {
		if next.list[i].ID == a.Member {
			next.list[i].Name, next.list[i].ClientURLs, next.list[i].Level = a.Name, a.ClientUrls, a.Level
		}
	}
	return next
}

// memberRow is a member as etcd's buckets have it.
type memberRow struct {
	ID         uint64   `json:"id"`
	PeerURLs   []string `json:"peerURLs"`
	Learner    bool     `json:"isLearner,omitempty"`
	Name       string   `json:"name,omitempty"`
	ClientURLs []string `json:"clientURLs,omitempty"`
	Level      uint32   `json:"conclaveLevel,omitempty"` // which etcd skips
}

// write stores the table in etcd's buckets members and members_removed.
func (m *Members) write(tx *bbolt.Tx) error {
	rows, gone := tx.Bucket(bucketMembers), tx.Bucket(bucketMembersRemoved)
	for id := range m.removed {
		key := []byte(strconv.FormatUint(id, 16))
		if err := rows.Delete(key); err != nil {
			return err
		}
		if err := gone.Put(key, []byte("removed")); err != nil {
			return err
		}
	}
	for _, e := range m.list {
		value, err := json.Marshal(memberRow{
			ID: e.ID, PeerURLs: e.PeerURLs, Learner: e.Learner, Name: e.Name, ClientURLs: e.ClientURLs, Level: e.Level,
		})
		if err != nil {
			return err
		}
		if err := rows.Put([]byte(strconv.FormatUint(e.ID, 16)), value); err != nil {
			return err
		}
	}
	return nil
}

// loadMembers reads the table: who is a member from the stored membership, what
// they published from etcd's buckets.
func loadMembers(tx *bbolt.Tx, conf *conclavepb.Configuration) (*Members, error) {
	m := &Members{removed: make(map[uint64]bool)}
	if conf != nil {
		m = m.configure(conf)
	}
	err := tx.Bucket(bucketMembers).ForEach(func(k, v []byte) error {
		var row memberRow
		if err := json.Unmarshal(v, &row); err != nil {
			return fmt.Errorf("member %s: %w", k, err)
		}
		m = m.publish(&conclavepb.Attributes{Member: row.ID, Name: row.Name, ClientUrls: row.ClientURLs, Level: row.Level})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read members: %w", err)
	}
	return m, tx.Bucket(bucketMembersRemoved).ForEach(func(k, _ []byte) error {
		id, err := strconv.ParseUint(string(k), 16, 64)
		if err != nil {
			return fmt.Errorf("read removed members: %w", err)
		}
		m.removed[id] = true
		return nil
	})
}
