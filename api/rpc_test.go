package api

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/conclave-kv/conclave/member"

	"github.com/conclave-kv/conclave/auth"
)

// dialPlain connects without TLS and without etcd's client.
func (f *fixture) dialPlain(t *testing.T) *grpc.ClientConn {
	t.Helper()
	return f.dialGRPC(t, newHandshaken())
}

// want fails unless err has the code and text.
func want(t *testing.T, what string, err error, code codes.Code, text string) {
	t.Helper()
	if s := status.Convert(err); s.Code() != code || !strings.Contains(s.Message(), text) {
		t.Errorf("%s: got %s %q, want %s %q", what, s.Code(), s.Message(), code, text)
	}
}

func call(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func TestKV_checksBeforeAsking(t *testing.T) {
	f := start(t, "http", func(o *Options) { o.MaxRequestBytes = 1 << 10 })
	c := pb.NewKVClient(f.dialPlain(t))
	ctx := call(t)
	_, err := c.Put(ctx, &pb.PutRequest{})
	want(t, "put", err, codes.InvalidArgument, "etcdserver: key is not provided")
	_, err = c.Range(ctx, &pb.RangeRequest{Key: []byte("k"), SortOrder: 9})
	want(t, "range", err, codes.InvalidArgument, "etcdserver: invalid sort option")
	_, err = c.DeleteRange(ctx, &pb.DeleteRangeRequest{})
	want(t, "delete", err, codes.InvalidArgument, "etcdserver: key is not provided")
	_, err = c.Txn(ctx, &pb.TxnRequest{Success: ops(opPut("a"), opPut("a"))})
	want(t, "txn", err, codes.InvalidArgument, "etcdserver: duplicate key given in txn request")
	_, err = c.Put(ctx, &pb.PutRequest{Key: []byte("k"), Value: make([]byte, 2<<10)})
	want(t, "large put", err, codes.InvalidArgument, "etcdserver: request is too large")
	_, err = c.Put(ctx, &pb.PutRequest{Key: []byte("k"), Value: make([]byte, 1<<20)})
	want(t, "huge put", err, codes.ResourceExhausted, "grpc: received message larger than max")
	_, err = c.Range(ctx, &pb.RangeRequest{Key: []byte("k"), Revision: 99})
	want(t, "future", err, codes.OutOfRange, "etcdserver: mvcc: required revision is a future revision")
	_, err = c.Compact(ctx, &pb.CompactionRequest{Revision: 99})
	want(t, "compact", err, codes.OutOfRange, "etcdserver: mvcc: required revision is a future revision")
	if f.backend.rev != 1 {
		t.Errorf("a refused request reached the backend: revision %d", f.backend.rev)
	}
}

// What is served has a rule who may call it; reflection is not served.
func TestServices_haveRules(t *testing.T) {
	f := start(t, "http", nil)
	methods := 0
	for service, info := range f.grpc.GetServiceInfo() {
		if strings.Contains(service, "reflection") {
			t.Errorf("%s is served", service)
		}
		for _, m := range info.Methods {
			methods++
			if full := "/" + service + "/" + m.Name; !auth.HasRule(full) {
				t.Errorf("%s has no rule in package auth", full)
			}
		}
	}
	if methods < 40 {
		t.Errorf("only %d methods are served", methods)
	}
}

func TestMaintenance_alarmsByType(t *testing.T) {
	f := start(t, "http", nil)
	f.backend.raise(pb.AlarmType_NOSPACE, pb.AlarmType_CORRUPT)
	c := pb.NewMaintenanceClient(f.dialPlain(t))
	for kind, n := range map[pb.AlarmType]int{pb.AlarmType_NONE: 2, pb.AlarmType_CORRUPT: 1} {
		resp, err := c.Alarm(call(t), &pb.AlarmRequest{Alarm: kind, MemberID: 99})
		must(t, err)
		if len(resp.Alarms) != n || resp.Header.GetMemberId() != 7 {
			t.Errorf("%s: %v", kind, resp)
		}
	}
	_, err := c.Alarm(call(t), &pb.AlarmRequest{Action: 3, Alarm: pb.AlarmType_CORRUPT})
	want(t, "action", err, codes.InvalidArgument, "etcdserver: unknown alarm action 3")
	_, err = c.Alarm(call(t), &pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, Alarm: 9})
	want(t, "type", err, codes.InvalidArgument, "etcdserver: unknown alarm type 9")
	if n := len(f.backend.alarms); n != 2 {
		t.Errorf("%d alarms after requests that were refused", n)
	}
	st, err := c.Status(call(t), &pb.StatusRequest{})
	must(t, err)
	if st.DbSize != 4096 {
		t.Error(st)
	}
}

