package testcluster_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/conclave-kv/conclave/daemon"
	"github.com/conclave-kv/conclave/internal/testcluster"
)

// The tests here are named after advisories about etcd, and make the attack in each
// of the ways in which clients ask.

// attacked is a member with the users of setUpUsers, on which authentication is on.
type attacked struct {
	t     *testing.T
	c     *testcluster.Cluster
	url   string
	certs map[string]*tls.Config
	conns map[string]*grpc.ClientConn
}

// newAttacked makes one, with a value of --auth-token.
func newAttacked(t *testing.T, tokens string) *attacked {
	c := testcluster.Start(t, 1, testcluster.Options{Secure: true, Configure: func(_ int, cfg *daemon.Config) { cfg.AuthToken = tokens }})
	setUpUsers(t, secureClient(t, c, "admin"))
	return &attacked{t: t, c: c, url: c.Members[0].ClientURL, certs: map[string]*tls.Config{}, conns: map[string]*grpc.ClientConn{}}
}

// cert is the TLS setting of a certificate of that name.
func (a *attacked) cert(name string) *tls.Config {
	if a.certs[name] == nil {
		a.certs[name] = a.c.ClientTLS(name)
	}
	return a.certs[name]
}

func (a *attacked) conn(name string) *grpc.ClientConn {
	a.t.Helper()
	if a.conns[name] == nil {
		conn, err := grpc.NewClient(strings.TrimPrefix(a.url, "https://"), grpc.WithTransportCredentials(credentials.NewTLS(a.cert(name))))
		if err != nil {
			a.t.Fatal(err)
		}
		a.t.Cleanup(func() { _ = conn.Close() })
		a.conns[name] = conn
	}
	return a.conns[name]
}

// ways are how a user asks: with a token or a certificate, over gRPC or JSON. The
// certificate beside a token is of nobody's name.
func (a *attacked) ways() map[string]func(user, method, path string, req proto.Message) (answer string, err error) {
	overGRPC := func(ctx context.Context, cert, method string, req proto.Message) (string, error) {
		resp := answerOf(a.t, method)
		err := a.conn(cert).Invoke(ctx, method, req, resp)
		return protojson.Format(resp), err
	}
	overJSON := func(token, cert, path string, req proto.Message) (string, error) {
		code, answer := post(a.t, a.cert(cert), a.url, path, token, protojson.Format(req))
		if code != http.StatusOK {
			return "", errors.New(answer)
		}
		return answer, nil
	}
	const nobody = "nobody"
	return map[string]func(user, method, path string, req proto.Message) (string, error){
		"token": func(user, method, _ string, req proto.Message) (string, error) {
			return overGRPC(bearing(within(a.t), login(a.t, a.conn(nobody), user)), nobody, method, req)
		},
		"certificate": func(user, method, _ string, req proto.Message) (string, error) {
			return overGRPC(within(a.t), user, method, req)
		},
		"token, JSON": func(user, _, path string, req proto.Message) (string, error) {
			return overJSON(login(a.t, a.conn(nobody), user), nobody, path, req)
		},
		"certificate, JSON": func(user, _, path string, req proto.Message) (string, error) {
			return overJSON("", user, path, req)
		},
	}
}

// answerOf makes the message that a method answers with.
func answerOf(t *testing.T, method string) (resp proto.Message) {
	t.Helper()
	services(func(m string, d protoreflect.MethodDescriptor) {
		if m == method {
			resp = dynamicpb.NewMessage(d.Output())
		}
	})
	if resp == nil {
		t.Fatalf("there is no method %s", method)
	}
	return resp
}

// call is a request by both of its names.
type call struct {
	method, path string
	req          proto.Message
}

var (
	kvTxn = func(r *pb.TxnRequest) call { return call{pb.KV_Txn_FullMethodName, "/v3/kv/txn", r} }
	kvPut = func(r *pb.PutRequest) call { return call{pb.KV_Put_FullMethodName, "/v3/kv/put", r} }
)

