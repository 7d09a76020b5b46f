package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestPercentile_nearestRank(t *testing.T) {
	var ten []time.Duration
	for i := 1; i <= 10; i++ {
		ten = append(ten, time.Duration(i))
	}
	for p, want := range map[float64]time.Duration{0: 1, 0.1: 1, 0.5: 5, 0.55: 6, 0.99: 10, 1: 10} {
		if got := percentile(ten, p); got != want {
			t.Errorf("percentile(%v) = %v, want %v", p, got, want)
		}
	}
}

func TestMedian_oddAndEven(t *testing.T) {
	if got := median([]float64{9, 1, 5}); got != 5 {
		t.Errorf("median of three = %v, want 5", got)
	}
	if got := median([]float64{4, 1, 3, 9}); got != 3.5 {
		t.Errorf("median of four = %v, want 3.5", got)
	}
}

func TestPairedRatio_pairsRounds(t *testing.T) {
	// One slow round slows both; the ratio stays.
	if got := pairedRatio([]float64{20, 2, 40}, []float64{10, 1, 20}); got != 2 {
		t.Errorf("ratio = %v, want 2", got)
	}
}

func TestParseStat_oddCommandName(t *testing.T) {
	got, err := parseStat("42 (a) b (c) S 1 42 42 0 -1 4194560 100 0 0 0 150 25 0 0 20 0 9 0 100 1 2")
	if err != nil || got != 1.75 {
		t.Errorf("CPU seconds = %v, %v; want 1.75", got, err)
	}
	if _, err := parseStat("42 (x) S 1"); err == nil {
		t.Error("a cut stat line was accepted")
	}
}

func TestGap_longestSilence(t *testing.T) {
	from := time.Now()
	at := func(ms int) ack { return ack{ended: from.Add(time.Duration(ms) * time.Millisecond)} }
	for want, acks := range map[int][]ack{
		70: {at(70), at(80), at(140)},
		80: {at(110), at(20), at(30)}, // as they were noted
		0:  nil,
	} {
		if got := gap(from, acks); got != time.Duration(want)*time.Millisecond {
			t.Errorf("%v: %v, want %d ms", acks, got, want)
		}
	}
}

func TestParseMemory_peakAndPrivate(t *testing.T) {
	got, err := parseMemory("Name:\tx\nVmPeak:\t 999 kB\nVmHWM:\t  2048 kB\nVmRSS:\t 1024 kB\nRssAnon:\t     512 kB\n")
	if err != nil || got != (memory{now: 1, peak: 2, private: 0.5}) {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := parseMemory("Name:\tx\n"); err == nil {
		t.Error("a status without memory was accepted")
	}
}

func TestOptions_refusalNamesFlag(t *testing.T) {
	for _, c := range []struct{ arg, want string }{
		{"-systems=etcd,etcd", "-systems"}, {"-systems=redis", "-systems"}, {"-rounds=0", "-rounds"},
		{"-duration=0s", "-duration"}, {"-value=0", "-value"}, {"-etcd=/nowhere/etcd", "-etcd"}, {"stray", `"stray"`},
	} {
		args := []string{"-systems=empty", c.arg}
		if strings.HasPrefix(c.arg, "-etcd") {
			args[0] = "-systems=etcd"
		}
		if _, err := parseOptions("run", defaults{systems: led + "," + emptySystem, rounds: 1, duration: time.Second}, args); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: error %v does not name %s", c.arg, err, c.want)
		}
	}
	if _, err := choose("put-1,put-7", shapes, func(s shape) string { return s.name }); err == nil || !strings.Contains(err.Error(), "put-7") {
		t.Errorf("-loads put-7: error %v does not name it", err)
	}
}

func TestStartProcess_endByItselfFails(t *testing.T) {
	ctx, fail := context.WithCancelCause(t.Context())
	log := filepath.Join(t.TempDir(), "log")
	p, err := startProcess("etcd m1", log, os.Args[0], []string{standInEnds}, fail)
	if err != nil {
		t.Fatal(err)
	}
	<-ctx.Done()
	<-p.ended
	cause := context.Cause(ctx)
	var exit *exec.ExitError
	if !errors.As(cause, &exit) || exit.ExitCode() != 3 ||
		!strings.Contains(cause.Error(), "etcd m1") || !strings.Contains(cause.Error(), "no space left") {
		t.Errorf("cause = %v, want the name, the status and the last lines", cause)
	}
}

func TestStartProcess_killIsExpected(t *testing.T) {
	ctx, fail := context.WithCancelCause(t.Context())
	p, err := startProcess("m1", filepath.Join(t.TempDir(), "log"), os.Args[0], []string{standInStays}, fail)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.kill(); err != nil {
		t.Fatal(err)
	}
	if ctx.Err() != nil {
		t.Errorf("a wanted kill failed the run: %v", context.Cause(ctx))
	}
}

// What the test binary is told to be a server that ends by itself, or stays.
const (
	standInEnds  = "stand-in-ends"
	standInStays = "stand-in-stays"
)

// TestMain lets the test binary stand for the program, or for a server, in the
// processes it starts.
func TestMain(m *testing.M) {
	switch {
	case len(os.Args) > 1 && os.Args[1] == standInEnds:
		fmt.Println("no space left")
		os.Exit(3)
	case len(os.Args) > 1 && os.Args[1] == standInStays:
		asked := make(chan os.Signal, 1)
		signal.Notify(asked, os.Interrupt)
		<-asked
		return
	}
	if len(os.Args) > 1 && commands[os.Args[1]] != nil {
		main()
		return
	}
	os.Exit(m.Run())
}
