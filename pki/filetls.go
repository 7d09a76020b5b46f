package pki

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/rs/zerolog"
)

// FileOptions are etcd's TLS flags. A side without CertFile is plaintext.
type FileOptions struct {
	Peer, Client FileSide
	// PeerServerName is verified in place of the dialled host: the domain of
	// --discovery-srv where no --peer-trusted-ca-file is given.
	PeerServerName string
	// SkipPeerSANCheck is --peer-skip-client-san-verification.
	SkipPeerSANCheck bool
	// MinVersion, MaxVersion and CipherSuites are those of tls.Config; 0 is TLS
	// 1.2 and the newest.
	MinVersion, MaxVersion uint16
	CipherSuites           []uint16
	// LookupHost and LookupAddr resolve names when the address of a peer is
	// compared with its certificate; net.DefaultResolver's where nil.
	LookupHost, LookupAddr func(ctx context.Context, what string) ([]string, error)
	// Now is the clock, time.Now where nil.
	Now func() time.Time
	Log zerolog.Logger
}

// FileSide are the flags of one port.
type FileSide struct {
	CertFile, KeyFile string
	// ClientCertFile and ClientKeyFile are shown when dialling; CertFile and
	// KeyFile where empty.
	ClientCertFile, ClientKeyFile string
	// TrustedCAFile, or ClientCertAuth with the system's CAs, makes the port
	// require a certificate.
	TrustedCAFile  string
	ClientCertAuth bool
	CRLFile        string
	// AllowedCNs and AllowedHostnames limit the certificates accepted; empty
	// for all.
	AllowedCNs, AllowedHostnames []string
}

// FileTLS is the TLS of a member with certificates of its own, read again
// whenever the files change.
type FileTLS struct {
	o            FileOptions
	peer, client *side
}

// NewFileTLS reads every file once, so that a wrong one is refused at the
// start. Errors name flag and file.
func NewFileTLS(o FileOptions) (*FileTLS, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.LookupHost == nil {
		o.LookupHost = net.DefaultResolver.LookupHost
	}
	if o.LookupAddr == nil {
		o.LookupAddr = net.DefaultResolver.LookupAddr
	}
	if o.MinVersion == 0 {
		o.MinVersion = tls.VersionTLS12
	}
	f := &FileTLS{o: o}
	var err error
	if f.peer, err = newSide("peer-", "--peer-crl-file", o.Peer, o.Log); err != nil {
		return nil, err
	}
	if f.client, err = newSide("", "--client-crl-file", o.Client, o.Log); err != nil {
		return nil, err
	}
	return f, nil
}

// PeerServer implements Settings.
func (f *FileTLS) PeerServer() *tls.Config {
	if f.peer == nil {
		return nil
	}
	return f.server(f.peer, nil, func(hello *tls.ClientHelloInfo) func(tls.ConnectionState) error {
		if f.o.SkipPeerSANCheck {
			return nil
		}
		remote := hello.Conn.RemoteAddr()
		return func(cs tls.ConnectionState) error { return f.checkAddress(cs, remote) }
	})
}

// ClientServer implements Settings.
func (f *FileTLS) ClientServer() *tls.Config {
	if f.client == nil {
		return nil
	}
	return f.server(f.client, []string{"h2", "http/1.1"}, func(*tls.ClientHelloInfo) func(tls.ConnectionState) error { return nil })
}

// server is a listener's configuration, made anew from the files for each
// handshake. extra gives a further check of a verified connection, or nil.
func (f *FileTLS) server(s *side, protos []string, extra func(*tls.ClientHelloInfo) func(tls.ConnectionState) error) *tls.Config {
	c := f.base()
	c.NextProtos = protos
	c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		cert, err := s.pair.get()
		if err != nil {
			return nil, err
		}
		each := f.base()
		if each.NextProtos = protos; protos == nil {
			// The mesh, which set protocols of its own on its clone of c,
			// speaks what its members ask for, and HTTP/1.
			each.NextProtos = slices.DeleteFunc(slices.Clone(hello.SupportedProtos), func(p string) bool { return p == "h2" })
		}
		each.Certificates = []tls.Certificate{*cert}
		if !s.auth() {
			return each, nil
		}
		if each.ClientCAs, err = s.pool(); err != nil {
			return nil, err
		}
		each.ClientAuth = tls.RequireAndVerifyClientCert
		more := extra(hello)
		each.VerifyConnection = func(cs tls.ConnectionState) error {
			err := s.check(cs)
			if err == nil && more != nil {
				err = more(cs)
			}
			return err
		}
		return each, nil
	}
	return c
}