// refused makes calls of a user in all ways, which must be denied.
func (a *attacked) refused(user string, calls ...call) {
	a.t.Helper()
	for way, ask := range a.ways() {
		for _, c := range calls {
			if answer, err := ask(user, c.method, c.path, c.req); err == nil || !strings.Contains(err.Error(), "permission denied") {
				a.t.Errorf("%s of %s, %s: %s, %v", c.path, user, way, answer, err)
			}
		}
	}
}

// allowed makes calls that must be answered.
func (a *attacked) allowed(user string, calls ...call) {
	a.t.Helper()
	for way, ask := range a.ways() {
		for _, c := range calls {
			if _, err := ask(user, c.method, c.path, c.req); err != nil {
				a.t.Errorf("%s of %s, %s: %v", c.path, user, way, err)
			}
		}
	}
}

// asRoot makes a call that has to work.
func (a *attacked) asRoot(c call) {
	a.t.Helper()
	if _, err := a.ways()["certificate"]("root", c.method, c.path, c.req); err != nil {
		a.t.Fatal(err)
	}
}

func txnOf(ops ...*pb.RequestOp) *pb.TxnRequest { return &pb.TxnRequest{Success: ops} }

func readsOp(key string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte(key)}}}
}

func putsOp(r *pb.PutRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: r}}
}

func deletesOp(r *pb.DeleteRangeRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: r}}
}

func inside(r *pb.TxnRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: r}}
}

// A nested transaction reached keys that its user had no right to.
func TestCVE202633343_nestedTransaction(t *testing.T) { nestedTransaction(newAttacked(t, "simple")) }

func nestedTransaction(a *attacked) {
	deep := txnOf(readsOp("secret"))
	for range 3 {
		deep = &pb.TxnRequest{Failure: []*pb.RequestOp{inside(deep)}}
	}
	compared := txnOf(inside(&pb.TxnRequest{Compare: []*pb.Compare{{Key: []byte("secret"), Result: pb.Compare_GREATER}}}))
	a.refused("alice",
		kvTxn(txnOf(inside(txnOf(readsOp("secret"))))), kvTxn(deep), kvTxn(compared),
		kvTxn(txnOf(putsOp(&pb.PutRequest{Key: []byte("a/1")}), inside(txnOf(putsOp(&pb.PutRequest{Key: []byte("secret")}))))),
		kvTxn(txnOf(inside(txnOf(deletesOp(&pb.DeleteRangeRequest{Key: []byte("a/"), RangeEnd: []byte("b")}))))),
	)
	a.allowed("alice", kvTxn(txnOf(inside(txnOf(readsOp("a/1"))))))
}

// What a key had before was told to who may only write it.
func TestPR21681_prevKVInTransaction(t *testing.T) { prevKVInTransaction(newAttacked(t, "simple")) }

func prevKVInTransaction(a *attacked) {
	a.asRoot(call{pb.Auth_RoleGrantPermission_FullMethodName, "", &pb.AuthRoleGrantPermissionRequest{Name: "a", Perm: &authpb.Permission{PermType: authpb.Permission_WRITE, Key: []byte("blind")}}})
	blind := []byte("blind")
	a.allowed("alice", kvTxn(txnOf(putsOp(&pb.PutRequest{Key: blind}))))
	a.refused("alice",
		kvPut(&pb.PutRequest{Key: blind, PrevKv: true}),
		kvTxn(txnOf(putsOp(&pb.PutRequest{Key: blind, PrevKv: true}))), kvTxn(txnOf(deletesOp(&pb.DeleteRangeRequest{Key: blind, PrevKv: true}))),
		call{pb.KV_DeleteRange_FullMethodName, "/v3/kv/deleterange", &pb.DeleteRangeRequest{Key: blind, PrevKv: true}},
	)
}

// A key could be attached, in a transaction, to a lease whose other keys the user
// may not write, and the lease then revoked.
func TestPR21685_leaseInTransaction(t *testing.T) { leaseInTransaction(newAttacked(t, "simple")) }

