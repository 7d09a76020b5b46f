package testcluster_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/conclave-kv/conclave/daemon"
	"github.com/conclave-kv/conclave/internal/testcluster"
)

// Of users and roles there are root; alice, who may read and write a/ and read
// shared; and poor, who may do nothing. Their passwords are their names.
func setUpUsers(t *testing.T, c *clientv3.Client) {
	t.Helper()
	ctx := within(t)
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, user := range []string{"root", "alice", "poor"} {
		_, err := c.UserAdd(ctx, user, user)
		do(err)
	}
	_, err := c.UserGrantRole(ctx, "root", "root")
	do(err)
	_, err = c.RoleAdd(ctx, "a")
	do(err)
	_, err = c.RoleGrantPermission(ctx, "a", "a/", "a0", clientv3.PermissionType(clientv3.PermReadWrite))
	do(err)
	_, err = c.RoleGrantPermission(ctx, "a", "shared", "", clientv3.PermissionType(clientv3.PermRead))
	do(err)
	_, err = c.UserGrantRole(ctx, "alice", "a")
	do(err)
	_, err = c.AuthEnable(ctx)
	do(err)
}

// setUpUsersOn does it, and returns when every member enforces it: one that has not
// heard of it yet takes no notice of a token, which then is refused where it does
// matter.
func setUpUsersOn(t *testing.T, c *testcluster.Cluster) {
	t.Helper()
	setUpUsers(t, client(t, c.Members[0].ClientURL))
	for _, m := range c.Members {
		if r, err := client(t, m.ClientURL).AuthStatus(within(t)); err != nil || !r.Enabled {
			t.Fatalf("%s: authentication is off: %v, %v", m.ClientURL, r, err)
		}
	}
}

// userClient is etcd's client of a user.
func userClient(t *testing.T, user string, endpoints ...string) *clientv3.Client {
	t.Helper()
	cl, err := clientv3.New(clientv3.Config{Endpoints: endpoints, Username: user, Password: user, DialTimeout: time.Minute, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cl.Close() })
	return cl
}

