//go:build interop

package cluster_test

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// etcdsNames are metrics of etcd that dashboards and alerts rely on, of what
// conclave has a part for.
var etcdsNames = strings.Fields(`
	etcd_cluster_version etcd_server_id etcd_server_version etcd_server_go_version
	etcd_server_has_leader etcd_server_is_leader etcd_server_is_learner etcd_server_leader_changes_seen_total
	etcd_server_proposals_committed_total etcd_server_proposals_applied_total etcd_server_proposals_pending
	etcd_server_proposals_failed_total etcd_server_heartbeat_send_failures_total etcd_server_slow_apply_total
	etcd_server_slow_read_indexes_total etcd_server_read_indexes_failed_total etcd_server_learner_promote_successes
	etcd_server_learner_promote_failures etcd_server_snapshot_apply_in_progress_total etcd_server_quota_backend_bytes
	etcd_server_client_requests_total etcd_server_health_success etcd_server_health_failures
	etcd_disk_wal_fsync_duration_seconds etcd_disk_wal_write_bytes_total etcd_disk_backend_commit_duration_seconds
	etcd_network_active_peers etcd_network_known_peers etcd_network_peer_sent_bytes_total
	etcd_network_peer_received_bytes_total etcd_network_peer_round_trip_time_seconds
	etcd_network_client_grpc_received_bytes_total etcd_network_client_grpc_sent_bytes_total
	etcd_mvcc_db_total_size_in_bytes etcd_mvcc_db_total_size_in_use_in_bytes
	etcd_debugging_mvcc_watch_stream_total etcd_debugging_mvcc_watcher_total etcd_debugging_mvcc_slow_watcher_total
	etcd_debugging_mvcc_events_total etcd_debugging_mvcc_pending_events_total
	etcd_debugging_mvcc_current_revision etcd_debugging_mvcc_compact_revision etcd_debugging_mvcc_keys_total
	etcd_debugging_mvcc_db_compaction_keys_total etcd_debugging_mvcc_db_compaction_last
	etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds etcd_debugging_mvcc_db_compaction_total_duration_milliseconds
	etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds etcd_debugging_mvcc_total_put_size_in_bytes etcd_debugging_auth_revision
	etcd_mvcc_put_total etcd_mvcc_delete_total etcd_mvcc_range_total etcd_mvcc_txn_total
	etcd_mvcc_hash_duration_seconds etcd_mvcc_hash_rev_duration_seconds etcd_mvcc_db_open_read_transactions
	grpc_server_started_total grpc_server_handled_total grpc_server_msg_received_total grpc_server_msg_sent_total
	promhttp_metric_handler_requests_total promhttp_metric_handler_requests_in_flight
	process_resident_memory_bytes go_goroutines`)

// rareNames are metrics of etcd's that appear when something has happened.
var rareNames = strings.Fields(`
	etcd_network_peer_sent_failures_total etcd_network_peer_received_failures_total etcd_network_disconnected_peers_total
	etcd_network_snapshot_send_success etcd_network_snapshot_send_failures etcd_network_snapshot_send_total_duration_seconds
	etcd_network_snapshot_receive_success etcd_network_snapshot_receive_failures
	etcd_server_healthcheck etcd_server_healthchecks_total`)

// absentNames are etcd's metrics that conclave has not, with the reason.
func absentNames() map[string]string {
	absent := map[string]string{}
	for reason, names := range map[string]string{
		"the store of etcd v2 is gone":                    "etcd_debugging_store_expires_total etcd_debugging_store_watch_requests_total etcd_debugging_store_watchers",
		"there is no proxy":                               "etcd_grpc_proxy_cache_hits_total etcd_grpc_proxy_cache_keys_total etcd_grpc_proxy_cache_misses_total etcd_grpc_proxy_events_coalescing_total etcd_grpc_proxy_watchers_coalescing_total",
		"the state file is the snapshot: none is saved":   "etcd_debugging_snap_save_marshalling_duration_seconds etcd_debugging_snap_save_total_duration_seconds etcd_snap_fsync_duration_seconds etcd_snap_db_fsync_duration_seconds etcd_snap_db_save_total_duration_seconds",
		"gates are not switched while running":            "etcd_server_feature_enabled",
		"watches are pulled; there is no loop that sends": "etcd_debugging_server_watch_send_loop_control_stream_duration_seconds etcd_debugging_server_watch_send_loop_progress_duration_seconds etcd_debugging_server_watch_send_loop_watch_stream_duration_per_event_seconds etcd_debugging_server_watch_send_loop_watch_stream_duration_seconds",
		"one commit is not divided":                       "etcd_debugging_disk_backend_commit_rebalance_duration_seconds etcd_debugging_disk_backend_commit_spill_duration_seconds etcd_debugging_disk_backend_commit_write_duration_seconds",
		"the time of requests is told by --metrics extensive, of syncs by etcd_disk_wal_fsync_duration_seconds": "etcd_server_apply_duration_seconds etcd_server_range_duration_seconds etcd_server_request_duration_seconds etcd_disk_wal_write_duration_seconds etcd_disk_backend_snapshot_duration_seconds",
	} {
		for _, name := range strings.Fields(names) {
			absent[name] = reason
		}
	}
	return absent
}