func leaseInTransaction(a *attacked) {
	a.asRoot(call{pb.Lease_LeaseGrant_FullMethodName, "", &pb.LeaseGrantRequest{ID: 7, TTL: 1000}})
	a.asRoot(kvPut(&pb.PutRequest{Key: []byte("secret"), Lease: 7}))
	attach := &pb.PutRequest{Key: []byte("a/1"), Lease: 7}
	revoke := &pb.LeaseRevokeRequest{ID: 7}
	a.refused("alice", kvPut(attach), kvTxn(txnOf(putsOp(attach))), kvTxn(txnOf(inside(txnOf(putsOp(attach))))),
		call{pb.Lease_LeaseRevoke_FullMethodName, "/v3/lease/revoke", revoke}, call{pb.Lease_LeaseRevoke_FullMethodName, "/v3/kv/lease/revoke", revoke})
}

// LeaseTimeToLive told the names of keys to anybody.
func TestCVE202332082_leaseTimeToLive(t *testing.T) { leaseTimeToLive(newAttacked(t, "simple")) }

func leaseTimeToLive(a *attacked) {
	a.asRoot(call{pb.Lease_LeaseGrant_FullMethodName, "", &pb.LeaseGrantRequest{ID: 8, TTL: 1000}})
	a.asRoot(kvPut(&pb.PutRequest{Key: []byte("secret"), Lease: 8}))
	ask := func(keys bool) call {
		return call{pb.Lease_LeaseTimeToLive_FullMethodName, "/v3/lease/timetolive", &pb.LeaseTimeToLiveRequest{ID: 8, Keys: keys}}
	}
	a.refused("poor", ask(true))
	a.refused("alice", ask(true), call{pb.Lease_LeaseLeases_FullMethodName, "/v3/lease/leases", &pb.LeaseLeasesRequest{}})
	a.allowed("alice", ask(false))
	a.allowed("root", ask(true))
}

// Leases, alarms, compactions and the list of members needed no authentication. The
// first remedy then kept ordinary users from finding the members.
func TestCVE202633413_callsWithoutAuthentication(t *testing.T) {
	callsWithoutAuthentication(newAttacked(t, "simple"))
}

func callsWithoutAuthentication(a *attacked) {
	admin := []call{
		{pb.KV_Compact_FullMethodName, "/v3/kv/compaction", &pb.CompactionRequest{Revision: 1}},
		{pb.Maintenance_Alarm_FullMethodName, "/v3/maintenance/alarm", &pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, Alarm: pb.AlarmType_NOSPACE}},
		{pb.Maintenance_Defragment_FullMethodName, "/v3/maintenance/defragment", &pb.DefragmentRequest{}},
		{pb.Maintenance_HashKV_FullMethodName, "/v3/maintenance/hashkv", &pb.HashKVRequest{}},
		{pb.Maintenance_MoveLeader_FullMethodName, "/v3/maintenance/transfer-leadership", &pb.MoveLeaderRequest{}},
		{pb.Cluster_MemberAdd_FullMethodName, "/v3/cluster/member/add", &pb.MemberAddRequest{PeerURLs: []string{"https://h:1"}}},
		{pb.Cluster_MemberRemove_FullMethodName, "/v3/cluster/member/remove", &pb.MemberRemoveRequest{ID: 1}},
		{pb.Auth_UserAdd_FullMethodName, "/v3/auth/user/add", &pb.AuthUserAddRequest{Name: "eve"}},
		{pb.Auth_AuthDisable_FullMethodName, "/v3/auth/disable", &pb.AuthDisableRequest{}},
	}
	user := []call{
		{pb.Lease_LeaseGrant_FullMethodName, "/v3/lease/grant", &pb.LeaseGrantRequest{TTL: 100}},
		{pb.Maintenance_Alarm_FullMethodName, "/v3/maintenance/alarm", &pb.AlarmRequest{}},
		{pb.Maintenance_Status_FullMethodName, "/v3/maintenance/status", &pb.StatusRequest{}},
		{pb.Cluster_MemberList_FullMethodName, "/v3/cluster/member/list", &pb.MemberListRequest{}},
	}
	a.refused("alice", admin...)
	a.allowed("poor", user...)
	for _, c := range append(admin, user...) { // with a certificate of no user
		err := a.conn("stranger").Invoke(within(a.t), c.method, c.req, answerOf(a.t, c.method))
		if text := status.Convert(err).Message(); !strings.Contains(text, "permission denied") && !strings.Contains(text, "user name not found") {
			a.t.Errorf("%s of a stranger: %v", c.method, err)
		}
		if code, answer := post(a.t, a.cert("stranger"), a.url, c.path, "", protojson.Format(c.req)); code == http.StatusOK {
			a.t.Errorf("%s of a stranger: %s", c.path, answer)
		}
	}
}