func TestAuth_usersOnACluster(t *testing.T) {
	c := testcluster.Start(t, 3, testcluster.Options{})
	setUpUsersOn(t, c)
	ctx := within(t)
	for i, m := range c.Members {
		alice := userClient(t, "alice", m.ClientURL)
		if _, err := alice.Put(ctx, fmt.Sprintf("a/%d", i), "v", clientv3.WithPrevKV()); err != nil {
			t.Fatal(err)
		}
		if r, err := alice.Get(ctx, "a/", clientv3.WithPrefix()); err != nil || len(r.Kvs) != i+1 {
			t.Fatal(r, err)
		}
		for what, err := range map[string]error{
			"put":     second(alice.Put(ctx, "b", "v")),
			"shared":  second(alice.Put(ctx, "shared", "v")),
			"get":     second(alice.Get(ctx, "", clientv3.WithPrefix())),
			"delete":  second(alice.Delete(ctx, "a/", clientv3.WithFromKey())),
			"txn":     second(alice.Txn(ctx).Then(clientv3.OpPut("a/x", ""), clientv3.OpGet("b")).Commit()),
			"users":   second(alice.UserList(ctx)),
			"compact": second(alice.Compact(ctx, 2)),
		} {
			if !errors.Is(err, rpctypes.ErrPermissionDenied) {
				t.Errorf("%s through %s: %v", what, m.Name, err)
			}
		}
		if _, err := client(t, m.ClientURL).Get(ctx, "a/1"); !errors.Is(err, rpctypes.ErrUserEmpty) {
			t.Errorf("nobody: %v", err)
		}
		_, err := clientv3.New(clientv3.Config{Endpoints: []string{m.ClientURL}, Username: "alice", Password: "wrong", DialTimeout: time.Minute, Logger: zap.NewNop()})
		if !errors.Is(err, rpctypes.ErrAuthFailed) {
			t.Errorf("a wrong password: %v", err)
		}
	}
	root := userClient(t, "root", c.Endpoints()...)
	if r, err := root.Get(ctx, "", clientv3.WithPrefix()); err != nil || len(r.Kvs) != 3 {
		t.Errorf("root sees %v, %v", r, err)
	}
	if r, err := root.AuthStatus(ctx); err != nil || !r.Enabled || r.AuthRevision != 9 {
		t.Errorf("%v, %v", r, err)
	}
	if equal, state := c.Equal(); !equal {
		t.Error(state)
	}
	if _, err := root.AuthDisable(ctx); err != nil {
		t.Error(err)
	}
	if _, err := client(t, c.Members[0].ClientURL).Get(ctx, "a/1"); err != nil {
		t.Errorf("after authentication was turned off: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }

// raw is a connection without anything that helps.
func raw(t *testing.T, url string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(strings.TrimPrefix(url, "http://"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// login returns a token.
func login(t *testing.T, conn *grpc.ClientConn, user string) string {
	t.Helper()
	r, err := pb.NewAuthClient(conn).Authenticate(within(t), &pb.AuthenticateRequest{Name: user, Password: user})
	if err != nil {
		t.Fatal(err)
	}
	return r.Token
}

func bearing(ctx context.Context, token string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, rpctypes.TokenFieldNameGRPC, token)
}

func services(visit func(method string, d protoreflect.MethodDescriptor)) {
	protoregistry.GlobalFiles.RangeFiles(func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			methods := f.Services().Get(i).Methods()
			for j := range methods.Len() {
				visit(fmt.Sprintf("/%s/%s", f.Services().Get(i).FullName(), methods.Get(j).Name()), methods.Get(j))
			}
		}
		return true
	})
}

// askAny makes any call with an empty request, or one about the key k.
func askAny(ctx context.Context, conn *grpc.ClientConn, method string, d protoreflect.MethodDescriptor) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	req := dynamicpb.NewMessage(d.Input())
	if key := d.Input().Fields().ByName("key"); key != nil && key.Kind() == protoreflect.BytesKind {
		req.Set(key, protoreflect.ValueOfBytes([]byte("k")))
	}
	if !d.IsStreamingClient() && !d.IsStreamingServer() {
		return conn.Invoke(ctx, method, req, dynamicpb.NewMessage(d.Output()))
	}
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method)
	if err != nil {
		return err
	}
	if method == pb.Watch_Watch_FullMethodName {
		create := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{Key: []byte("k")}}}
		if err := stream.SendMsg(create); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		var resp pb.WatchResponse
		if err := stream.RecvMsg(&resp); err != nil || !resp.Canceled {
			return err
		}
		return errors.New(resp.CancelReason)
	}
	if err := stream.SendMsg(req); err != nil && !errors.Is(err, io.EOF) { // io.EOF: it was refused already, RecvMsg tells why
		return err
	}
	if !d.IsStreamingClient() {
		if err := stream.CloseSend(); err != nil {
			return err
		}
	}
	err = stream.RecvMsg(dynamicpb.NewMessage(d.Output()))
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// TestAuth_everyCallIsDecided makes every call of every service, as nobody and as a
// user who has no rights.
func TestAuth_everyCallIsDecided(t *testing.T) {
	c := testcluster.Start(t, 1, testcluster.Options{})
	setUpUsers(t, client(t, c.Members[0].ClientURL))
	conn := raw(t, c.Members[0].ClientURL)
	poor := login(t, conn, "poor")
	open := []string{"Check", "List", "AuthStatus", "Authenticate"}
	anyUser := []string{"Txn", "LeaseGrant", "LeaseRevoke", "LeaseKeepAlive", "LeaseTimeToLive", "LeaseLeases", "MemberList", "Alarm", "Status", "Raft", "Proclaim", "Resign"}
	asked := 0
	services(func(method string, d protoreflect.MethodDescriptor) {
		if strings.HasPrefix(method, "/grpc.health.v1.Health/Watch") {
			return
		}
		name := string(d.Name())
		err := askAny(within(t), conn, method, d)
		if status.Code(err) == codes.Unimplemented {
			return // a service that is not on
		}
		asked++
		denied := err != nil && strings.Contains(err.Error(), "user name is empty")
		if want := !slices.Contains(open, name); denied != want {
			t.Errorf("%s of nobody: %v", method, err)
		}
		err = askAny(bearing(within(t), poor), conn, method, d)
		denied = err != nil && strings.Contains(err.Error(), "permission denied")
		if want := !slices.Contains(open, name) && !slices.Contains(anyUser, name); denied != want {
			t.Errorf("%s of a user without rights: %v", method, err)
		}
		if err := askAny(bearing(within(t), "forged"), conn, method, d); !slices.Contains(open, name) && (err == nil || !strings.Contains(err.Error(), "invalid auth token")) {
			t.Errorf("%s with a token that is none: %v", method, err)
		}
	})
	if asked < 42 {
		t.Errorf("%d calls were made", asked)
	}
}

