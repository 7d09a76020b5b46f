package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/conclave-kv/conclave/internal/durable"
	"github.com/conclave-kv/conclave/pki"
)

const (
	devHealthPoll = 100 * time.Millisecond
	devHealthTry  = 2 * time.Second // for one question to one member
	devStatusTry  = time.Second
)

// devClients is one client for each member, with the certificate that the
// pasted lines use.
type devClients struct {
	members []devMemberState
	clients []*clientv3.Client // one each, same order
}

// awaitHealthy waits until every member answers a linearizable read. The first
// certificate for a client can be made as soon as a member holds the CAs.
func (d *dev) awaitHealthy(ctx context.Context) error {
	began := time.Now()
	d.out.line("waiting", "for the members to find each other and answer (at most %s)", d.timeout)
	ctx, cancel := context.WithTimeoutCause(ctx, d.timeout, errDevLate)
	defer cancel()
	ca, err := d.awaitAuthority(ctx)
	if err == nil {
		err = d.connect(ca)
	}
	if err == nil {
		err = d.awaitAnswers(ctx)
	}
	if err == nil {
		d.out.line("healthy", "every member answers linearizable reads, after %s", time.Since(began).Round(10*time.Millisecond))
	}
	return err
}

// errDevLate is the cause of giving up on members that do not become healthy.
var errDevLate = errors.New("too late")

// awaitAuthority waits for the client CA in any member's data directory.
func (d *dev) awaitAuthority(ctx context.Context) (*pki.Authority, error) {
	for {
		for _, m := range d.state.Members {
			ca, err := pki.OpenClientAuthority(d.dir.dataPath(m.Name), d.secret)
			if err == nil {
				return ca, nil
			}
			if !errors.Is(err, pki.ErrNoMirror) {
				return nil, err
			}
		}
		if err := d.pause(ctx, nil); err != nil {
			return nil, err
		}
	}
}

// pause waits a moment. The error says who is not ready when there is no use
// in waiting any longer; answers are the members' last ones, as far as asked.
func (d *dev) pause(ctx context.Context, answers []error) error {
	wait := time.NewTimer(devHealthPoll)
	defer wait.Stop()
	select {
	case <-wait.C:
		return nil
	case name := <-d.cluster.failed:
		return fmt.Errorf("%s does not run, so the cluster is not complete", name)
	case <-ctx.Done():
	}
	if !errors.Is(context.Cause(ctx), errDevLate) {
		return ctx.Err()
	}
	for i, m := range d.state.Members {
		switch {
		case answers == nil:
			d.out.line(m.Name, "holds no certificates yet; its last words: %s", lastWords(d.dir.logPath(m.Name)))
		case answers[i] != nil:
			d.out.line(m.Name, "does not answer (%v); its last words: %s", answers[i], lastWords(d.dir.logPath(m.Name)))
		default:
			d.out.line(m.Name, "answers")
		}
	}
	return fmt.Errorf("not healthy after %s; the lines above say who waits for what, --timeout gives more time", d.timeout)
}

// connect issues the client certificate anew and makes a client per member.
func (d *dev) connect(ca *pki.Authority) error {
	pair, err := d.issue(ca)
	if err != nil {
		return fmt.Errorf("make a client certificate: %w", err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.Certificate())
	d.clients = &devClients{members: d.state.Members}
	for _, m := range d.state.Members {
		client, err := clientv3.New(clientv3.Config{
			Endpoints: []string{m.clientURL()},
			TLS:       &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, Certificates: []tls.Certificate{pair}},
			Logger:    zap.NewNop(),
		})
		if err != nil {
			return err
		}
		d.clients.clients = append(d.clients.clients, client)
	}
	return nil
}

// issue makes a key and a certificate for devUser and writes them, and the CA,
// into the directory. They are made at each start, so they never run out.
func (d *dev) issue(ca *pki.Authority) (tls.Certificate, error) {
	var none tls.Certificate
	key, err := pki.NewKey()
	if err != nil {
		return none, err
	}
	request, err := pki.NewRequest(key)
	if err != nil {
		return none, err
	}
	cert, err := ca.Issue(pki.Request{Profile: pki.ProfileClient, CN: devUser, CSR: request, Now: time.Now()})
	if err != nil {
		return none, err
	}
	keyPEM, err := pki.EncodeKey(key)
	if err != nil {
		return none, err
	}
	certPEM := pki.EncodeCertificates(cert)
	err = errors.Join(
		durable.WriteFile(d.dir.caPath(), pki.EncodeCertificates(ca.Certificate()), 0o600),
		durable.WriteFile(d.dir.keyPath(), keyPEM, 0o600),
		durable.WriteFile(d.dir.certPath(), certPEM, 0o600),
	)
	if err != nil {
		return none, err
	}
	d.out.line("client", "certificate for user %s until %s: %s", devUser, cert.NotAfter.Format(time.DateOnly), d.dir.certPath())
	return tls.X509KeyPair(certPEM, keyPEM)
}

// awaitAnswers asks all members again and again until each has answered a
// linearizable read.
func (d *dev) awaitAnswers(ctx context.Context) error {
	var answers []error
	for {
		latest := d.clients.readAll(ctx)
		if ctx.Err() == nil || answers == nil {
			answers = latest // cut short they would say no more than that
		}
		if !slices.ContainsFunc(answers, func(err error) bool { return err != nil }) {
			return nil
		}
		if err := d.pause(ctx, answers); err != nil {
			return err
		}
	}
}

// readAll reads through every member at the same time, one goroutine each.
func (c *devClients) readAll(ctx context.Context) []error {
	errs := make([]error, len(c.clients))
	var wg sync.WaitGroup
	for i, client := range c.clients {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, devHealthTry)
			defer cancel()
			_, errs[i] = client.Get(ctx, "health")
		})
	}
	wg.Wait()
	return errs
}

// devStatus is what members say of the cluster.
type devStatus struct {
	ids    map[string]uint64 // by name
	leader string            // name
}

// status asks one member after the other until one knows.
func (c *devClients) status(ctx context.Context) (devStatus, error) {
	var errs []error
	for i, client := range c.clients {
		s, err := statusFrom(ctx, client, c.members[i].clientURL())
		if err == nil {
			return s, nil
		}
		errs = append(errs, err)
	}
	return devStatus{}, errors.Join(errs...)
}

func statusFrom(ctx context.Context, client *clientv3.Client, url string) (devStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, devStatusTry)
	defer cancel()
	status, err := client.Status(ctx, url)
	if err != nil {
		return devStatus{}, err
	}
	list, err := client.MemberList(ctx, clientv3.WithSerializable())
	if err != nil {
		return devStatus{}, err
	}
	s := devStatus{ids: map[string]uint64{}}
	for _, m := range list.Members {
		s.ids[m.Name] = m.ID
		if m.ID == status.Leader {
			s.leader = m.Name
		}
	}
	if s.leader == "" {
		return devStatus{}, errors.New("no leader is known")
	}
	return s, nil
}

// stopOrder puts the leader last, so that no election is held on the way.
func (d *dev) stopOrder() []string {
	var order []string
	for _, m := range slices.Backward(d.state.Members) {
		order = append(order, m.Name)
	}
	if d.clients == nil {
		return order
	}
	s, err := d.clients.status(context.Background())
	if err != nil {
		return order
	}
	order = slices.DeleteFunc(order, func(name string) bool { return name == s.leader })
	return append(order, s.leader)
}

func (c *devClients) close() {
	for _, client := range c.clients {
		_ = client.Close() // the members are gone
	}
}