// PeerClient implements Settings. Certificates of one's own name no member, so
// id is not compared; Go verifies chain and host name.
func (f *FileTLS) PeerClient(uint64) *tls.Config {
	if f.peer == nil {
		return nil
	}
	c := f.base()
	if f.o.Peer.TrustedCAFile == "" {
		c.ServerName = f.o.PeerServerName
	}
	pool, err := f.peer.pool()
	if err != nil {
		// The files broke since the start. No connection may come of it, and
		// the dialer gets the reason.
		c.InsecureSkipVerify = true
		c.VerifyConnection = func(tls.ConnectionState) error { return err }
		return c
	}
	c.RootCAs = pool
	c.VerifyConnection = f.peer.check
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return f.peer.dial.get() }
	return c
}

func (f *FileTLS) base() *tls.Config {
	return &tls.Config{
		MinVersion:             f.o.MinVersion,
		MaxVersion:             f.o.MaxVersion,
		CipherSuites:           slices.Clone(f.o.CipherSuites),
		SessionTicketsDisabled: true,
		Time:                   f.o.Now,
	}
}

// PeerID implements Settings.
func (f *FileTLS) PeerID(tls.ConnectionState) (uint64, error) { return 0, ErrUnnamed }

// Refusal implements Settings: what the handshake lets through may be served.
func (f *FileTLS) Refusal(tls.ConnectionState) error { return nil }

// Explain implements Settings.
func (f *FileTLS) Explain(err error) error { return Explain(err, "", f.o.Now()) }

// lookupTimeout bounds the name lookups of one handshake.
const lookupTimeout = 5 * time.Second

// checkAddress compares where a peer connects from with the names in its
// certificate, as etcd does: an address in it, a name that resolves to the
// address, or a wildcard matching a name the address resolves to. A certificate
// without names and addresses is not compared.
func (f *FileTLS) checkAddress(cs tls.ConnectionState, remote net.Addr) error {
	if len(cs.PeerCertificates) == 0 {
		return errNoneShown
	}
	cert := cs.PeerCertificates[0]
	if len(cert.IPAddresses) == 0 && len(cert.DNSNames) == 0 {
		return nil
	}
	host, _, err := net.SplitHostPort(remote.String())
	if err != nil {
		return fmt.Errorf("compare a peer's address with its certificate: %w", err)
	}
	ip := net.ParseIP(host)
	if slices.ContainsFunc(cert.IPAddresses, ip.Equal) {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), lookupTimeout)
	defer cancel()
	var failed []error
	for _, name := range cert.DNSNames {
		ok, err := f.leadsTo(ctx, name, host, ip)
		if ok {
			return nil
		}
		failed = append(failed, err)
	}
	err = refuse(ErrWrongHolder, "peer connects from %s, which is not among the names of its certificate (%s): add it to the certificate, or set --peer-skip-client-san-verification",
		host, sans(cert))
	if lookup := errors.Join(failed...); lookup != nil {
		err = fmt.Errorf("%w (%w)", err, lookup)
	}
	return err
}

// leadsTo tells whether a DNS name of a certificate stands for the address.
func (f *FileTLS) leadsTo(ctx context.Context, name, host string, ip net.IP) (bool, error) {
	if len(name) > 2 && name[:2] == "*." {
		names, err := f.o.LookupAddr(ctx, host)
		pattern := &x509.Certificate{DNSNames: []string{name}}
		return slices.ContainsFunc(names, func(n string) bool { return pattern.VerifyHostname(trimDot(n)) == nil }), err
	}
	addrs, err := f.o.LookupHost(ctx, name)
	return slices.ContainsFunc(addrs, func(a string) bool { return ip.Equal(net.ParseIP(a)) }), err
}

func trimDot(name string) string {
	if n := len(name); n > 0 && name[n-1] == '.' {
		return name[:n-1]
	}
	return name
}