// A watch from a key on, without an end, was allowed to who may read that key.
func TestCVE202673499_openEndedWatch(t *testing.T) { openEndedWatch(newAttacked(t, "simple")) }

func openEndedWatch(a *attacked) {
	const nobody = "nobody"
	token := login(a.t, a.conn(nobody), "alice")
	for end, want := range map[string]bool{"": true, "\x00": false, "shared\x00": true, "shared\x00\x00": false, "t": false} {
		ask := &pb.WatchCreateRequest{Key: []byte("shared"), RangeEnd: []byte(end)}
		for way, said := range map[string]string{
			"token": a.watch(nobody, token, ask), "certificate": a.watch("alice", "", ask),
			"token, JSON": a.watchJSON(nobody, token, ask), "certificate, JSON": a.watchJSON("alice", "", ask),
		} {
			if strings.Contains(said, "permission denied") == want {
				a.t.Errorf("end %q, %s: %s", end, way, said)
			}
		}
	}
}

// watch is the first answer to the making of a watch, as text.
func (a *attacked) watch(cert, token string, r *pb.WatchCreateRequest) string {
	a.t.Helper()
	ctx := within(a.t)
	if token != "" {
		ctx = bearing(ctx, token)
	}
	watch, err := pb.NewWatchClient(a.conn(cert)).Watch(ctx)
	if err == nil {
		err = watch.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: r}})
	}
	if err != nil {
		a.t.Fatal(err)
	}
	resp, err := watch.Recv()
	if err != nil {
		a.t.Fatal(err)
	}
	return resp.String()
}

// watchJSON is the same of the gateway.
func (a *attacked) watchJSON(cert, token string, r *pb.WatchCreateRequest) string {
	a.t.Helper()
	ctx, cancel := context.WithCancel(within(a.t)) // the stream stays open
	defer cancel()
	body := protojson.Format(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: r}})
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.url+"/v3/watch", strings.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", token)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: a.cert(cert)}}
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	if err != nil {
		a.t.Fatal(err)
	}
	defer resp.Body.Close()
	line, err := bufio.NewReader(resp.Body).ReadString('\n')
	if err != nil {
		a.t.Fatal(err)
	}
	return line
}

// The JSON gateway asked with the server's own certificate, and so as a user.
func TestCVE201816886_gatewayHasNoIdentity(t *testing.T) {
	a := newAttacked(t, "simple")
	for header, value := range map[string]string{"Grpc-Metadata-Conclave-Caller": "1", "Conclave-Caller": "1", "Grpc-Metadata-Grpcgateway-Accept": "x", "X": "x"} {
		req, err := http.NewRequestWithContext(within(t), http.MethodPost, a.url+"/v3/auth/user/list", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set(header, value)
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: a.cert("poor")}}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		client.CloseIdleConnections()
		if resp.StatusCode != http.StatusForbidden {
			t.Errorf("%s: %s", header, resp.Status)
		}
	}
}

// A page of another origin has its visitor's browser write, with the visitor's
// certificate: root's.
func TestCVE20181098_pageOfAnotherOrigin(t *testing.T) {
	a := newAttacked(t, "simple")
	for _, headers := range []map[string]string{
		{"Origin": "https://evil.example", "Content-Type": "text/plain"},
		{"Origin": "https://evil.example", "Content-Type": "application/json"},
		{"Sec-Fetch-Site": "cross-site", "Content-Type": "application/x-www-form-urlencoded"},
		{"Origin": "null", "Content-Type": "application/json"},
	} {
		req, err := http.NewRequestWithContext(within(t), http.MethodPost, a.url+"/v3/kv/put", strings.NewReader(putA))
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range headers {
			req.Header.Set(name, value)
		}
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: a.cert("root")}}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		client.CloseIdleConnections()
		if resp.StatusCode != http.StatusForbidden {
			t.Errorf("%v: %s", headers, resp.Status)
		}
	}
	if r, err := secureClient(t, a.c, "root").Get(within(t), "a/1"); err != nil || len(r.Kvs) != 0 {
		t.Errorf("a page has written: %v, %v", r, err)
	}
}

