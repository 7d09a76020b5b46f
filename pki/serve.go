package pki

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
)

// PeerServer implements Settings: the other side must prove to be a member.
// Go's own verification is replaced by verifyAccepted, which knows trust
// domains and has words for what is wrong; nothing passes without it.
func (r *Renewer) PeerServer() *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13, // both sides are conclave
		SessionTicketsDisabled: true,             // each connection is verified
		Time:                   r.o.Now,
		ClientAuth:             tls.RequireAnyClientCert,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return r.shown()
		},
		VerifyConnection: r.verifyAccepted,
	}
}

// PeerClient implements Settings: the answering side must prove to be the
// member id.
func (r *Renewer) PeerClient(id uint64) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		SessionTicketsDisabled: true,
		Time:                   r.o.Now,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return r.shown()
		},
		// Names of hosts do not identify members. verifyDialled verifies chain,
		// trust domain and member id instead.
		InsecureSkipVerify: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			return r.verifyDialled(cs, id)
		},
	}
}

func (r *Renewer) shown() (*tls.Certificate, error) {
	c, err := r.certificate()
	if err != nil {
		return nil, err
	}
	return &c.tls, nil
}

// ClientServer implements Settings: clients must show a user's certificate of
// the client CA. The verified chain is in the connection's state.
func (r *Renewer) ClientServer() *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS12,
		NextProtos:             []string{"h2", "http/1.1"},
		SessionTicketsDisabled: true,
		Time:                   r.o.Now,
		ClientAuth:             tls.RequireAndVerifyClientCert,
		GetConfigForClient:     r.clientConfig,
	}
}

var errNotReady = errors.New("the cluster has no certificate authorities yet, so the client port cannot serve: wait until it has formed")

// Explain implements Settings.
func (r *Renewer) Explain(err error) error { return Explain(err, r.trustDomain, r.o.Now()) }

// portConfig is the client port's configuration made from one keyring.
type portConfig struct {
	ring   *keyring
	config *tls.Config
}

// tls12Suites are what clients with TLS 1.2 may use: authenticated encryption
// with forward secrecy, for the ECDSA keys servers have. TLS 1.3 chooses for
// itself.
var tls12Suites = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
}

// clientConfig is the client port's configuration with the certificates of now:
// the same one until they change.
func (r *Renewer) clientConfig(*tls.ClientHelloInfo) (*tls.Config, error) {
	ring := r.ring.Load()
	if ring.roots == nil || ring.server == nil {
		return nil, errNotReady
	}
	if p := r.port.Load(); p != nil && p.ring == ring {
		return p.config, nil
	}
	pool := x509.NewCertPool()
	pool.AddCert(ring.roots.clientCA)
	config := &tls.Config{
		MinVersion:             tls.VersionTLS12,
		NextProtos:             []string{"h2", "http/1.1"},
		SessionTicketsDisabled: true,
		Time:                   r.o.Now,
		CipherSuites:           tls12Suites,
		Certificates:           []tls.Certificate{ring.server.tls},
		ClientAuth:             tls.RequireAndVerifyClientCert,
		ClientCAs:              pool,
		VerifyConnection:       r.verifyClient,
	}
	r.port.Store(&portConfig{ring: ring, config: config})
	return config, nil
}

// verifyClient runs after Go verified the chain to the client CA and the use
// for client authentication: the certificate must be a user's, with the common
// name as that user.
func (r *Renewer) verifyClient(cs tls.ConnectionState) error {
	if len(cs.VerifiedChains) == 0 {
		return refuse(ErrNoCertificate, "the client showed no certificate that verifies: --cert and --key of a client certificate (conclave cert issue --profile client)")
	}
	leaf := cs.VerifiedChains[0][0]
	n, err := NameOf(leaf)
	switch {
	case err != nil || n.TrustDomain != r.trustDomain:
		return foreignError(leaf, r.trustDomain)
	case n.User == "" || n.User != leaf.Subject.CommonName:
		return refuse(ErrWrongHolder, "certificate of %s is not that of a user: use --profile client", n)
	}
	return nil
}
