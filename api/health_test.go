package api

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/conclave-kv/conclave/member"
)

// get asks a path of a host; the body has its last newline cut.
func get(t *testing.T, method, host, path string) (code int, body string, header http.Header) {
	t.Helper()
	req, err := http.NewRequest(method, "http://"+host+path, nil)
	must(t, err)
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr, Timeout: 10 * time.Second}).Do(req)
	must(t, err)
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	must(t, err)
	return resp.StatusCode, strings.TrimSuffix(string(b), "\n"), resp.Header
}

func (b *fakeBackend) raise(alarms ...pb.AlarmType) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.alarms = nil
	for _, a := range alarms {
		b.alarms = append(b.alarms, &pb.AlarmMember{MemberID: 7, Alarm: a})
	}
}

func TestHealth_forms(t *testing.T) {
	f := start(t, "http", nil)
	lost := func(_ context.Context, r *pb.RangeRequest) error {
		if !r.Serializable {
			return member.ErrTimeout
		}
		return nil
	}
	for _, c := range []struct {
		name  string
		setup func()
		path  string
		code  int
		body  string
	}{
		{"healthy", func() {}, "/health", 200, `{"health":"true","reason":""}`},
		{"NOSPACE", func() { f.backend.raise(pb.AlarmType_NOSPACE) }, "/health", 503, `{"health":"false","reason":"ALARM NOSPACE"}`},
		{"NOSPACE excluded", func() {}, "/health?exclude=NOSPACE", 200, `{"health":"true","reason":""}`},
		{"CORRUPT beside it", func() { f.backend.raise(pb.AlarmType_NOSPACE, pb.AlarmType_CORRUPT) }, "/health?exclude=NOSPACE", 503, `{"health":"false","reason":"ALARM CORRUPT"}`},
		{"both excluded", func() {}, "/health?exclude=NOSPACE&exclude=CORRUPT", 200, `{"health":"true","reason":""}`},
		{"no leader", func() { f.backend.raise(); f.backend.leader.Store(0) }, "/health", 503, `{"health":"false","reason":"RAFT NO LEADER"}`},
		{"no leader, local", func() {}, "/health?serializable=true", 200, `{"health":"true","reason":""}`},
		{"read fails", func() { f.backend.leader.Store(7); f.backend.onRange.Store(&lost) }, "/health", 503,
			`{"health":"false","reason":"RANGE ERROR:etcdserver: request timed out"}`},
		{"read fails, local", func() {}, "/health?serializable=true", 200, `{"health":"true","reason":""}`},
	} {
		c.setup()
		for _, host := range []string{f.addr(), f.metrics[0].Host} {
			code, body, h := get(t, http.MethodGet, host, c.path)
			if code != c.code || body != c.body || h.Get("Content-Type") != "application/json" {
				t.Errorf("%s: %d %s %s", c.name, code, body, h.Get("Content-Type"))
			}
		}
	}
}

func TestHealth_waitsForAStalledQuorum(t *testing.T) {
	f := start(t, "http", func(o *Options) { o.RequestTimeout = time.Minute })
	f.backend.stall()
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	client := http.Client{Transport: tr, Timeout: 300 * time.Millisecond}
	if resp, err := client.Get("http://" + f.addr() + "/health"); err == nil {
		t.Errorf("answered %s instead of waiting", resp.Status)
	}
	if code, _, _ := get(t, http.MethodGet, f.addr(), "/health?serializable=true"); code != http.StatusOK {
		t.Errorf("the local form: %d", code)
	}
}