// There was no least length of passwords.
func TestCVE202015115_leastLengthOfPasswords(t *testing.T) {
	c := testcluster.Start(t, 1, testcluster.Options{Configure: func(_ int, cfg *daemon.Config) { cfg.AuthMinPasswordLength = 8 }})
	cl := client(t, c.Members[0].ClientURL)
	for password, want := range map[string]bool{"": false, "1234567": false, "12345678": true} {
		_, err := cl.UserAdd(within(t), "u"+password, password)
		if (err == nil) != want || err != nil && !strings.Contains(err.Error(), "--auth-min-password-length") {
			t.Errorf("%q: %v", password, err)
		}
	}
	if _, err := cl.UserChangePassword(within(t), "u12345678", "short"); err == nil {
		t.Error("a short password took the place of one that is long enough")
	}
}

// lines is a log that may be written and read at once.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Passwords could be read on debug pages (CVE-2021-28235) and in logs
// (GHSA-528j-9r78-wffx), tokens in logs (PR 20941, PR 21993). Here they are nowhere:
// not in any log line, page, or file, the replicated log among them.
func TestCVE202128235_passwordsAreNowhere(t *testing.T) {
	var log lines
	c := testcluster.Start(t, 1, testcluster.Options{Log: &log, Configure: func(_ int, cfg *daemon.Config) {
		cfg.EnablePprof, cfg.LogLevel = true, "debug"
	}})
	url := c.Members[0].ClientURL
	conn := raw(t, url)
	cl := pb.NewAuthClient(conn)
	setUpUsers(t, client(t, url))
	secrets := []string{"first-secret-of-eve", "second-secret-of-eve", "wrong-secret-of-eve"}
	root := bearing(within(t), login(t, conn, "root"))
	if _, err := cl.UserAdd(root, &pb.AuthUserAddRequest{Name: "eve", Password: secrets[0]}); err != nil {
		t.Fatal(err)
	}
	if _, err := cl.UserChangePassword(root, &pb.AuthUserChangePasswordRequest{Name: "eve", Password: secrets[1]}); err != nil {
		t.Fatal(err)
	}
	if _, err := cl.Authenticate(within(t), &pb.AuthenticateRequest{Name: "eve", Password: secrets[2]}); err == nil {
		t.Fatal("a wrong password is right")
	}
	resp, err := cl.Authenticate(within(t), &pb.AuthenticateRequest{Name: "eve", Password: secrets[1]})
	if err != nil {
		t.Fatal(err)
	}
	secrets = append(secrets, resp.Token)
	_, _ = cl.UserList(bearing(within(t), resp.Token), &pb.AuthUserListRequest{})
	_, _ = cl.UserList(bearing(within(t), "x"+resp.Token), &pb.AuthUserListRequest{})
	found := func(where, text string) {
		t.Helper()
		for _, s := range secrets {
			if strings.Contains(text, s) {
				t.Errorf("%q is in %s", s, where)
			}
		}
	}
	for _, page := range []string{"/debug/vars", "/debug/requests", "/debug/events", "/debug/pprof/goroutine?debug=2", "/debug/pprof/cmdline", "/metrics"} {
		answer, err := http.Get(url + page)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		found(page, string(text))
	}
	c.Stop()
	if !strings.Contains(log.String(), "request stats") || !strings.Contains(log.String(), "a login failed") {
		t.Error("the log does not tell what was asked")
	}
	found("the log", log.String())
	files := 0
	err = filepath.WalkDir(c.Members[0].Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files++
		text, err := os.ReadFile(path)
		found(path, string(text))
		return err
	})
	if err != nil || files < 4 {
		t.Error(files, err)
	}
}
