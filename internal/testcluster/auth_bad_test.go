package testcluster_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/conclave-kv/conclave/daemon"
	"github.com/conclave-kv/conclave/internal/testcluster"
)

// What etcd lets in, or ends from, is refused here: names that its file could not
// hold, and passwords of which bcrypt would not see the end. (What both refuse is
// compared in test/cluster.)
func TestAuth_badInput(t *testing.T) {
	c := testcluster.Start(t, 1, testcluster.Options{})
	url := c.Members[0].ClientURL
	conn := raw(t, url)
	users := pb.NewAuthClient(conn)
	huge := strings.Repeat("n", 32769)
	secret := strings.Repeat("p", 73)
	add := func(name, password string) error {
		return second(users.UserAdd(within(t), &pb.AuthUserAddRequest{Name: name, Password: password}))
	}
	if err := add("alice", secret[:72]); err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		err  error
		want string
	}{
		"huge user":        {add(huge, "p"), "name is longer"},
		"huge role":        {second(users.RoleAdd(within(t), &pb.AuthRoleAddRequest{Name: huge})), "name is longer"},
		"long password":    {add("bob", secret), "longer than 72 bytes"},
		"to be changed so": {second(users.UserChangePassword(within(t), &pb.AuthUserChangePasswordRequest{Name: "alice", Password: secret})), "longer than 72 bytes"},
	} {
		if status.Code(c.err) != codes.InvalidArgument || !strings.Contains(c.err.Error(), c.want) {
			t.Errorf("%s: %v", what, c.err)
		}
	}
	if code, answer := post(t, nil, url, "/v3/auth/user/add", "", "{\"name\":\"\xff\xfe\",\"password\":\"p\"}"); code != http.StatusBadRequest {
		t.Errorf("a name that is no UTF-8, in JSON: %d %s", code, answer)
	}
	setUpRoot(t, conn)
	for password, want := range map[string]codes.Code{secret[:72]: codes.OK, secret: codes.InvalidArgument, secret[:71]: codes.InvalidArgument} {
		_, err := users.Authenticate(within(t), &pb.AuthenticateRequest{Name: "alice", Password: password})
		if status.Code(err) != want {
			t.Errorf("a password of %d bytes: %v", len(password), err)
		}
	}
	for _, name := range []string{huge, "\x00", ""} {
		if _, err := users.Authenticate(within(t), &pb.AuthenticateRequest{Name: name, Password: "p"}); status.Code(err) != codes.InvalidArgument {
			t.Errorf("a login as %.5q: %v", name, err)
		}
	}
	if r, err := users.UserList(bearing(within(t), login(t, conn, "root")), &pb.AuthUserListRequest{}); err != nil || len(r.Users) != 2 {
		t.Errorf("%v, %v", r, err)
	}
}