func TestGRPCHealth_service(t *testing.T) {
	f := start(t, "http", nil)
	c := grpc_health_v1.NewHealthClient(f.dialPlain(t))
	resp, err := c.Check(call(t), &grpc_health_v1.HealthCheckRequest{})
	must(t, err)
	if resp.Status != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Error(resp)
	}
	_, err = c.Check(call(t), &grpc_health_v1.HealthCheckRequest{Service: "unknown"})
	want(t, "unknown service", err, codes.NotFound, "")
}

func TestMetadata_hasLeader(t *testing.T) {
	f := start(t, "http", func(o *Options) { o.ElectionTimeout = 20 * time.Millisecond })
	cc := f.dialPlain(t)
	ctx := metadata.AppendToOutgoingContext(call(t), "hasleader", "true")
	_, err := pb.NewKVClient(cc).Range(ctx, &pb.RangeRequest{Key: []byte("k")})
	must(t, err)

	wants, err := grpc_health_v1.NewHealthClient(cc).Watch(ctx, &grpc_health_v1.HealthCheckRequest{})
	must(t, err)
	_, err = wants.Recv()
	must(t, err)
	survives, err := grpc_health_v1.NewHealthClient(cc).Watch(call(t), &grpc_health_v1.HealthCheckRequest{})
	must(t, err)
	_, err = survives.Recv()
	must(t, err)

	f.backend.leader.Store(0)
	_, err = pb.NewKVClient(cc).Range(ctx, &pb.RangeRequest{Key: []byte("k")})
	want(t, "unary without leader", err, codes.Unavailable, "etcdserver: no leader")
	_, err = wants.Recv()
	want(t, "stream without leader", err, codes.Unavailable, "etcdserver: no leader")
	_, err = pb.NewKVClient(cc).Range(call(t), &pb.RangeRequest{Key: []byte("k")})
	must(t, err)
	late, err := grpc_health_v1.NewHealthClient(cc).Watch(ctx, &grpc_health_v1.HealthCheckRequest{})
	must(t, err)
	_, err = late.Recv()
	want(t, "new stream without leader", err, codes.Unavailable, "etcdserver: no leader")

	_ = f.Close() // ends the stream that did not ask for a leader
	for err = nil; err == nil; {
		_, err = survives.Recv() // first tells that the service stops
	}
	want(t, "stream at Close", err, codes.Unavailable, "etcdserver: server stopped")
}

func TestMetadata_clientAPIVersion(t *testing.T) {
	f := start(t, "http", nil)
	c := pb.NewKVClient(f.dialPlain(t))
	get := &pb.RangeRequest{Key: []byte("k")}
	// grpc's client refuses to send such a value, others may not.
	bad := metadata.NewIncomingContext(t.Context(), metadata.Pairs("client-api-version", "\xff"))
	_, err := (&interceptor{metrics: f.Server.metrics}).metadata(bad, "unary")
	want(t, "not UTF-8", err, codes.InvalidArgument, "etcdserver: invalid client api version")
	_, err = c.Range(call(t), get)
	must(t, err)
	for i := range maxAPIVersions + 5 {
		_, err = c.Range(metadata.AppendToOutgoingContext(call(t), "client-api-version", fmt.Sprint("3.", i)), get)
		must(t, err)
	}
	series := gather(t, f.opts.Registry)["etcd_server_client_requests_total"].GetMetric()
	if n := len(series); n > maxAPIVersions+1 {
		t.Errorf("%d series from values clients choose", n)
	}
	if v := value(t, f.opts.Registry, "etcd_server_client_requests_total", "unary", "3.7"); v != 1 {
		t.Errorf("3.7 counted %v times", v)
	}
}

func gather(t *testing.T, reg *prometheus.Registry) map[string]*dto.MetricFamily {
	t.Helper()
	all, err := reg.Gather()
	must(t, err)
	m := make(map[string]*dto.MetricFamily)
	for _, f := range all {
		m[f.GetName()] = f
	}
	return m
}

