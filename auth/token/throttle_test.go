package token

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// try makes a login and returns how long it had to wait.
func try(t *testing.T, th *Throttle, user, source string, right bool) (waited time.Duration, err error) {
	t.Helper()
	begun := time.Now()
	a, err := th.Enter(t.Context(), user, source)
	waited = time.Since(begun)
	if err != nil {
		return waited, err
	}
	a.Try()
	if right {
		a.Right()
	}
	a.Leave()
	return waited, nil
}

func fail(t *testing.T, th *Throttle, user, source string, times int) {
	t.Helper()
	for range times {
		if _, err := try(t, th, user, source, false); err != nil {
			t.Fatal(err)
		}
	}
}

// The delays of one pair grow, and touch no other user, and the user from nowhere
// else.
func TestThrottle_delays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := NewThrottle()
		for i, want := range []int64{0, 0, 0, 100, 200, 400, 800, 1600, 3200} {
			if waited, err := try(t, th, "root", "10.0.0.1", false); err != nil || waited.Milliseconds() != want {
				t.Errorf("login %d waited %v, %v; want %d ms", i+1, waited, err, want)
			}
		}
		if waited, err := try(t, th, "root", "10.0.0.1", true); !errors.Is(err, ErrSlowed) || waited != 0 {
			t.Errorf("a login that is due in 6.4 s: %v after %v", err, waited)
		}
		for user, source := range map[string]string{"root": "10.0.0.2", "alice": "10.0.0.1", "roo": "t10.0.0.1"} {
			if waited, err := try(t, th, user, source, true); err != nil || waited != 0 {
				t.Errorf("%s from %s waited %v, %v", user, source, waited, err)
			}
		}
		for range 20 {
			time.Sleep(maxDelay - longestWait)
			if waited, err := try(t, th, "root", "10.0.0.1", false); err != nil || waited > longestWait {
				t.Errorf("after the longest delay: %v, %v", waited, err)
			}
		}
		time.Sleep(maxDelay)
		if waited, err := try(t, th, "root", "10.0.0.1", true); err != nil || waited != 0 {
			t.Errorf("the right password, when it is due: %v, %v", waited, err)
		}
		if len(th.pairs) != 0 {
			t.Errorf("%d pairs are remembered after the right password", len(th.pairs))
		}
		failed, waited, refused := th.Counts()
		if failed != 29 || waited != 23 || refused != 1 {
			t.Errorf("counted %d failures, %d delays, %d refusals", failed, waited, refused)
		}
	})
}

func TestThrottle_forgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := NewThrottle()
		fail(t, th, "root", "a", 8)
		time.Sleep(forgetAfter + time.Second)
		fail(t, th, "other", "a", 8)
		if n := len(th.pairs); n != 1 {
			t.Errorf("%d pairs are remembered", n)
		}
		if waited, err := try(t, th, "root", "a", false); err != nil || waited != 0 {
			t.Errorf("%v, %v", waited, err)
		}
	})
}

// However many logins of a pair are tried at once, three fail before the next one
// waits, and others are not let in to wait.
func TestThrottle_manyAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := NewThrottle()
		begun := time.Now()
		var work sync.WaitGroup
		for range 2 * maxQueued {
			work.Go(func() {
				_, err := try(t, th, "root", "a", false)
				if err != nil && !errors.Is(err, ErrSlowed) && !errors.Is(err, ErrBusy) {
					t.Error(err)
				}
			})
		}
		work.Wait()
		if took := time.Since(begun); took > 2*longestWait {
			t.Errorf("they were held for %v", took)
		}
		if failed, _, _ := th.Counts(); failed > 9 {
			t.Errorf("%d passwords were looked at", failed)
		}
	})
}

// Many logins with the right password at once wait for each other, and for nothing.
func TestThrottle_rightAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := NewThrottle()
		var work sync.WaitGroup
		for range maxQueued {
			work.Go(func() {
				if waited, err := try(t, th, "root", "a", true); err != nil || waited != 0 {
					t.Error(waited, err)
				}
			})
		}
		work.Wait()
	})
}

// Memory is bounded, and names made up at random do not make it forget who is
// delayed.
func TestThrottle_bounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := NewThrottle()
		fail(t, th, "root", "a", 8)
		for i := range 3 * maxPairs {
			fail(t, th, fmt.Sprint("made up ", i), "a", 1)
		}
		if n := len(th.pairs); n > maxPairs+1 {
			t.Errorf("%d pairs are remembered", n)
		}
		if waited, err := try(t, th, "root", "a", true); err != nil || waited != 3200*time.Millisecond {
			t.Errorf("the delay was forgotten: %v, %v", waited, err)
		}
		for i := range maxDelayed {
			fail(t, th, fmt.Sprint("made up ", i), "b", freeFailures)
		}
		fail(t, th, "root", "b", freeFailures)
		var work sync.WaitGroup
		for i := range maxDelayed {
			work.Go(func() {
				if _, err := try(t, th, fmt.Sprint("made up ", i), "b", false); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		if _, err := try(t, th, "root", "b", false); !errors.Is(err, ErrSlowed) {
			t.Errorf("while too many wait: %v", err)
		}
		if waited, err := try(t, th, "root", "c", true); err != nil || waited != 0 {
			t.Errorf("who is not delayed, while too many wait: %v, %v", waited, err)
		}
		work.Wait()
	})
}

// Who gives up early has tried all the same; who never had a turn has not.
func TestThrottle_whoGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := NewThrottle()
		first, err := th.Enter(t.Context(), "root", "a")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := th.Enter(ctx, "root", "a"); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		first.Leave()
		if failed, _, _ := th.Counts(); failed != 0 || len(th.pairs) != 0 {
			t.Errorf("%d failures, %d pairs", failed, len(th.pairs))
		}
		fail(t, th, "root", "a", 7)
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begun := time.Now()
		if _, err := th.Enter(ctx, "root", "a"); !errors.Is(err, ErrSlowed) || time.Since(begun) != 0 {
			t.Errorf("a deadline before it is due: %v", err)
		}
		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if _, err := th.Enter(ctx, "root", "a"); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if waited, err := try(t, th, "root", "a", true); err != nil || waited != 600*time.Millisecond {
			t.Errorf("%v, %v", waited, err)
		}
	})
}
