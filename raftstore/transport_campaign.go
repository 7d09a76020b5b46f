package raftstore

import (
	"errors"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// campaignShare of the election timeout is how long a promise of a vote counts,
// and how long an election is taken to last.
const campaignShare = 4

// errYielded is what raft hears of pre-votes that this member no longer wants, and
// a peer of one that it does not get.
var errYielded = errors.New("raftstore: another member asks for votes at the same time")

// campaign keeps members whose timers end at nearly the same time from splitting
// the votes: each would vote for itself, and all would have to wait for another
// timer, twice as long. Whoever has promised its vote waits before it asks for any
// itself. Of two whose pre-votes cross, the one with the lower id goes on. And who
// asks for votes already promises none. All of it may only withhold pre-votes, as
// a lost message would.
type campaign struct {
	self   uint64
	window time.Duration

	mu       sync.Mutex
	promised time.Time // a vote, last
	asked    time.Time // for a pre-vote, last
	voting   time.Time // asked for a vote, last
	yielded  bool      // since asked
}

func (c *campaign) recent(at time.Time) bool { return time.Since(at) < c.window }

// noteReply notes that this member promised its vote.
func (c *campaign) noteReply(reply raft.RPCResponse) {
	if r, ok := reply.Response.(*raft.RequestPreVoteResponse); ok && r.Granted {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.promised = time.Now()
	}
}

// begin is called before a pre-vote is asked for. It waits while a promise counts.
func (c *campaign) begin(quit <-chan struct{}) error {
	c.mu.Lock()
	wait := time.NewTimer(time.Until(c.promised.Add(c.window)))
	c.mu.Unlock()
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-quit:
		return errTransportClosed
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.recent(c.asked) { // one for each peer
		c.yielded = false
	}
	c.asked = time.Now()
	return nil
}

// answered is called when a pre-vote was answered. A refused candidate stands in
// nobody's way: it waits for another timer, and should not have others do that.
func (c *campaign) answered(granted bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !granted {
		c.asked = time.Time{}
	}
	if c.yielded {
		return errYielded
	}
	return nil
}

// voted is called when a vote was answered.
func (c *campaign) voted(granted bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !granted {
		c.voting = time.Time{}
	}
}

// noteVoting is called when this member asks for votes.
func (c *campaign) noteVoting() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.voting = time.Now()
}

// mayPromise says whether a peer's request for a pre-vote is passed to raft.
func (c *campaign) mayPromise(peer uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.recent(c.voting):
		return errYielded
	case !c.recent(c.asked) || c.yielded:
		return nil
	case c.self < peer:
		return errYielded
	}
	c.yielded = true
	return nil
}
