package fsm

import (
	"errors"
	"sync"

	"go.etcd.io/bbolt"

	"github.com/conclave-kv/conclave/kv"
	"github.com/conclave-kv/conclave/pki/ledger"
)

// changeSet is what one publication changed, and where in the log it was. Parts
// that did not change are nil or empty.
type changeSet struct {
	at             position
	keys           *kv.Changes
	ledger         *ledger.Changes
	members        *Members
	clusterVersion string
}

func (c *changeSet) write(tx *bbolt.Tx) error {
	var errs []error
	if c.keys != nil {
		errs = append(errs, c.keys.Write(tx))
	}
	if c.ledger != nil {
		errs = append(errs, c.ledger.Write(tx))
	}
	if c.members != nil {
		errs = append(errs, c.members.write(tx))
	}
	if c.clusterVersion != "" {
		errs = append(errs, tx.Bucket(bucketCluster).Put(keyClusterVersion, []byte(c.clusterVersion)))
	}
	return errors.Join(errs...)
}

// weight is how many records the set writes, at least one for its position.
func (c *changeSet) weight() int {
	if c.keys == nil {
		return 1
	}
	return 1 + c.keys.Len()
}

// queue holds change sets between apply and commit.
type queue struct {
	mu     sync.Mutex
	sets   []*changeSet
	weight int
}

func (q *queue) push(c *changeSet) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.sets = append(q.sets, c)
	q.weight += c.weight()
}

// take empties the queue.
func (q *queue) take() []*changeSet {
	q.mu.Lock()
	defer q.mu.Unlock()
	sets := q.sets
	q.sets, q.weight = nil, 0
	return sets
}

func (q *queue) size() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.weight
}
