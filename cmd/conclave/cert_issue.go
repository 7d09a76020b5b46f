package main

import (
	"context"
	"crypto"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/status"

	pb "github.com/conclave-kv/conclave/internal/conclavepb"
	"github.com/conclave-kv/conclave/pki"
)

func certIssueCommand() *cli.Command {
	return &cli.Command{
		Name:  "issue",
		Usage: "Issues a certificate with a new key",
		Description: "The certificate is signed by one of three:\n" +
			"  --cluster-secret-file F --data-dir D   the cluster's CAs as a member keeps them; running or stopped\n" +
			"  --ca-dir D                             a CA of one's own (conclave cert ca init)\n" +
			"  --endpoints E --cacert --cert --key    a running cluster, asked as one of its clients\n" +
			"It is written with its key and CA as NAME.pem, NAME-key.pem (mode 0600) and ca.pem.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "profile", Usage: "client (a user), server (the client port) or peer (a member)"},
			&cli.StringFlag{Name: "cn", Usage: "common name: the user name of a client"},
			&cli.StringFlag{Name: "hosts", Usage: "names and addresses of a server or peer, separated by commas"},
			&cli.StringFlag{Name: "out", Value: ".", Usage: "directory to write to"},
			&cli.BoolFlag{Name: "force", Usage: "replace files that exist"},
			&cli.DurationFlag{Name: "lifetime", Usage: "validity, such as 720h (0: 90 days for clients, else 30 days)"},
			&cli.StringFlag{Name: "member-id", Usage: "member a peer or server certificate names, in hex as member list prints it"},
			&cli.StringFlag{Name: "cluster-secret-file", Usage: "secret of the cluster, with --data-dir"},
			&cli.StringFlag{Name: "data-dir", Usage: "data directory of a member, with --cluster-secret-file"},
			&cli.StringFlag{Name: "ca-dir", Usage: "directory of a CA of one's own"},
		},
		Action: runCertIssue,
	}
}

// certJob is one certificate to issue, as the command line asks for it.
type certJob struct {
	c       *cli.Context
	request pki.Request // without Now and CSR
	out     pki.Output
	key     crypto.Signer
}

// issued is what a signer gave back.
type issued struct {
	certPEM, caPEM []byte
	notAfter       time.Time
}

func runCertIssue(c *cli.Context) error {
	if err := noArgs(c); err != nil {
		return err
	}
	job, err := newCertJob(c)
	if err != nil {
		return withCode(exitBadArgs, err)
	}
	sign, err := job.signer()
	if err != nil {
		return err
	}
	if err := job.out.Check(nil, c.Bool("force")); err != nil {
		return err
	}
	if job.key, err = pki.NewKey(); err != nil {
		return err
	}
	if job.request.CSR, err = pki.NewRequest(job.key); err != nil {
		return err
	}
	got, err := sign(job.request)
	if err != nil {
		return err
	}
	keyPEM, err := pki.EncodeKey(job.key)
	if err != nil {
		return err
	}
	if err := job.out.Write(got.certPEM, keyPEM, got.caPEM, c.Bool("force")); err != nil {
		return err
	}
	job.report(got)
	return nil
}

func newCertJob(c *cli.Context) (*certJob, error) {
	profile, err := pki.ParseProfile(c.String("profile"))
	if err != nil {
		return nil, err
	}
	job := &certJob{c: c, request: pki.Request{Profile: profile, CN: c.String("cn"), Lifetime: c.Duration("lifetime")}}
	if job.request.Lifetime != 0 {
		// A cluster is asked in whole seconds, and 0 of them are its default.
		if err := pki.CheckLifetime(job.request.Lifetime); err != nil {
			return nil, err
		}
	}
	if s := c.String("hosts"); s != "" {
		job.request.Hosts = strings.Split(s, ",")
	}
	if s := c.String("member-id"); s != "" {
		if job.request.Member, err = strconv.ParseUint(s, 16, 64); err != nil || job.request.Member == 0 {
			return nil, fmt.Errorf("--member-id %q: give the id in hex, as conclave member list prints it", s)
		}
	}
	name := job.request.CN
	if name == "" {
		name = c.String("member-id")
	}
	if name == "" {
		return nil, fmt.Errorf("--cn: give the name the certificate is for, such as --cn admin")
	}
	if c.String("out") == "" {
		return nil, fmt.Errorf("--out: name the directory to write to")
	}
	job.out = pki.OutputPaths(c.String("out"), name)
	return job, nil
}

