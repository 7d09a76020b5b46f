package main

import (
	"context"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// sent is a watch that has responses and ends.
func sent(responses ...clientv3.WatchResponse) clientv3.WatchChan {
	c := make(chan clientv3.WatchResponse, len(responses))
	for _, r := range responses {
		c <- r
	}
	close(c)
	return c
}

func measuringLoad() *load {
	l := &load{}
	l.measuring.Store(true)
	return l
}

func TestWatchers_missingEventFails(t *testing.T) {
	w := &watchers{load: measuringLoad()}
	value := stamped(strings.Repeat("v", 20))
	event := func(version int64) *clientv3.Event {
		return &clientv3.Event{Kv: &mvccpb.KeyValue{Key: []byte("k"), Version: version, Value: []byte(value)}}
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	delays, err := w.collect(over, sent(
		clientv3.WatchResponse{Events: []*clientv3.Event{event(7), event(8)}}, clientv3.WatchResponse{Events: []*clientv3.Event{event(9)}}))
	if err != nil || len(delays) != 3 || w.events.Load() != 3 || len(value) != 20 {
		t.Fatalf("delays %v of %d events, %v; want three", delays, w.events.Load(), err)
	}
	for _, versions := range [][2]int64{{7, 9}, {7, 7}} {
		_, err := w.collect(over, sent(clientv3.WatchResponse{Events: []*clientv3.Event{event(versions[0]), event(versions[1])}}))
		if err == nil || !strings.Contains(err.Error(), "came after 7") {
			t.Errorf("versions %v: error %v, want it to name the order", versions, err)
		}
	}
	if _, err := w.collect(t.Context(), sent()); err == nil {
		t.Error("a watch that the server ended was accepted")
	}
}

func TestStampOf_time(t *testing.T) {
	before := time.Now()
	for _, value := range []string{"", strings.Repeat("v", 256)} {
		got, err := stampOf([]byte(stamped(value)))
		if err != nil || got.Before(before.Round(0)) || time.Since(got) < 0 {
			t.Errorf("%q: %v, %v; want a time since %v", value, got, err, before)
		}
	}
	if _, err := stampOf([]byte("of another load")); err == nil {
		t.Error("a value without a stamp was accepted")
	}
}

func TestReader_progressInOrder(t *testing.T) {
	progress := func(rev int64) clientv3.WatchResponse {
		return clientv3.WatchResponse{Header: &pb.ResponseHeader{Revision: rev}}
	}
	events := func(rev int64) clientv3.WatchResponse {
		return clientv3.WatchResponse{Events: []*clientv3.Event{{Kv: &mvccpb.KeyValue{ModRevision: rev}}}}
	}
	for _, c := range []struct {
		responses []clientv3.WatchResponse
		want      string
	}{
		{[]clientv3.WatchResponse{events(8), progress(8), progress(8), events(9)}, "ended by the server"},
		{[]clientv3.WatchResponse{events(7)}, "an event of revision 7 came after revision 7"},
		{[]clientv3.WatchResponse{progress(9), events(9)}, "an event of revision 9 came after revision 9"},
		{[]clientv3.WatchResponse{events(9), progress(8)}, "progress up to revision 8 came after revision 9"},
	} {
		r := &reader{watchers: &watchers{load: measuringLoad()}, asked: time.Now()}
		answers, err := r.collect(sent(c.responses...), 7)
		if err == nil || err.Error() != c.want {
			t.Errorf("%v: error %v, want %s", c.responses, err, c.want)
		}
		// Of two answers to one question the first is what counts.
		if c.responses[0].Events != nil && len(c.responses) == 4 && len(answers) != 1 {
			t.Errorf("%d answers, want 1", len(answers))
		}
	}
}

func TestParseLive_heapAndStacks(t *testing.T) {
	got, err := parseLive("heap profile: 1: 2\n\n# runtime.MemStats\n# Alloc = 9\n# HeapAlloc = 1000\n# Stack = 500 / 700\n")
	if err != nil || got != 1500 {
		t.Errorf("%v, %v; want 1500", got, err)
	}
	if _, err := parseLive("404 page not found"); err == nil {
		t.Error("a text without statistics was accepted")
	}
}

func TestBar_verdict(t *testing.T) {
	for _, c := range []struct {
		bar        bar
		ours, etcd []float64
		want       string
	}{
		{bar{atLeast: 1.5}, []float64{3, 30, 16}, []float64{2, 20, 10}, "≥ 1.50: met"},
		{bar{atLeast: 1.5}, []float64{2}, []float64{2}, "≥ 1.50: missed"},
		{bar{atMost: 0.7}, []float64{6}, []float64{10}, "≤ 0.70: met"},
		{bar{atMost: 0.7}, []float64{8}, []float64{10}, "≤ 0.70: missed"},
		{bar{itself: 0.95}, []float64{0.9}, []float64{0.5}, "≥ 0.95: missed"},
		{bar{itself: 0.95}, []float64{0.96}, nil, "≥ 0.95: met"},
		{bar{atLeast: 1.5}, []float64{2}, nil, ""},
		{bar{}, []float64{2}, []float64{2}, ""},
	} {
		if got := c.bar.verdict(c.ours, c.etcd); got != c.want {
			t.Errorf("%+v of %v and %v: %q, want %q", c.bar, c.ours, c.etcd, got, c.want)
		}
	}
}

func TestWatch_emptySystemEndToEnd(t *testing.T) {
	if _, err := choose("beside,fanout-7", watchTrials, func(l trial) string { return l.name }); err == nil || !strings.Contains(err.Error(), "fanout-7") {
		t.Errorf("-loads fanout-7: error %v does not name it", err)
	}
	dir := t.TempDir()
	err := dispatch(t.Context(), []string{
		"watch", "-systems=empty", "-dir=" + dir, "-rounds=1", "-warmup=100ms", "-duration=1s", "-loads=keepalive-1000", "-keys=100",
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A load of its own pace does not go faster.
func TestWorker_pace(t *testing.T) {
	l := &load{spec: loadSpec{Pace: 1000, Clients: 10}, began: time.Now()}
	w := &worker{load: l, number: 3}
	w.pace(t.Context(), 5)
	if took := time.Since(l.began); took < 53*time.Millisecond {
		t.Errorf("client 3 had its sixth turn after %v, want 53 ms", took)
	}
}
