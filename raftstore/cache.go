package raftstore

import (
	"slices"

	"github.com/hashicorp/raft"
)

const (
	// cacheBytes bounds the entries that a logCache holds although they are on
	// disk: a follower that is less than this behind is served from memory.
	cacheBytes = 16 << 20
	// loggedOverhead is what an entry takes beside its data, in memory and on
	// disk alike, roughly.
	loggedOverhead = 32
)

// logCache holds the newest entries of a log, consecutive ones: all that are not
// on disk yet, and what fits of the others. The leader reads each entry once per
// follower, and a follower reads back what it just stored. raft's own cache is
// bounded in entries, which here are batches of very different sizes. Entries are
// never changed once stored, so they are not copied.
//
// The caller serializes everything but get.
type logCache struct {
	logs  []*raft.Log
	bytes int
	limit int
}

func loggedSize(l *raft.Log) int { return len(l.Data) + len(l.Extensions) + loggedOverhead }

// get finds the entry at index, nil if it is not here.
func (c *logCache) get(index uint64) *raft.Log {
	if len(c.logs) == 0 || index < c.logs[0].Index || index > c.logs[len(c.logs)-1].Index {
		return nil
	}
	return c.logs[index-c.logs[0].Index]
}

// from is the entries at index and behind it, as many as take up to limit bytes
// and at least one. The slice stays good while those entries are in the log.
func (c *logCache) from(index uint64, limit int) []*raft.Log {
	start := int(index - c.logs[0].Index)
	end := start + 1
	for size := loggedSize(c.logs[start]); end < len(c.logs); end++ {
		if size += loggedSize(c.logs[end]); size > limit {
			break
		}
	}
	return c.logs[start:end:end]
}

// add appends an entry, which follows the last one.
func (c *logCache) add(l *raft.Log) {
	c.logs = append(c.logs, l)
	c.bytes += loggedSize(l)
}

// evict drops the oldest entries up to index until the rest is within the
// limit.
func (c *logCache) evict(index uint64) {
	drop := 0
	for c.bytes > c.limit && drop < len(c.logs) && c.logs[drop].Index <= index {
		c.bytes -= loggedSize(c.logs[drop])
		c.logs[drop] = nil
		drop++
	}
	c.logs = c.logs[drop:]
}

// dropHead forgets the entries below index.
func (c *logCache) dropHead(index uint64) {
	for len(c.logs) > 0 && c.logs[0].Index < index {
		c.bytes -= loggedSize(c.logs[0])
		c.logs[0] = nil
		c.logs = c.logs[1:]
	}
}

// dropTail forgets the entries from index on. The next ones get a new array: the
// old one may be read by whoever holds a slice of it.
func (c *logCache) dropTail(index uint64) {
	for n := len(c.logs); n > 0 && c.logs[n-1].Index >= index; n-- {
		c.bytes -= loggedSize(c.logs[n-1])
		c.logs = c.logs[:n-1]
	}
	c.logs = slices.Clip(c.logs)
}
