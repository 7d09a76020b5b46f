package api

import "time"

const (
	// crowdWatches is how many watches of a stream with events to be sent are a
	// crowd.
	crowdWatches = 16
	// crowdEvery is the least time between the beginnings of two rounds of a crowd,
	// where there is processor time to spare.
	crowdEvery = 10 * time.Millisecond
	// crowdLate is how much longer it is for each time by which a round begins late,
	// and maxCrowdEvery the most it becomes.
	crowdLate     = 100
	maxCrowdEvery = 100 * time.Millisecond
	// timerGrain is how late a timer may be where nothing else is to be done.
	timerGrain = time.Millisecond
	// maxLate bounds what is taken for the lateness of one round: a process that was
	// stopped is not a busy one.
	maxLate = 4 * time.Millisecond
	// lateRounds is over how many rounds the lateness is averaged.
	lateRounds = 8
)

// A crowd is many watches of one stream that see the same keys. A response to each
// costs the server, the connection and the client much more than a further event
// in it. So while keys change quickly a crowd is served in rounds, in each of which
// a watch gets all that has come since the last. A round after a pause begins at
// once, and fewer watches never wait. Where the processors are busy, with clients
// that do not keep up perhaps, a round begins some time after its turn has come:
// there larger rounds have all events arrive sooner.
type crowd struct {
	left  int           // updates of the round that are still to come
	began time.Time     // of the round
	due   time.Time     // of the next, once it is waited for
	late  time.Duration // by which rounds begin, on average
}

// wait is how long nothing is to be sent, given how many watches are ready.
func (c *crowd) wait(ready int, now time.Time) time.Duration {
	if c.left > 0 {
		c.left--
		return 0
	}
	due := c.due
	c.due = time.Time{}
	if ready < crowdWatches {
		return 0
	}
	if next := c.began.Add(c.every()); now.Before(next) {
		c.due = next
		return next.Sub(now)
	}
	if !due.IsZero() {
		late := min(max(0, now.Sub(due)-timerGrain), maxLate)
		c.late += (late - c.late) / lateRounds
	}
	c.began, c.left = now, ready-1
	return 0
}

// every is the time between the beginnings of two rounds.
func (c *crowd) every() time.Duration {
	return min(crowdEvery+crowdLate*c.late, maxCrowdEvery)
}