// value reads the counter or gauge that has all the label values.
func value(t *testing.T, reg *prometheus.Registry, name string, labels ...string) float64 {
	t.Helper()
	for _, m := range gather(t, reg)[name].GetMetric() {
		have := make(map[string]bool)
		for _, l := range m.GetLabel() {
			have[l.GetValue()] = true
		}
		all := true
		for _, l := range labels {
			all = all && have[l]
		}
		if all {
			return m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	t.Fatalf("no series %s%v", name, labels)
	return 0
}

func TestMetrics_countCallsAndBytes(t *testing.T) {
	f := start(t, "http", nil)
	c := pb.NewKVClient(f.dialPlain(t))
	_, err := c.Put(call(t), &pb.PutRequest{Key: []byte("k"), Value: make([]byte, 1000)})
	must(t, err)
	_, err = c.Put(call(t), &pb.PutRequest{})
	want(t, "bad put", err, codes.InvalidArgument, "")
	reg := f.opts.Registry
	for _, m := range []struct {
		name   string
		labels []string
		value  float64
	}{
		{"grpc_server_started_total", []string{"unary", "etcdserverpb.KV", "Put"}, 2},
		{"grpc_server_handled_total", []string{"unary", "etcdserverpb.KV", "Put", "OK"}, 1},
		{"grpc_server_handled_total", []string{"unary", "etcdserverpb.KV", "Put", "InvalidArgument"}, 1},
		{"grpc_server_msg_received_total", []string{"Put"}, 2},
		{"grpc_server_msg_sent_total", []string{"Put"}, 1},
		{"grpc_server_handled_total", []string{"unary", "etcdserverpb.Maintenance", "Status", "OK"}, 0},
		{"grpc_server_started_total", []string{"server_stream", "grpc.health.v1.Health", "Watch"}, 0},
	} {
		if v := value(t, reg, m.name, m.labels...); v != m.value {
			t.Errorf("%s%v is %v, want %v", m.name, m.labels, v, m.value)
		}
	}
	if v := value(t, reg, "etcd_network_client_grpc_received_bytes_total"); v < 1000 {
		t.Errorf("received %v bytes", v)
	}
	waitFor(t, "sent bytes", func() bool { return value(t, reg, "etcd_network_client_grpc_sent_bytes_total") > 50 })
	if code, body, _ := get(t, http.MethodGet, f.metrics[0].Host, "/metrics"); code != 200 || !strings.Contains(body, `grpc_server_handled_total{grpc_code="OK",grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"} 1`) {
		t.Errorf("%d: %.500s", code, body)
	}
}

// With --metrics extensive each call's time is told, under grpc-prometheus' name.
func TestMetrics_handlingSeconds(t *testing.T) {
	for name, extensive := range map[string]bool{"basic": false, "extensive": true} {
		f := start(t, "http", func(o *Options) { o.HandlingSeconds = extensive })
		_, err := pb.NewKVClient(f.dialPlain(t)).Put(call(t), &pb.PutRequest{Key: []byte("k")})
		must(t, err)
		_, body, _ := get(t, http.MethodGet, f.metrics[0].Host, "/metrics")
		const line = `grpc_server_handling_seconds_count{grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"} 1`
		if got := strings.Contains(body, line); got != extensive {
			t.Errorf("%s: the time of a put is told: %v", name, got)
		}
	}
}

func TestPR20941AndPR21993_contentInLogs(t *testing.T) {
	f := start(t, "http", func(o *Options) { o.SlowRequest = time.Nanosecond })
	fail := func(context.Context, *pb.PutRequest) error { return member.ErrTimeout }
	f.backend.onPut.Store(&fail)
	c := pb.NewKVClient(f.dialPlain(t))
	_, err := c.Put(call(t), &pb.PutRequest{Key: []byte("topsecretkey"), Value: bytes.Repeat([]byte("topsecretvalue"), 10)})
	want(t, "put", err, codes.Unavailable, "request timed out")
	waitFor(t, "the log line", func() bool {
		return f.log.has(`"level":"warn"`, "request stats", "/etcdserverpb.KV/Put", `"request size":157`, "request timed out", "127.0.0.1")
	})
	if f.log.has("topsecret") {
		t.Error("content of a request is in the log")
	}
}
