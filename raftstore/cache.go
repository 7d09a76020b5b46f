package raftstore

import (
	"sync"

	"github.com/hashicorp/raft"
)

// cacheBytes bounds the entry data that a logCache holds: a follower that is
// less than this behind is served from memory.
const cacheBytes = 16 << 20

// logCache keeps the newest entries of a log in memory, bounded in bytes: the
// leader reads each entry once per follower and a follower reads back what it
// just stored. raft's own cache is bounded in entries, which here are batches
// of very different sizes.
type logCache struct {
	mu    sync.RWMutex
	logs  []*raft.Log // consecutive indexes
	bytes int
	limit int
}

// get copies the entry at index into log and reports whether it was there.
func (c *logCache) get(index uint64, log *raft.Log) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if len(c.logs) == 0 || index < c.logs[0].Index || index > c.logs[len(c.logs)-1].Index {
		return false
	}
	*log = *c.logs[index-c.logs[0].Index]
	return true
}

// add appends stored entries and drops the oldest ones beyond the bound. A gap
// or an overlap starts the cache anew.
func (c *logCache) add(logs []*raft.Log) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range logs {
		if n := len(c.logs); n > 0 && c.logs[n-1].Index+1 != l.Index {
			c.reset()
		}
		c.logs = append(c.logs, l)
		c.bytes += len(l.Data)
	}
	drop := 0
	for c.bytes > c.limit && drop < len(c.logs)-1 {
		c.bytes -= len(c.logs[drop].Data)
		c.logs[drop] = nil
		drop++
	}
	c.logs = c.logs[drop:]
}

// clear forgets everything; called after any removal from the log.
func (c *logCache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reset()
}

func (c *logCache) reset() {
	c.logs, c.bytes = nil, 0
}