// setUpRoot makes root, and turns authentication on.
func setUpRoot(t *testing.T, conn *grpc.ClientConn) {
	t.Helper()
	ctx, users := within(t), pb.NewAuthClient(conn)
	for _, err := range []error{
		second(users.UserAdd(ctx, &pb.AuthUserAddRequest{Name: "root", Password: "root"})),
		second(users.UserGrantRole(ctx, &pb.AuthUserGrantRoleRequest{User: "root", Role: "root"})),
		second(users.AuthEnable(ctx, &pb.AuthEnableRequest{})),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// readsWith asks for a key with a token, over gRPC and JSON; both must agree.
func readsWith(t *testing.T, url, token string) codes.Code {
	t.Helper()
	_, err := pb.NewKVClient(raw(t, url)).Range(bearing(within(t), token), &pb.RangeRequest{Key: []byte("a/1")})
	code, answer := post(t, nil, url, rangePath, token, getA)
	if (err == nil) != (code == http.StatusOK) || err != nil && !strings.Contains(answer, status.Convert(err).Message()) {
		t.Errorf("gRPC says %v, JSON %d %s", err, code, answer)
	}
	return status.Code(err)
}

// deletes a user, as root.
func deletes(t *testing.T, url, user string) {
	t.Helper()
	conn := raw(t, url)
	if _, err := pb.NewAuthClient(conn).UserDelete(bearing(within(t), login(t, conn, "root")), &pb.AuthUserDeleteRequest{Name: user}); err != nil {
		t.Fatal(err)
	}
}

// Signed tokens that somebody made up, or took elsewhere, are of no use, and one that
// is good is as long as its user is there.
func TestAuth_badSignedTokens(t *testing.T) {
	key := []byte("a secret of some length")
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, key, 0o600); err != nil {
		t.Fatal(err)
	}
	c := testcluster.Start(t, 1, testcluster.Options{Configure: func(_ int, cfg *daemon.Config) {
		cfg.AuthToken = "jwt,sign-method=HS256,audience=kv,priv-key=" + file
	}})
	url := c.Members[0].ClientURL
	setUpUsers(t, client(t, url))
	now := time.Now()
	sign := func(method jwt.SigningMethod, with any, user, audience string, end time.Time) string {
		text, err := jwt.NewWithClaims(method, jwt.MapClaims{"username": user, "revision": uint64(1 << 40), "exp": end.Unix(), "aud": audience}).SignedString(with)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	later, none := now.Add(time.Hour), jwt.UnsafeAllowNoneSignatureType
	for what, token := range map[string]string{
		"alg none":         sign(jwt.SigningMethodNone, none, "root", "kv", later),
		"another key":      sign(jwt.SigningMethodHS256, []byte("guessed"), "root", "kv", later),
		"another method":   sign(jwt.SigningMethodHS512, key, "root", "kv", later),
		"another audience": sign(jwt.SigningMethodHS256, key, "root", "mail", later),
		"expired":          sign(jwt.SigningMethodHS256, key, "root", "kv", now.Add(-time.Second)),
		"not a token":      "forged", "long": strings.Repeat("x.", 2000),
	} {
		if code := readsWith(t, url, token); code != codes.Unauthenticated {
			t.Errorf("%s: %v", what, code)
		}
	}
	if code := readsWith(t, url, sign(jwt.SigningMethodHS256, key, "nobody", "kv", later)); code != codes.PermissionDenied {
		t.Errorf("a token of nobody: %v", code)
	}
	good := login(t, raw(t, url), "alice")
	for range 2 { // the second time it is known
		if code := readsWith(t, url, good); code != codes.OK {
			t.Errorf("alice's: %v", code)
		}
	}
	deletes(t, url, "alice")
	if code := readsWith(t, url, good); code != codes.PermissionDenied {
		t.Errorf("of a user who is gone: %v", code)
	}
}

// A token ends with its user, also when another one of that name comes.
func TestAuth_tokenOfADeletedUser(t *testing.T) {
	c := testcluster.Start(t, 1, testcluster.Options{})
	url := c.Members[0].ClientURL
	setUpUsers(t, client(t, url))
	token := login(t, raw(t, url), "alice")
	if code := readsWith(t, url, token); code != codes.OK {
		t.Fatal(code)
	}
	deletes(t, url, "alice")
	if code := readsWith(t, url, token); code != codes.Unauthenticated {
		t.Errorf("%v", code)
	}
	conn := raw(t, url)
	root := bearing(within(t), login(t, conn, "root"))
	_, err := pb.NewAuthClient(conn).UserAdd(root, &pb.AuthUserAddRequest{Name: "alice", Password: "alice"})
	if err == nil {
		_, err = pb.NewAuthClient(conn).UserGrantRole(root, &pb.AuthUserGrantRoleRequest{User: "alice", Role: "a"})
	}
	if err != nil {
		t.Fatal(err)
	}
	if code := readsWith(t, url, token); code != codes.Unauthenticated {
		t.Errorf("of another alice: %v", code)
	}
	if code := readsWith(t, url, login(t, conn, "alice")); code != codes.OK {
		t.Errorf("the other alice's: %v", code)
	}
}
