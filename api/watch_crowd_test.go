package api

import (
	"testing"
	"time"
)

// A crowd is served at once after a pause, then a round at a time; few watches do
// not wait for one.
func TestCrowd_wait(t *testing.T) {
	now := time.Unix(0, 0)
	var c crowd
	for i, step := range []struct {
		after time.Duration
		ready int
		want  time.Duration
	}{
		{time.Hour, 1, 0},
		{0, crowdWatches - 1, 0},
		{0, crowdWatches, 0}, // a round of so many updates
		{0, 2 * crowdWatches, 0},
	} {
		now = now.Add(step.after)
		if got := c.wait(step.ready, now); got != step.want {
			t.Errorf("step %d: %v", i, got)
		}
	}
	for i := 2; i < crowdWatches; i++ {
		if got := c.wait(2*crowdWatches, now); got != 0 {
			t.Errorf("update %d of the round waits %v", i, got)
		}
	}
	now = now.Add(crowdEvery / 4)
	if got := c.wait(crowdWatches, now); got != crowdEvery*3/4 {
		t.Errorf("the next round waits %v", got)
	}
	if got := c.wait(crowdWatches-1, now); got != 0 {
		t.Errorf("few wait %v", got)
	}
	now = now.Add(crowdEvery * 3 / 4)
	if got := c.wait(crowdWatches, now); got != 0 {
		t.Errorf("its time has come, and it waits %v", got)
	}
}

// The rounds of a crowd that begin late become larger, but not without bound, and
// smaller again.
func TestCrowd_busy(t *testing.T) {
	now := time.Unix(0, 0)
	var c crowd
	rounds := func(n int, late time.Duration) time.Duration {
		for range n {
			for wait := c.wait(crowdWatches, now); wait > 0; wait = c.wait(crowdWatches, now) {
				now = now.Add(wait + late)
			}
			for range crowdWatches - 1 {
				c.wait(crowdWatches, now)
			}
		}
		return c.wait(crowdWatches, now)
	}
	for _, step := range []struct{ late, least, most time.Duration }{
		{0, crowdEvery, crowdEvery},
		{timerGrain, crowdEvery, crowdEvery},
		{timerGrain + 500*time.Microsecond, 5 * crowdEvery, 6 * crowdEvery},
		{time.Hour, maxCrowdEvery, maxCrowdEvery},
		{0, crowdEvery, crowdEvery + crowdEvery/10},
	} {
		if got := rounds(100, step.late); got < step.least || got > step.most {
			t.Errorf("with rounds that begin %v late the next waits %v", step.late, got)
		}
	}
	c.wait(crowdWatches, now.Add(time.Hour)) // it was stopped
	if got := c.every(); got > 2*crowdEvery+crowdLate*maxLate/lateRounds {
		t.Errorf("after one pause rounds are %v apart", got)
	}
	if got := rounds(5*lateRounds, 0); got > 2*crowdEvery {
		t.Errorf("long after a pause rounds are %v apart", got)
	}
}
