package bootstrap

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
)

// script is a source that answers by the number of the lookup.
type script struct {
	lookup func(n int) (Answer, error)
	times  []time.Time
}

func (s *script) Lookup(context.Context, Self) (Answer, error) {
	s.times = append(s.times, time.Now())
	return s.lookup(len(s.times) - 1)
}

func pair(self int, missing ...string) Answer {
	return Answer{Self: self, Missing: missing, Peers: []Peer{
		{Name: "a", PeerURLs: []string{"https://a:1"}}, {Name: "b", PeerURLs: []string{"https://b:1"}}}}
}

func TestResolve_waitsUntilComplete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &script{lookup: func(n int) (Answer, error) {
			switch n {
			case 0:
				return Answer{}, errors.New("SERVFAIL")
			case 1:
				return pair(Unknown), nil
			case 2:
				return pair(0, "b does not resolve"), nil
			}
			return pair(0), nil
		}}
		plan, err := Resolve(t.Context(), src, Self{Name: "a"}, Options{Token: "x"})
		if err != nil {
			t.Fatal(err)
		}
		if len(src.times) != 4 || plan.Name != "a" || !plan.Secure {
			t.Errorf("after %d lookups: %+v", len(src.times), plan)
		}
	})
}

func TestResolve_backsOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &script{lookup: func(int) (Answer, error) { return Answer{}, errors.New("nothing yet") }}
		_, err := Resolve(t.Context(), src, Self{}, Options{Timeout: 10 * time.Minute})
		if !errors.Is(err, ErrTimeout) {
			t.Fatal(err)
		}
		want := DefaultBackoff.Min
		jittered := false
		for i := 1; i < len(src.times); i++ {
			gap := src.times[i].Sub(src.times[i-1])
			if gap < want/2 || gap > want {
				t.Fatalf("pause %d is %s, want %s to %s", i, gap, want/2, want)
			}
			jittered = jittered || gap != want
			want = min(2*want, DefaultBackoff.Max)
		}
		if !jittered || len(src.times) < 100 {
			t.Errorf("%d lookups, jittered %v", len(src.times), jittered)
		}
	})
}

func TestResolve_timeoutSaysWhatIsMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var out bytes.Buffer
		src := &script{lookup: func(int) (Answer, error) { return pair(0, "b does not resolve", "c neither"), nil }}
		_, err := Resolve(t.Context(), src, Self{}, Options{Timeout: 90 * time.Second, Log: zerolog.New(&out).Level(zerolog.InfoLevel)})
		const want = "first peers still not known after --discovery-timeout 1m30s: b does not resolve; c neither"
		if !errors.Is(err, ErrTimeout) || err.Error() != want {
			t.Errorf("error %q, want %q", err, want)
		}
		if took := time.Since(start); took != 90*time.Second {
			t.Errorf("gave up after %s", took)
		}
		if n := strings.Count(out.String(), "waiting for the first peers"); n != 1 {
			t.Errorf("said %d times that it waits for the same thing:\n%s", n, &out)
		}
	})
}

// A lookup that hangs ends with the timeout, and the error tells what the
// lookups before it found.
func TestResolve_timeoutCutsLookupShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := sourceFunc(func(ctx context.Context, n int) (Answer, error) {
			if n == 0 {
				return pair(0, "b does not resolve"), nil
			}
			<-ctx.Done()
			return Answer{}, ctx.Err()
		})
		_, err := Resolve(t.Context(), src, Self{}, Options{Timeout: time.Minute})
		if !errors.Is(err, ErrTimeout) || !strings.HasSuffix(err.Error(), "b does not resolve") {
			t.Errorf("error %v", err)
		}
	})
}

func sourceFunc(f func(context.Context, int) (Answer, error)) Source {
	return &hanging{f: f}
}

type hanging struct {
	f func(context.Context, int) (Answer, error)
	n int
}

func (h *hanging) Lookup(ctx context.Context, _ Self) (Answer, error) {
	h.n++
	return h.f(ctx, h.n-1)
}

func TestResolve_refusalEndsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		src := &script{lookup: func(int) (Answer, error) { return Answer{}, Refusef("listed twice") }}
		_, err := Resolve(t.Context(), src, Self{}, Options{})
		if !errors.Is(err, ErrRefused) || err.Error() != "listed twice" || time.Since(start) != 0 {
			t.Errorf("error %v after %s", err, time.Since(start))
		}
	})
}

func TestResolve_callerStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		start := time.Now()
		src := &script{lookup: func(int) (Answer, error) { return pair(Unknown), nil }}
		_, err := Resolve(ctx, src, Self{}, Options{})
		if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrTimeout) || time.Since(start) != 3*time.Second {
			t.Errorf("error %v after %s", err, time.Since(start))
		}
	})
}

// What no source may answer does not become a plan.
func TestResolve_checksAnswer(t *testing.T) {
	tests := []struct {
		name, want string
		peers      []Peer
	}{
		{"sameName", `two first peers are named "a"`, []Peer{{"a", []string{"http://a:1"}}, {"a", []string{"http://b:1"}}}},
		{"sameURL", "duplicate url http://a:1", []Peer{{"a", []string{"http://a:1"}}, {"b", []string{"http://a:1"}}}},
		{"noURL", `"b" has no peer URL`, []Peer{{"a", []string{"http://a:1"}}, {"b", nil}}},
		{"noName", "member name is empty", []Peer{{"", []string{"http://a:1"}}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			src := &script{lookup: func(int) (Answer, error) { return Answer{Peers: tt.peers}, nil }}
			plan, err := Resolve(t.Context(), src, Self{}, Options{})
			if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("plan %s, error %v, want %s", plan, err, tt.want)
			}
		})
	}
}

func TestResolve_badName(t *testing.T) {
	src := &script{lookup: func(int) (Answer, error) { return pair(0), nil }}
	for _, name := range []string{"a,b", "a=b", "a b", "../a", "a\x00", strings.Repeat("x", 256)} {
		_, err := Resolve(t.Context(), src, Self{Name: name}, Options{})
		if !errors.Is(err, ErrRefused) || !strings.HasPrefix(err.Error(), "--name: ") || strings.ContainsAny(err.Error(), "\n\x00") {
			t.Errorf("%q: error %v", name, err)
		}
	}
}

// A discovery token takes the place of --initial-cluster-token, and ids follow.
func TestResolve_tokenOfSource(t *testing.T) {
	src := &script{lookup: func(int) (Answer, error) {
		a := pair(1)
		a.Token = "theirs"
		return a, nil
	}}
	plan, err := Resolve(t.Context(), src, Self{}, Options{Token: "ours"})
	if err != nil || plan.Token != "theirs" || plan.Self != MemberID([]string{"https://b:1"}, "theirs") {
		t.Errorf("plan %+v, error %v", plan, err)
	}
}

func TestResolve_warnsOfOddSizes(t *testing.T) {
	var out bytes.Buffer
	src := &script{lookup: func(int) (Answer, error) { return pair(0), nil }}
	if _, err := Resolve(t.Context(), src, Self{}, Options{Log: zerolog.New(&out)}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "an even number of members") {
		t.Errorf("log: %s", &out)
	}
}
