package kv

import "sync/atomic"

// Counts are the operations seen since the process started, whether they were asked
// for alone or in a transaction. Replaying a log counts like anything else. Safe for
// concurrent use.
type Counts struct {
	Puts, Deletes, Ranges atomic.Int64
	// Txns are the transactions of more than one operation.
	Txns atomic.Int64
	// PutBytes is the size of the keys and values that were put.
	PutBytes atomic.Int64
}

func (c *Counts) put(key, value []byte) {
	c.Puts.Add(1)
	c.PutBytes.Add(int64(len(key) + len(value)))
}