// growsOnly is a gauge in etcd, although it only grows.
const growsOnly = "etcd_disk_wal_write_bytes_total"

// The metrics that share a name with etcd's have its types and labels, and
// those that operators watch are there.
func TestMetrics_sameNamesAsEtcds(t *testing.T) {
	t.Parallel()
	scraped := map[string]map[string]series{}
	for _, program := range []string{conclave, realTool(t, "etcd")} {
		g := newGroup(t, 3, false)
		for _, m := range g.members {
			m.proc = launch(t, m.name, m.home, append([]string{program}, m.flags()...)...)
		}
		g.serve()
		scraped[program] = g.used(t)
	}
	ours, theirs := scraped[conclave], scraped[realTool(t, "etcd")]
	for name, got := range ours {
		if strings.HasPrefix(name, "conclave_") || strings.HasPrefix(name, "raft_") || strings.HasPrefix(name, "go_") || strings.HasPrefix(name, "process_") {
			continue
		}
		want, known := theirs[name]
		switch {
		case !known && !slices.Contains(rareNames, name):
			t.Errorf("etcd has no %s", name)
		case !known:
		case name == growsOnly && got.kind == "counter":
		case got.kind != want.kind || !slices.Equal(got.labels(), want.labels()):
			t.Errorf("%s is a %s with %v, etcd's a %s with %v", name, got.kind, got.labels(), want.kind, want.labels())
		}
	}
	for _, name := range etcdsNames {
		for who, all := range map[string]map[string]series{"conclave": ours, "etcd": theirs} {
			if _, there := all[name]; !there {
				t.Errorf("%s has no %s", who, name)
			}
		}
	}
	absent := absentNames()
	for name := range theirs {
		_, there := ours[name]
		switch reason, told := absent[name]; {
		case !strings.HasPrefix(name, "etcd_"):
		case there && told:
			t.Errorf("conclave has %s, which is said to be absent: %s", name, reason)
		case !there && !told:
			t.Errorf("conclave has no %s, and no reason is given", name)
		}
	}
	t.Logf("%d metrics of etcd's are absent", len(absent))
}

// series is what a scrape shows of one metric.
type series struct {
	kind string
	seen map[string]bool // label names
}

func (s series) labels() []string { return slices.Sorted(maps.Keys(s.seen)) }

// used has a cluster do some of everything and returns the leader's metrics, of
// which some do not come at once.
func (g *group) used(t *testing.T) map[string]series {
	t.Helper()
	var clients []*clientv3.Client
	for _, m := range g.members {
		clients = append(clients, m.dial())
	}
	var leader *member
	eventually(t, serveTimeout, "a leader", func() error {
		if leader = g.leader(clients); leader == nil {
			return fmt.Errorf("none")
		}
		return nil
	})
	client := leader.dial()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := client.Put(ctx, "k", "v"); err != nil {
		t.Fatal(err)
	}
	status, err := client.Status(ctx, leader.clientURL())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.MemberPromote(ctx, status.Header.MemberId); err == nil {
		t.Error("a voter was promoted")
	}
	var all map[string]series
	eventually(t, serveTimeout, "all metrics of the leader", func() error {
		all = scrape(t, leader.clientURL()+"/health", leader.clientURL()+"/metrics")
		for _, name := range etcdsNames {
			if _, there := all[name]; !there {
				return fmt.Errorf("no %s", name)
			}
		}
		return nil
	})
	return all
}

var sample = regexp.MustCompile(`^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? `)
var label = regexp.MustCompile(`([a-zA-Z_][a-zA-Z0-9_]*)="(?:[^"\\]|\\.)*"`)

// scrape asks all URLs and parses the last answer.
func scrape(t *testing.T, urls ...string) map[string]series {
	t.Helper()
	var text []byte
	for _, url := range urls {
		resp, err := http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		text, err = io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
	}
	all := map[string]series{}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) == 4 && fields[1] == "TYPE" {
			all[fields[2]] = series{kind: fields[3], seen: map[string]bool{}}
			continue
		}
		parts := sample.FindStringSubmatch(line)
		if parts == nil || line[0] == '#' {
			continue
		}
		name := parts[1]
		if _, known := all[name]; !known {
			for _, part := range []string{"_bucket", "_sum", "_count"} {
				name = strings.TrimSuffix(name, part)
			}
		}
		if s, known := all[name]; known {
			for _, l := range label.FindAllStringSubmatch(parts[2], -1) {
				if l[1] != "le" {
					s.seen[l[1]] = true
				}
			}
		}
	}
	return all
}
