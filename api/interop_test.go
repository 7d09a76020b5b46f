//go:build interop

package api

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// etcdctl runs the real one, built by `make interop-programs`.
func (f *fixture) etcdctl(t *testing.T, endpoint string, args ...string) (string, error) {
	t.Helper()
	bin, err := filepath.Abs("../bin/interop/etcdctl")
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	all := []string{"--endpoints", endpoint, "--command-timeout", "5s"}
	if strings.HasPrefix(endpoint, "https") {
		d := f.pki.dir
		all = append(all, "--cacert", filepath.Join(d, "ca.pem"), "--cert", filepath.Join(d, "cert.pem"), "--key", filepath.Join(d, "key.pem"))
	}
	out, err := exec.CommandContext(ctx, bin, append(all, args...)...).CombinedOutput()
	return string(out), err
}

func TestEtcdctl_everyListener(t *testing.T) {
	f := start(t, "http https", nil)
	for _, u := range f.urls {
		for _, c := range []struct {
			args []string
			want string
		}{
			{[]string{"put", "foo", u.Scheme}, "OK\n"},
			{[]string{"get", "foo"}, "foo\n" + u.Scheme + "\n"},
			{[]string{"get", "foo", "-w", "json"}, `"member_id":7`},
			{[]string{"del", "foo"}, "1\n"},
			{[]string{"compaction", "2"}, "compacted revision 2\n"},
			{[]string{"member", "list"}, "7, started, m1"},
			{[]string{"endpoint", "health"}, "is healthy"},
			{[]string{"endpoint", "status"}, "3.7.1"},
			{[]string{"alarm", "list"}, ""},
		} {
			out, err := f.etcdctl(t, u.String(), c.args...)
			if err != nil || !strings.Contains(out, c.want) {
				t.Errorf("%s over %s: %v\n%s", c.args, u.Scheme, err, out)
			}
		}
	}
}

func TestEtcdctl_errorTexts(t *testing.T) {
	f := start(t, "http", nil)
	f.backend.raise(pb.AlarmType_NOSPACE)
	u := f.urls[0].String()
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"get", "foo", "--rev", "99"}, "etcdserver: mvcc: required revision is a future revision"},
		{[]string{"lease", "grant", "9000000001"}, "etcdserver: too large lease TTL"},
		{[]string{"member", "promote", "8"}, "etcdserver: can only promote a learner member which is in sync with leader"},
	} {
		out, err := f.etcdctl(t, u, c.args...)
		if err == nil || !strings.Contains(out, c.want) {
			t.Errorf("%s: %v\n%s", c.args, err, out)
		}
	}
	if out, err := f.etcdctl(t, u, "alarm", "list"); err != nil || !strings.Contains(out, "memberID:7") || !strings.Contains(out, "alarm:NOSPACE") {
		t.Errorf("alarm list: %v\n%s", err, out)
	}
}

// TestOpenssl_handshake lets another TLS implementation look at the port.
func TestOpenssl_handshake(t *testing.T) {
	bin, err := exec.LookPath("openssl")
	if err != nil {
		t.Fatal("openssl is not installed (Debian: openssl)")
	}
	f := start(t, "https", nil)
	d := f.pki.dir
	for _, c := range []struct {
		alpn, version, want string
	}{
		{"h2", "-tls1_3", "ALPN protocol: h2"},
		{"http/1.1", "-tls1_2", "ALPN protocol: http/1.1"},
		{"h2,http/1.1", "-tls1_3", "ALPN protocol: h2"},
		{"spdy/3", "-tls1_3", "no application protocol"},
		{"h2", "-tls1_1", "alert"},
	} {
		out, _ := exec.CommandContext(t.Context(), bin, "s_client", "-connect", f.addr(), "-alpn", c.alpn, c.version,
			"-cipher", "DEFAULT@SECLEVEL=0", "-verify_return_error",
			"-CAfile", filepath.Join(d, "ca.pem"), "-cert", filepath.Join(d, "cert.pem"), "-key", filepath.Join(d, "key.pem")).CombinedOutput()
		if !strings.Contains(string(out), c.want) {
			t.Errorf("%s %s: no %q in\n%s", c.version, c.alpn, c.want, out)
		}
	}
}
