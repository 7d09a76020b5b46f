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
