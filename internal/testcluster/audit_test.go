package testcluster_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/conclave-kv/conclave/audit"
	"github.com/conclave-kv/conclave/daemon"
	"github.com/conclave-kv/conclave/internal/conclavepb"
	"github.com/conclave-kv/conclave/internal/testcluster"
)

// audited starts members that record at a level, each into its own file, whose
// name is that of the first with its index.
func audited(t *testing.T, n int, level string, opts testcluster.Options) (c *testcluster.Cluster, file func(i int) string) {
	t.Helper()
	dir := t.TempDir()
	file = func(i int) string { return filepath.Join(dir, fmt.Sprintf("audit%d.log", i)) }
	before := opts.Configure
	opts.Configure = func(i int, cfg *daemon.Config) {
		if before != nil {
			before(i, cfg)
		}
		cfg.AuditLog, cfg.AuditLevel, cfg.AuditAnchorInterval, cfg.AuditFailClosed = file(i), level, 100*time.Millisecond, true
	}
	return testcluster.Start(t, n, opts), file
}

// recorded are the records of a file, as fields.
func recorded(t *testing.T, name string) (out []map[string]any, text string) {
	t.Helper()
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		var r map[string]any
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		out = append(out, r)
	}
	return out, string(raw)
}

// has reports whether there is a record with these fields: name and text in turn, as
// fmt prints it, and - for a field that must not be there.
func has(records []map[string]any, fields ...string) bool {
	for _, r := range records {
		fits := true
		for i := 0; i < len(fields); i += 2 {
			v, there := r[fields[i]]
			fits = fits && (fields[i+1] == "-" && !there || there && fmt.Sprint(v) == fields[i+1])
		}
		if fits {
			return true
		}
	}
	return false
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// secrets are what no record may hold: values, passwords, tokens.
const (
	secretValue    = "the-value-of-a-key"
	secretPassword = "the-password-of-carol"
)

// Each request is recorded once it is answered: who, how that was proven, from
// where, what about, and what became of it. Values and secrets are not.
func TestAudit_whatIsRecorded(t *testing.T) {
	c, file := audited(t, 1, "all", testcluster.Options{})
	url := c.Members[0].ClientURL
	ctx := within(t)
	open := client(t, url)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := open.Put(ctx, "before", secretValue)
	must(err)
	setUpUsers(t, open)
	root, alice := userClient(t, "root", url), userClient(t, "alice", url)
	_, err = root.UserAdd(ctx, "carol", secretPassword)
	must(err)
	_, err = alice.Put(ctx, "a/1", secretValue)
	must(err)
	_, err = alice.Get(ctx, "a/", clientv3.WithPrefix())
	must(err)
	_, err = alice.Txn(ctx).If(clientv3.Compare(clientv3.Value("a/1"), "=", secretValue)).
		Then(clientv3.OpPut("a/2", secretValue), clientv3.OpTxn(nil, []clientv3.Op{clientv3.OpDelete("a/3", clientv3.WithPrefix())}, nil)).
		Else(clientv3.OpGet("a/4")).Commit()
	must(err)
	_, err = alice.Put(ctx, "b/1", secretValue)
	if err == nil {
		t.Fatal("alice writes what she may not")
	}
	_, err = alice.Txn(ctx).Then(clientv3.OpPut("b/2", secretValue)).Commit()
	if err == nil {
		t.Fatal("alice writes in a transaction what she may not")
	}
	_, err = client(t, url).Get(ctx, "a/1")
	if err == nil {
		t.Fatal("nobody reads")
	}
	grant, err := alice.Grant(ctx, 60)
	must(err)
	_, err = alice.Put(ctx, "a/leased", secretValue, clientv3.WithLease(grant.ID))
	must(err)
	_, err = alice.KeepAliveOnce(ctx, grant.ID)
	must(err)
	_, err = alice.Delete(ctx, "a/1")
	must(err)
	_, err = root.RoleGrantPermission(ctx, "a", "c/", "c0", clientv3.PermissionType(clientv3.PermRead))
	must(err)
	login, err := root.Authenticate(ctx, "carol", secretPassword)
	must(err)
	if _, err := root.Authenticate(ctx, "carol", "not "+secretPassword); err == nil {
		t.Fatal("a wrong password logs in")
	}
	watch, stop := context.WithCancel(ctx)
	for _, key := range []string{"a/w", "b/w"} {
		<-alice.Watch(watch, key, clientv3.WithCreatedNotify())
	}
	stop()
	session, err := concurrency.NewSession(alice)
	must(err)
	must(session.Close())
	snapshot, err := root.Snapshot(ctx)
	must(err)
	_, err = io.Copy(io.Discard, snapshot)
	must(err)
	must(snapshot.Close())
	token := login.Token
	if code, _ := post(t, nil, url, "/v3/kv/put", token, `{"key":"`+b64("b/json")+`","value":"`+b64(secretValue)+`"}`); code != http.StatusForbidden {
		t.Fatalf("carol puts: %d", code)
	}
	if code, _ := post(t, nil, url, "/v3/kv/range", "no-such-token", `{"key":"`+b64("a/1")+`"}`); code != http.StatusUnauthorized {
		t.Fatalf("a bad token: %d", code)
	}
	foreign, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/v3/kv/put", strings.NewReader("{}"))
	must(err)
	foreign.Header.Set("Origin", "https://evil.example")
	resp, err := http.DefaultClient.Do(foreign)
	must(err)
	must(resp.Body.Close())
	c.Stop()

	records, text := recorded(t, file(0))
	for _, secret := range []string{secretValue, secretPassword, token, "no-such-token"} {
		if strings.Contains(text, secret) || strings.Contains(text, b64(secret)) {
			t.Errorf("%q is in the log", secret)
		}
	}
	for _, want := range [][]string{
		{"event", "start", "level", "all"}, {"event", "stop"},
		{"rpc", "/etcdserverpb.KV/Put", "key", b64("before"), "user", "-", "proof", "none", "auth", "off", "decision", "allowed", "code", "OK", "revision", "2"},
		{"rpc", "/etcdserverpb.Auth/AuthEnable", "decision", "allowed"},
		{"rpc", "/etcdserverpb.Auth/Authenticate", "user", "alice", "proof", "password", "decision", "allowed"},
		{"rpc", "/etcdserverpb.Auth/UserAdd", "user", "root", "proof", "token", "name", "carol", "auth", "-"},
		{"rpc", "/etcdserverpb.KV/Put", "key", b64("a/1"), "user", "alice", "proof", "token", "decision", "allowed", "revision", "3", "auth", "-", "via", "-"},
		{"rpc", "/etcdserverpb.KV/Range", "key", b64("a/"), "range_end", b64("a0"), "user", "alice", "decision", "allowed", "revision", "3"},
		{"rpc", "/etcdserverpb.KV/Txn", "user", "alice", "decision", "allowed", "succeeded", "true", "revision", "4", "ops", fmt.Sprint([]any{
			map[string]any{"op": "compare", "in": "if", "key": b64("a/1")}, map[string]any{"op": "put", "in": "then", "key": b64("a/2")},
			map[string]any{"op": "delete", "in": "then/then", "key": b64("a/3"), "range_end": b64("a/4")}, map[string]any{"op": "range", "in": "else", "key": b64("a/4")}})},
		{"rpc", "/etcdserverpb.KV/Put", "key", b64("b/1"), "user", "alice", "decision", "denied", "code", "PermissionDenied", "error", "etcdserver: permission denied", "revision", "-"},
		{"rpc", "/etcdserverpb.KV/Txn", "user", "alice", "decision", "denied", "ops", fmt.Sprint([]any{map[string]any{"op": "put", "in": "then", "key": b64("b/2")}})},
		{"rpc", "/etcdserverpb.KV/Range", "key", b64("a/1"), "user", "-", "proof", "none", "decision", "denied", "code", "InvalidArgument"},
		{"rpc", "/etcdserverpb.Lease/LeaseGrant", "user", "alice", "granted", fmt.Sprint(float64(grant.ID)), "ttl", "60"},
		{"rpc", "/etcdserverpb.Lease/LeaseKeepAlive", "user", "alice", "decision", "allowed"},
		{"rpc", "/etcdserverpb.KV/DeleteRange", "key", b64("a/1"), "deleted", "1"},
		{"rpc", "/etcdserverpb.Auth/RoleGrantPermission", "role", "a", "permission", "READ", "key", b64("c/"), "range_end", b64("c0")},
		{"rpc", "/etcdserverpb.Auth/Authenticate", "user", "carol", "proof", "password", "decision", "denied"},
		{"rpc", "/etcdserverpb.Watch/Watch", "key", b64("a/w"), "user", "alice", "decision", "allowed"},
		{"rpc", "/etcdserverpb.Watch/Watch", "key", b64("b/w"), "user", "alice", "decision", "denied"},
		{"rpc", "/etcdserverpb.Maintenance/Snapshot", "user", "root", "decision", "allowed"},
		{"rpc", "/etcdserverpb.KV/Put", "key", b64("b/json"), "user", "carol", "proof", "token", "via", "json", "decision", "denied"},
		{"rpc", "/etcdserverpb.KV/Range", "key", b64("a/1"), "user", "-", "via", "json", "decision", "denied", "code", "Unauthenticated"},
		{"rpc", "POST /v3/kv/put", "decision", "denied", "code", "403"},
	} {
		if !has(records, want...) {
			t.Errorf("no record of %q", want)
		}
	}
	for _, r := range records {
		if _, call := r["rpc"]; call && !strings.HasPrefix(fmt.Sprint(r["remote"]), "127.0.0.1:") {
			t.Errorf("a request from %v", r["remote"])
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}

// At level writes what only reads is not there, unless it is denied; at denied what
// is allowed is not.
func TestAudit_levels(t *testing.T) {
	for level, wants := range map[string]map[string]bool{
		"denied": {"KV/Put allowed": false, "KV/Txn allowed": false, "KV/Range denied": true},
		"writes": {"KV/Put allowed": true, "KV/Txn allowed": true, "KV/Range denied": true},
	} {
		t.Run(level, func(t *testing.T) {
			t.Parallel()
			c, file := audited(t, 1, level, testcluster.Options{})
			url := c.Members[0].ClientURL
			setUpUsers(t, client(t, url))
			alice := userClient(t, "alice", url)
			ctx := within(t)
			for _, op := range []clientv3.Op{
				clientv3.OpPut("a/1", "v"), clientv3.OpGet("a/1"), clientv3.OpGet("b"),
				clientv3.OpTxn(nil, []clientv3.Op{clientv3.OpGet("a/1")}, nil), clientv3.OpTxn(nil, []clientv3.Op{clientv3.OpPut("a/1", "v")}, nil),
			} {
				_, _ = alice.Do(ctx, op)
			}
			c.Stop()
			records, text := recorded(t, file(0))
			for what, want := range wants {
				method, decision, _ := strings.Cut(what, " ")
				if has(records, "rpc", "/etcdserverpb."+method, "decision", decision) != want {
					t.Errorf("%s: want %t in\n%s", what, want, text)
				}
			}
			if has(records, "rpc", "/etcdserverpb.KV/Range", "decision", "allowed") || strings.Count(text, "KV/Txn") > 1 {
				t.Errorf("a read is recorded:\n%s", text)
			}
		})
	}
}

// Every member holds the anchors of every other one, over restarts and leaders, and
// only administrators are told.
func TestAudit_anchoredByAll(t *testing.T) {
	c, file := audited(t, 3, "writes", testcluster.Options{})
	setUpUsersOn(t, c)
	ctx := within(t)
	id := c.Members[1].Daemon.ID()
	if _, err := userClient(t, "alice", c.Members[1].ClientURL).Put(ctx, "a/1", "v"); err != nil {
		t.Fatal(err)
	}
	c.Members[1].Stop()
	c.Members[1].Launch()
	c.Members[1].AwaitReady()
	c.Members[1].Stop()
	for _, i := range []int{0, 2} {
		root := userClient(t, "root", c.Members[i].ClientURL)
		v := &audit.Verifier{Anchors: func(member string) ([]audit.Head, error) {
			r, err := conclavepb.NewAuditClient(root.ActiveConnection()).Anchors(ctx, &conclavepb.AnchorsRequest{Member: id})
			var heads []audit.Head
			for _, a := range r.GetAnchors() {
				heads = append(heads, audit.Head{Seq: a.GetSeq(), Hash: audit.Hash(a.GetHash())})
			}
			return heads, err
		}}
		f, err := os.Open(file(1))
		if err != nil {
			t.Fatal(err)
		}
		if err := v.Read(f.Name(), f); err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
		if sum := v.End(); len(v.Problems) > 0 || sum.Anchored != sum.Last || sum.Last < 5 {
			t.Errorf("member %d: %v, %+v", i, v.Problems, sum)
		}
	}
	cc, err := grpc.NewClient(strings.TrimPrefix(c.Members[0].ClientURL, "http://"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	login, err := client(t, c.Members[0].ClientURL).Authenticate(ctx, "alice", "alice")
	if err != nil {
		t.Fatal(err)
	}
	as := metadata.AppendToOutgoingContext(ctx, "token", login.Token)
	if r, err := conclavepb.NewAuditClient(cc).Anchors(as, &conclavepb.AnchorsRequest{Member: id}); err == nil {
		t.Errorf("alice is told %v", r)
	}
}

// With conclave's own certificates a record names the holder, whether or not there
// are users.
func TestAudit_certificates(t *testing.T) {
	c, file := audited(t, 1, "writes", testcluster.Options{Secure: true})
	alice := secureClient(t, c, "alice")
	ctx := within(t)
	if _, err := alice.Put(ctx, "a/1", "v"); err != nil {
		t.Fatal(err)
	}
	setUpUsers(t, alice)
	if _, err := alice.Put(ctx, "a/2", "v"); err != nil {
		t.Fatal(err)
	}
	if code, _ := post(t, c.ClientTLS("poor"), c.Members[0].ClientURL, "/v3/kv/put", "", `{"key":"`+b64("a/3")+`"}`); code != http.StatusForbidden {
		t.Fatalf("poor puts: %d", code)
	}
	c.Stop()
	records, text := recorded(t, file(0))
	for _, want := range [][]string{
		{"key", b64("a/1"), "user", "alice", "proof", "certificate", "certificate_cn", "alice", "auth", "off"},
		{"key", b64("a/2"), "user", "alice", "proof", "certificate", "certificate_cn", "alice", "auth", "-", "decision", "allowed"},
		{"key", b64("a/3"), "user", "poor", "proof", "certificate", "via", "json", "decision", "denied"},
	} {
		if !has(records, want...) {
			t.Errorf("no record of %q in\n%s", want, text)
		}
	}
	if !strings.Contains(text, `"certificate_uri":"conclave://`) || !strings.Contains(text, `"certificate_serial":"`) {
		t.Error("the certificate is not told apart")
	}
}

// A signed token is told from one that the members remember.
func TestAudit_jwt(t *testing.T) {
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte("a-key-that-nobody-else-has-0123456789"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, file := audited(t, 1, "writes", testcluster.Options{Configure: func(_ int, cfg *daemon.Config) {
		cfg.AuthToken = "jwt,sign-method=HS256,priv-key=" + key
	}})
	setUpUsers(t, client(t, c.Members[0].ClientURL))
	if _, err := userClient(t, "alice", c.Members[0].ClientURL).Put(within(t), "a/1", "v"); err != nil {
		t.Fatal(err)
	}
	c.Stop()
	records, text := recorded(t, file(0))
	if !has(records, "key", b64("a/1"), "user", "alice", "proof", "jwt", "decision", "allowed") || strings.Contains(text, "eyJ") {
		t.Errorf("recorded\n%s", text)
	}
}