// signer chooses who signs.
func (j *certJob) signer() (func(pki.Request) (issued, error), error) {
	secretFile, dataDir, caDir := j.c.String("cluster-secret-file"), j.c.String("data-dir"), j.c.String("ca-dir")
	switch {
	case caDir != "" && (secretFile != "" || dataDir != ""):
		return nil, failf(exitBadArgs, "--ca-dir and --cluster-secret-file with --data-dir exclude each other: give the CA that is to sign")
	case caDir != "":
		if j.request.Member != 0 {
			return nil, failf(exitBadArgs, "--member-id: certificates of one's own name no member; leave it out")
		}
		ca, err := pki.OpenCADir(caDir)
		return signWith(ca), err
	case secretFile != "" && dataDir != "":
		secret, err := pki.LoadSecret(secretFile)
		if err != nil {
			return nil, err
		}
		ca, err := j.offline(dataDir, secret)
		return signWith(ca), err
	case secretFile != "":
		return nil, failf(exitBadArgs, "--data-dir: with --cluster-secret-file give the data directory of a member, which holds the sealed CAs")
	case dataDir != "":
		return nil, failf(exitBadArgs, "--cluster-secret-file: with --data-dir give the cluster's secret file, which opens the sealed CAs")
	}
	return j.online, nil
}

// offline opens the CA of the profile from a member's directory.
func (j *certJob) offline(dataDir string, secret *pki.Secret) (*pki.Authority, error) {
	if j.request.Profile != pki.ProfilePeer {
		return pki.OpenClientAuthority(dataDir, secret)
	}
	if j.request.Member == 0 {
		return nil, failf(exitBadArgs, "--member-id: a peer certificate names a member; see conclave member list")
	}
	return pki.OpenPeerAuthority(dataDir, secret)
}

func signWith(ca *pki.Authority) func(pki.Request) (issued, error) {
	return func(r pki.Request) (issued, error) {
		r.Now = time.Now()
		cert, err := ca.Issue(r)
		if err != nil {
			return issued{}, err
		}
		return issued{
			certPEM: pki.EncodeCertificates(cert), caPEM: pki.EncodeCertificates(ca.Certificate()), notAfter: cert.NotAfter,
		}, nil
	}
}

// online asks a running cluster.
func (j *certJob) online(r pki.Request) (got issued, err error) {
	if r.Profile == pki.ProfilePeer {
		return got, failf(exitBadArgs, "--profile peer: not issued over the client port; run this on a member's host with --cluster-secret-file and --data-dir")
	}
	if r.Member != 0 {
		return got, failf(exitBadArgs, "--member-id: not possible over the client port; use --cluster-secret-file with --data-dir")
	}
	err = withClient(j.c, func(ctx context.Context, _ *session, client *clientv3.Client) error {
		resp, err := pb.NewPKIClient(client.ActiveConnection()).Issue(ctx, &pb.IssueRequest{
			Profile: string(r.Profile), Cn: r.CN, Hosts: r.Hosts, Csr: r.CSR, LifetimeSeconds: int64(r.Lifetime / time.Second),
		})
		if err != nil {
			return fmt.Errorf("ask the cluster for a certificate: %s", status.Convert(err).Message())
		}
		got = issued{certPEM: resp.GetCertificatePem(), caPEM: resp.GetCaPem(), notAfter: time.Unix(resp.GetNotAfter(), 0)}
		return nil
	})
	return got, err
}

// report names the files and how to use them.
func (j *certJob) report(got issued) {
	w, o := j.c.App.Writer, j.out
	who := j.request.CN
	if who == "" {
		who = "member " + j.c.String("member-id")
	}
	if abs, err := filepath.Abs(filepath.Dir(o.Cert)); err == nil {
		o = pki.OutputPaths(abs, strings.TrimSuffix(filepath.Base(o.Cert), ".pem"))
	}
	fmt.Fprintf(w, "wrote %s, %s and %s: %s certificate of %q, valid until %s\n",
		o.Cert, filepath.Base(o.Key), filepath.Base(o.CA), j.request.Profile, who, got.notAfter.UTC().Format(time.RFC3339))
	switch j.request.Profile {
	case pki.ProfileClient:
		fmt.Fprintf(w, "use it: conclave --endpoints https://HOST:2379 --cacert %s --cert %s --key %s endpoint health\n", o.CA, o.Cert, o.Key)
	case pki.ProfileServer:
		fmt.Fprintf(w, "use it: conclave --cert-file %s --key-file %s --trusted-ca-file %s --client-cert-auth\n", o.Cert, o.Key, o.CA)
	case pki.ProfilePeer:
		fmt.Fprintf(w, "use it: conclave --peer-cert-file %s --peer-key-file %s --peer-trusted-ca-file %s --peer-client-cert-auth\n", o.Cert, o.Key, o.CA)
	}
}
