package fsm

import (
	"encoding/json"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

var (
	// ErrDowngradeInProgress: a downgrade was begun already.
	ErrDowngradeInProgress = errors.New("cluster has a downgrade job in progress")
	// ErrNoDowngrade: there is none to cancel.
	ErrNoDowngrade = errors.New("no inflight downgrade job")
)

var keyDowngrade = []byte("downgrade")

// Downgrade is the downgrade that was begun, in the form of etcd's bucket. It is
// said, and changes nothing else.
type Downgrade struct {
	Target  string `json:"target-version"` // as in 3.6.0; empty: there is none
	Enabled bool   `json:"enabled"`
}

// applyDowngrade begins a downgrade, or ends it.
func (m *Machine) applyDowngrade(index uint64, req *request) Result {
	var r pb.DowngradeRequest
	m.decode(index, req.body, &r)
	if err := m.authorize(pb.Maintenance_Downgrade_FullMethodName, req, &r); err != nil {
		return Result{Err: err}
	}
	switch enable := r.Action == pb.DowngradeRequest_ENABLE; {
	case enable && m.downgrade.Enabled:
		return Result{Err: ErrDowngradeInProgress}
	case enable:
		m.downgrade = Downgrade{Target: r.Version, Enabled: true}
	case !m.downgrade.Enabled:
		return Result{Err: ErrNoDowngrade}
	default:
		m.downgrade = Downgrade{}
	}
	next := m.downgrade
	m.changed.downgrade = &next
	return Result{}
}

func (d *Downgrade) write(tx *bbolt.Tx) error {
	value, err := json.Marshal(d)
	if err != nil {
		return err
	}
	return tx.Bucket(bucketCluster).Put(keyDowngrade, value)
}

// loadDowngrade reads what write, or etcd, wrote.
func loadDowngrade(tx *bbolt.Tx) (d Downgrade, err error) {
	value := tx.Bucket(bucketCluster).Get(keyDowngrade)
	if value == nil {
		return d, nil
	}
	if err := json.Unmarshal(value, &d); err != nil {
		return d, fmt.Errorf("read the downgrade: %w", err)
	}
	return d, nil
}
