//go:build interop

package cluster_test

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

var watchSample = regexp.MustCompile(`(?m)^etcd_debugging_mvcc_((?:watch_stream|watcher|slow_watcher|events|pending_events)_total) (\S+)$`)

// watchFigures are a member's figures of watches, as text.
func watchFigures(t *testing.T, m *member) string {
	t.Helper()
	resp, err := http.Get(m.clientURL() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, found := range watchSample.FindAllStringSubmatch(string(text), -1) {
		all = append(all, strings.TrimSuffix(found[1], "_total")+" "+found[2])
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// The figures of watches are etcd's while they are made, given events, read
// history, and end.
func TestMetrics_watchesAsEtcds(t *testing.T) {
	t.Parallel()
	s, _, their, _ := besideEtcd(t)
	for _, m := range []*member{s.member, their.member} {
		client := m.dial()
		shows := func(what string, events, streams, watchers int) {
			t.Helper()
			want := fmt.Sprintf("events %d, pending_events 0, slow_watcher 0, watch_stream %d, watcher %d", events, streams, watchers)
			eventually(t, serveTimeout, what+" on "+m.clientURL(), func() error {
				if got := watchFigures(t, m); got != want {
					return fmt.Errorf("%s; want %s", got, want)
				}
				return nil
			})
		}
		shows("at the start", 0, 0, 0)
		w := openWatch(t, client)
		for i := range 3 {
			w.create(&pb.WatchCreateRequest{Key: fmt.Appendf(nil, "k%d", i)}, 1)
		}
		shows("three watches", 0, 1, 3)
		for range 2 {
			w.do(clientv3.OpPut("k1", "v"), 1)
		}
		shows("two events", 2, 1, 3)
		w.create(&pb.WatchCreateRequest{Key: []byte("k1"), StartRevision: 2}, 2)
		shows("history", 4, 1, 4)
		w.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: 0}}}, 1)
		other := openWatch(t, client)
		other.create(&pb.WatchCreateRequest{Key: []byte("k"), RangeEnd: []byte("l")}, 1)
		shows("another stream", 4, 2, 4)
		for _, stream := range []*rawWatch{w, other} {
			stream.end()
		}
		shows("nobody watches", 4, 0, 0)
	}
}