// post makes a call of the JSON gateway.
func post(t *testing.T, settings *tls.Config, url, path, token, body string) (code int, answer string) {
	t.Helper()
	req, err := http.NewRequestWithContext(within(t), http.MethodPost, url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", token)
	}
	transport := &http.Transport{TLSClientConfig: settings}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

const (
	getA      = `{"key":"YS8x"}`                // a/1
	getB      = `{"key":"Yg=="}`                // b
	putA      = `{"key":"YS8x","value":"dg=="}` // a/1
	rangePath = "/v3/kv/range"
)

func TestAuth_gateway(t *testing.T) {
	c := testcluster.Start(t, 1, testcluster.Options{})
	url := c.Members[0].ClientURL
	setUpUsers(t, client(t, url))
	code, answer := post(t, nil, url, "/v3/auth/authenticate", "", `{"name":"alice","password":"alice"}`)
	_, token, found := strings.Cut(answer, `"token":"`)
	token, _, _ = strings.Cut(token, `"`)
	if code != http.StatusOK || !found {
		t.Fatal(code, answer)
	}
	for _, c := range []struct {
		path, token, body string
		code              int
		want              string
	}{
		{"/v3/kv/put", token, putA, http.StatusOK, `"header"`},
		{"/v3/kv/put", "Bearer " + token, putA, http.StatusOK, `"header"`},
		{rangePath, token, getA, http.StatusOK, `"kvs"`},
		{rangePath, token, getB, http.StatusForbidden, "permission denied"},
		{rangePath, "", getA, http.StatusBadRequest, "user name is empty"},
		{rangePath, "x" + token, getA, http.StatusUnauthorized, "invalid auth token"},
		{"/v3/auth/user/list", token, "{}", http.StatusForbidden, "permission denied"},
		{"/v3/auth/status", "", "{}", http.StatusOK, `"enabled":true`},
		{"/v3/maintenance/snapshot", token, "{}", http.StatusForbidden, "permission denied"},
		{"/v3/lease/leases", "", "{}", http.StatusBadRequest, "user name is empty"},
	} {
		if code, answer := post(t, nil, url, c.path, c.token, c.body); code != c.code || !strings.Contains(answer, c.want) {
			t.Errorf("%s %s: %d %s", c.path, c.body, code, answer)
		}
	}
	resp, err := http.Get(url + "/health")
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("/health: %v, %v", resp, err)
	}
	_ = resp.Body.Close()
}

