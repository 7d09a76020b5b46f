package api

import "time"

const (
	// crowdWatches is how many watches of a stream with events to be sent are a
	// crowd.
	crowdWatches = 16
	// crowdEvery is the least time between the beginnings of two rounds of a crowd.
	crowdEvery = 20 * time.Millisecond
)

// A crowd is many watches of one stream that see the same keys. A response to each
// costs the server, the connection and the client much more than a further event
// in it. So while keys change quickly a crowd is served in rounds, in each of which
// a watch gets all that has come since the last. A round after a pause begins at
// once, and fewer watches never wait.
type crowd struct {
	left  int       // updates of the round that are still to come
	began time.Time // of the round
}

// wait is how long nothing is to be sent, given how many watches are ready.
func (c *crowd) wait(ready int, now time.Time) time.Duration {
	if c.left > 0 {
		c.left--
		return 0
	}
	if ready < crowdWatches {
		return 0
	}
	if wait := crowdEvery - now.Sub(c.began); wait > 0 {
		return wait
	}
	c.began, c.left = now, ready-1
	return 0
}