func TestProbes_forms(t *testing.T) {
	f := start(t, "http", nil)
	changed := func(_ context.Context, r *pb.RangeRequest) error {
		if !r.Serializable {
			return member.ErrLeaderChanged
		}
		return nil
	}
	const all = "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner ok\n"
	for _, c := range []struct {
		name  string
		setup func()
		path  string
		code  int
		body  string
	}{
		{"alive", func() {}, "/livez", 200, "ok"},
		{"alive, verbose", func() {}, "/livez?verbose", 200, "[+]serializable_read ok\nok"},
		{"one check", func() {}, "/livez/serializable_read", 200, "ok"},
		{"check of the other probe", func() {}, "/livez/linearizable_read", 404, "404 page not found"},
		{"ready", func() {}, "/readyz", 200, "ok"},
		{"ready, verbose", func() {}, "/readyz?verbose", 200, all + "ok"},
		{"excluded", func() {}, "/readyz?verbose&exclude=data_corruption&exclude=non_learner&exclude=unknown", 200, "[+]serializable_read ok\n[+]linearizable_read ok\nok"},
		{"leader changed", func() { f.backend.onRange.Store(&changed) }, "/readyz", 503,
			strings.TrimSuffix(strings.Replace(all, "[+]linearizable_read ok", "[-]linearizable_read failed: etcdserver: leader changed", 1), "\n")},
		{"single failure", func() {}, "/readyz/linearizable_read", 503, "[-]linearizable_read failed: etcdserver: leader changed"},
		{"failure excluded", func() {}, "/readyz?exclude=linearizable_read", 200, "ok"},
		{"alive without leader", func() { f.backend.leader.Store(0) }, "/livez", 200, "ok"},
		{"corrupt", func() { f.backend.onRange.Store(nil); f.backend.raise(pb.AlarmType_CORRUPT) }, "/readyz/data_corruption", 503, "[-]data_corruption failed: alarm activated: CORRUPT"},
		{"no space is no matter", func() { f.backend.raise(pb.AlarmType_NOSPACE) }, "/readyz", 200, "ok"},
		{"learner", func() { f.backend.raise(); f.backend.learner = true }, "/readyz/non_learner", 503, "[-]non_learner failed: not supported for learner"},
		{"learner lives", func() {}, "/livez", 200, "ok"},
	} {
		c.setup()
		code, body, h := get(t, http.MethodGet, f.metrics[0].Host, c.path)
		if code != c.code || body != c.body || !strings.HasPrefix(h.Get("Content-Type"), "text/plain") {
			t.Errorf("%s: %d %q %s", c.name, code, body, h.Get("Content-Type"))
		}
	}
}

func TestHTTP_pathsAndMethods(t *testing.T) {
	f := start(t, "http", nil)
	client, metrics := f.addr(), f.metrics[0].Host
	for _, c := range []struct {
		method, host, path string
		code               int
	}{
		{"GET", client, "/", 404}, {"GET", metrics, "/", 404},
		{"GET", client, "/v2/keys", 404}, {"GET", client, "/healthz", 404},
		{"GET", metrics, "/version", 404}, {"GET", metrics, "/debug/vars", 404},
		{"GET", metrics, "/metrics", 200},
		{"GET", client, "/debug/pprof/", 404},
		{"POST", client, "/health", 405}, {"POST", client, "/version", 405}, {"PUT", metrics, "/livez", 405}, {"HEAD", metrics, "/readyz", 405},
	} {
		code, _, h := get(t, c.method, c.host, c.path)
		if code != c.code || (code == 405 && h.Get("Allow") != "GET") {
			t.Errorf("%s %s: %d, Allow %q", c.method, c.path, code, h.Get("Allow"))
		}
	}
}

func TestHTTP_profilingOnlyWhenAsked(t *testing.T) {
	f := start(t, "http", func(o *Options) { o.Profiling = true })
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/cmdline", "/debug/pprof/heap?debug=1"} {
		if code, _, _ := get(t, http.MethodGet, f.addr(), path); code != http.StatusOK {
			t.Errorf("%s: %d", path, code)
		}
	}
	if code, _, _ := get(t, http.MethodGet, f.metrics[0].Host, "/debug/pprof/"); code != http.StatusNotFound {
		t.Errorf("on the metrics listener: %d", code)
	}
}

func TestVersion_fieldsAndOrder(t *testing.T) {
	f := start(t, "http", nil)
	_, body, _ := get(t, http.MethodGet, f.addr(), "/version")
	if want := `{"etcdserver":"3.7.1","etcdcluster":"3.7.0","storage":"3.7.0","conclave":"0.1.0"}`; body != want {
		t.Errorf("got %s, want %s", body, want)
	}
	unknown := notDecided
	f.backend.version.Store(&unknown)
	_, body, _ = get(t, http.MethodGet, f.addr(), "/version")
	if want := `{"etcdserver":"3.7.1","etcdcluster":"not_decided","storage":"unknown","conclave":"0.1.0"}`; body != want {
		t.Errorf("got %s, want %s", body, want)
	}
}