// With a certificate, its common name is the user, over gRPC and JSON alike; with a
// token as well, the token counts.
func TestAuth_certificateNames(t *testing.T) {
	c := testcluster.Start(t, 1, testcluster.Options{Secure: true})
	url := c.Members[0].ClientURL
	setUpUsers(t, secureClient(t, c, "whoever"))
	ctx := within(t)
	alice := secureClient(t, c, "alice")
	if _, err := alice.Put(ctx, "a/1", "v"); err != nil {
		t.Fatal(err)
	}
	if _, err := alice.Put(ctx, "b", "v"); !errors.Is(err, rpctypes.ErrPermissionDenied) {
		t.Error(err)
	}
	if _, err := secureClient(t, c, "stranger").Get(ctx, "a/1"); !errors.Is(err, rpctypes.ErrPermissionDenied) {
		t.Errorf("a certificate of no user: %v", err)
	}
	root := secureClient(t, c, "root")
	if _, err := root.UserList(ctx); err != nil {
		t.Error(err)
	}
	for user, want := range map[string]int{"alice": http.StatusOK, "poor": http.StatusForbidden, "stranger": http.StatusForbidden} {
		if code, answer := post(t, c.ClientTLS(user), url, rangePath, "", getA); code != want {
			t.Errorf("JSON of %s: %d %s", user, code, answer)
		}
	}
	_, answer := post(t, c.ClientTLS("root"), url, "/v3/auth/authenticate", "", `{"name":"poor","password":"poor"}`)
	_, token, _ := strings.Cut(answer, `"token":"`)
	token, _, _ = strings.Cut(token, `"`)
	if code, answer := post(t, c.ClientTLS("root"), url, rangePath, token, getA); code != http.StatusForbidden {
		t.Errorf("root's certificate with a token of poor: %d %s", code, answer)
	}
	// A change of the user's rights needs no new proof: the certificate is one.
	if _, err := root.UserGrantRole(ctx, "poor", "a"); err != nil {
		t.Fatal(err)
	}
	if _, err := secureClient(t, c, "poor").Put(ctx, "a/2", "v"); err != nil {
		t.Error(err)
	}
}

// With --client-cert-user uri the certificate's URI is the user, over gRPC and JSON
// alike, and not its common name.
func TestAuth_certificateURIs(t *testing.T) {
	c := testcluster.Start(t, 1, testcluster.Options{Secure: true, Configure: func(_ int, cfg *daemon.Config) { cfg.ClientCertUser = "uri" }})
	certificate, err := x509.ParseCertificate(c.ClientTLS("poor").Certificates[0].Certificate[0])
	if err != nil || len(certificate.URIs) != 1 || certificate.Subject.CommonName != "poor" {
		t.Fatalf("%v, %v", certificate, err)
	}
	admin := secureClient(t, c, "admin")
	user := certificate.URIs[0].String()
	if _, err := admin.UserAddWithOptions(within(t), user, "", &clientv3.UserAddOptions{NoPassword: true}); err != nil {
		t.Fatal(err)
	}
	setUpUsers(t, admin)
	if code, answer := post(t, c.ClientTLS("poor"), c.Members[0].ClientURL, rangePath, "", getA); code != http.StatusForbidden {
		t.Errorf("a user without a role: %d %s", code, answer)
	}
	root := pb.NewAuthClient(secureClient(t, c, "nobody").ActiveConnection())
	token, err := root.Authenticate(within(t), &pb.AuthenticateRequest{Name: "root", Password: "root"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := root.UserGrantRole(bearing(within(t), token.Token), &pb.AuthUserGrantRoleRequest{User: user, Role: "a"}); err != nil {
		t.Fatal(err)
	}
	if _, err := secureClient(t, c, "poor").Put(within(t), "a/1", "v"); err != nil {
		t.Errorf("the user that the URI names: %v", err)
	}
	if code, answer := post(t, c.ClientTLS("poor"), c.Members[0].ClientURL, rangePath, "", getA); code != http.StatusOK {
		t.Errorf("JSON: %d %s", code, answer)
	}
	if _, err := secureClient(t, c, "alice").Put(within(t), "a/1", "v"); !errors.Is(err, rpctypes.ErrPermissionDenied) {
		t.Errorf("a common name: %v", err)
	}
}
