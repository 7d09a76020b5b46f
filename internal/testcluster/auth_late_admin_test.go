package testcluster_test

import (
	"crypto/rand"
	"crypto/x509"
	"errors"
	"net/http"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/conclave-kv/conclave/internal/conclavepb"
	"github.com/conclave-kv/conclave/internal/testcluster"
)

// setUpBoss makes root and boss, who both have the role root.
func setUpBoss(t *testing.T, c *clientv3.Client) {
	t.Helper()
	for _, user := range []string{"root", "boss"} {
		if _, err := c.UserAdd(within(t), user, user); err != nil {
			t.Fatal(err)
		}
		if _, err := c.UserGrantRole(within(t), user, "root"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.AuthEnable(within(t)); err != nil {
		t.Fatal(err)
	}
}

// afterRevocation has boss do something on a member that was cut off when the role root
// was taken from boss, and that hears of the others again while it waits for them.
func afterRevocation(t *testing.T, c *testcluster.Cluster, reader *http.Client, root *clientv3.Client, do func() error) error {
	t.Helper()
	started := func() float64 { return metricSumBy(t, reader, c.Members[2], "grpc_server_started_total") }
	c.Isolate(2)
	if _, err := root.UserRevokeRole(within(t), "boss", "root"); err != nil {
		t.Fatal(err)
	}
	done, before := make(chan error, 1), started()
	go func() { done <- do() }()
	awaitTrue(t, "the member to take the call", func() bool { return started() > before })
	c.Heal()
	return <-done
}

// Who has lost the role root changes no members, on whichever member.
func TestAuth_revokedAdministratorChangesNoMembers(t *testing.T) {
	c := testcluster.Start(t, 3, testcluster.Options{})
	setUpBoss(t, client(t, c.Members[0].ClientURL))
	root := userClient(t, "root", c.Members[0].ClientURL, c.Members[1].ClientURL)
	conn := raw(t, c.Members[2].ClientURL)
	boss := login(t, conn, "boss")
	before, err := root.MemberList(within(t))
	if err != nil {
		t.Fatal(err)
	}
	err = afterRevocation(t, c, http.DefaultClient, root, func() error {
		_, err := pb.NewClusterClient(conn).MemberRemove(bearing(within(t), boss), &pb.MemberRemoveRequest{ID: before.Header.MemberId})
		return err
	})
	if !errors.Is(rpctypes.Error(err), rpctypes.ErrAuthOldRevision) {
		t.Errorf("to remove a member: %v", err)
	}
	root.SetEndpoints(c.Members[1].ClientURL)
	if r, err := root.MemberList(within(t)); err != nil || len(r.Members) != 3 {
		t.Errorf("%v, %v", r, err)
	}
}

// Nor gets a certificate, with which to be anybody.
func TestAuth_revokedAdministratorGetsNoCertificate(t *testing.T) {
	c := testcluster.Start(t, 3, testcluster.Options{Secure: true})
	setUpBoss(t, secureClient(t, c, "root"))
	root, boss := secureClient(t, c, "root"), secureClient(t, c, "boss")
	for _, m := range c.Members {
		root.SetEndpoints(m.ClientURL)
		awaitTrue(t, "the member to know that authentication is on", func() bool {
			_, err := root.Get(within(t), "k") // as nobody while it comes to know
			return err == nil
		})
	}
	root.SetEndpoints(c.Members[0].ClientURL, c.Members[1].ClientURL)
	boss.SetEndpoints(c.Members[2].ClientURL)
	if _, err := boss.Get(within(t), "k"); err != nil {
		t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, freshKey(t))
	if err != nil {
		t.Fatal(err)
	}
	reader := &http.Client{Transport: &http.Transport{TLSClientConfig: c.ClientTLS("root")}}
	t.Cleanup(reader.CloseIdleConnections)
	err = afterRevocation(t, c, reader, root, func() error {
		_, err := conclavepb.NewPKIClient(boss.ActiveConnection()).Issue(within(t), &conclavepb.IssueRequest{Profile: "client", Cn: "root", Csr: csr})
		return err
	})
	if status.Code(err) != codes.PermissionDenied {
		t.Errorf("to issue a certificate of root: %v", err)
	}
}
