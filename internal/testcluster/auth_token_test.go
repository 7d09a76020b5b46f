package testcluster_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/conclave-kv/conclave/daemon"
	"github.com/conclave-kv/conclave/internal/testcluster"
)

// A token that is used lasts, on all members; one that is not ends.
func TestAuth_tokensEndUnlessUsed(t *testing.T) {
	if testing.Short() {
		t.Skip("short: waits 17 seconds for tokens to end, which the race detector changes nothing about")
	}
	const ttl = 4 // seconds
	c := testcluster.Start(t, 3, testcluster.Options{Configure: func(_ int, cfg *daemon.Config) { cfg.AuthTokenTTL = ttl }})
	setUpUsersOn(t, c)
	token := login(t, raw(t, c.Members[0].ClientURL), "alice")
	idle := login(t, raw(t, c.Members[0].ClientURL), "poor")
	use := func(i int, token string) error {
		_, err := pb.NewKVClient(raw(t, c.Members[i].ClientURL)).Range(bearing(within(t), token), &pb.RangeRequest{Key: []byte("a/1")})
		return err
	}
	for begun, n := time.Now(), 0; time.Since(begun) < 3*ttl*time.Second; n++ {
		if err := use(n%3, token); err != nil {
			t.Fatalf("after %v of use: %v", time.Since(begun), err)
		}
		time.Sleep(100 * time.Millisecond) // what is shown is that time passes
	}
	if err := use(1, idle); status.Code(err) != codes.Unauthenticated {
		t.Errorf("a token that nobody used: %v", err)
	}
	deadline := time.Now().Add(time.Minute)
	for time.Sleep((ttl + 1) * time.Second); use(2, token) == nil; time.Sleep((ttl + 1) * time.Second) {
		if time.Now().After(deadline) {
			t.Fatal("a token that is used once in a while longer than its time does not end")
		}
	}
}

// With JWT members that have the public key verify what another has signed. A token
// ends when its user's rights change, and no other's do.
func TestAuth_jwt(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, der []byte, err error) string {
		t.Helper()
		path := filepath.Join(t.TempDir(), name)
		if err == nil {
			err = os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	private := write("key.pem", "PRIVATE KEY", der, err)
	der, err = x509.MarshalPKIXPublicKey(key.Public())
	public := write("pub.pem", "PUBLIC KEY", der, err)
	c := testcluster.Start(t, 3, testcluster.Options{Configure: func(i int, cfg *daemon.Config) {
		cfg.AuthToken = "jwt,sign-method=ES256,pub-key=" + public
		if i == 0 {
			cfg.AuthToken = "jwt,sign-method=ES256,priv-key=" + private
		}
	}})
	setUpUsersOn(t, c)
	signer := raw(t, c.Members[0].ClientURL)
	token := login(t, signer, "alice")
	put := func(i int) error {
		_, err := pb.NewKVClient(raw(t, c.Members[i].ClientURL)).Put(bearing(within(t), token), &pb.PutRequest{Key: []byte("a/1")})
		return err
	}
	for i := range c.Members {
		if err := put(i); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := pb.NewAuthClient(raw(t, c.Members[1].ClientURL)).Authenticate(within(t), &pb.AuthenticateRequest{Name: "alice", Password: "alice"}); err == nil {
		t.Error("a member without a private key signs")
	}
	root := bearing(within(t), login(t, signer, "root"))
	auth := pb.NewAuthClient(signer)
	if _, err := auth.UserChangePassword(root, &pb.AuthUserChangePasswordRequest{Name: "poor", Password: "new"}); err != nil {
		t.Fatal(err)
	}
	for i := range c.Members {
		if err := put(i); err != nil {
			t.Errorf("after a change of another user: %v", err)
		}
	}
	if _, err := auth.UserChangePassword(root, &pb.AuthUserChangePasswordRequest{Name: "alice", Password: "alice"}); err != nil {
		t.Fatal(err)
	}
	for i := range c.Members {
		if err := put(i); status.Convert(err).Message() != "etcdserver: revision of auth store is old" {
			t.Errorf("after a change of the password: %v", err)
		}
	}
	if token = login(t, signer, "alice"); put(2) != nil {
		t.Error("a new token is of no use")
	}
}

// Tokens are good on every member, also after all of them were restarted, and until
// the user's password changes.
func TestAuth_tokensLast(t *testing.T) {
	c := testcluster.Start(t, 3, testcluster.Options{})
	setUpUsersOn(t, c)
	token := login(t, raw(t, c.Members[0].ClientURL), "alice")
	if again := login(t, raw(t, c.Members[0].ClientURL), "alice"); again != token {
		t.Error("who logs in again gets the token there is")
	}
	put := func(m *testcluster.Member) error {
		_, err := pb.NewKVClient(raw(t, m.ClientURL)).Put(bearing(within(t), token), &pb.PutRequest{Key: []byte("a/1")})
		return err
	}
	for _, m := range c.Members {
		if err := put(m); err != nil {
			t.Fatal(err)
		}
	}
	c.Stop()
	for _, m := range c.Members {
		m.Launch()
	}
	for _, m := range c.Members {
		m.AwaitReady()
	}
	for _, m := range c.Members {
		if err := put(m); err != nil {
			t.Errorf("after a restart: %v", err)
		}
	}
	root := userClient(t, "root", c.Members[1].ClientURL)
	if _, err := root.RoleAdd(within(t), "unrelated"); err != nil {
		t.Fatal(err)
	}
	if err := put(c.Members[2]); err != nil {
		t.Errorf("after an unrelated change: %v", err)
	}
	if _, err := root.UserChangePassword(within(t), "alice", "alice"); err != nil {
		t.Fatal(err)
	}
	for _, m := range c.Members {
		err := put(m)
		if status.Convert(err).Message() == rpctypes.ErrAuthOldRevision.Error() {
			continue // the member had not heard of the change; those that applied the put had
		}
		if status.Code(err) != codes.Unauthenticated {
			t.Errorf("with a token of the old password: %v", err)
		}
	}
}
