package pki

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// side is one port of a FileTLS: its files, each read again when changed.
type side struct {
	o    FileSide
	pair *watched[*tls.Certificate] // shown when accepting
	dial *watched[*tls.Certificate] // shown when dialling
	cas  *watched[*x509.CertPool]   // nil: the system's
	crl  *watched[map[string]bool]  // revoked serials; nil: none
}

// newSide reads the files of one port. prefix is that of its flags. It returns
// nil for a plaintext port.
func newSide(prefix, crlFlag string, o FileSide, log zerolog.Logger) (*side, error) {
	flag := func(name string) string { return "--" + prefix + name }
	if o.CertFile == "" && o.KeyFile == "" {
		if o.TrustedCAFile != "" || o.ClientCertAuth || o.CRLFile != "" {
			return nil, fmt.Errorf("%s, %s: give both, since %s or %s is given", flag("cert-file"), flag("key-file"), flag("trusted-ca-file"), flag("client-cert-auth"))
		}
		return nil, nil
	}
	if len(o.AllowedCNs) > 0 && len(o.AllowedHostnames) > 0 {
		return nil, fmt.Errorf("%s and %s exclude each other", flag("cert-allowed-cn"), flag("cert-allowed-hostname"))
	}
	s := &side{o: o}
	var err error
	if s.pair, err = watchPair(flag("cert-file"), o.CertFile, flag("key-file"), o.KeyFile, log); err != nil {
		return nil, err
	}
	s.dial = s.pair
	if o.ClientCertFile != "" || o.ClientKeyFile != "" {
		s.dial, err = watchPair(flag("client-cert-file"), o.ClientCertFile, flag("client-key-file"), o.ClientKeyFile, log)
		if err != nil {
			return nil, err
		}
	}
	if o.TrustedCAFile != "" {
		s.cas = &watched[*x509.CertPool]{paths: []string{o.TrustedCAFile}, flags: flag("trusted-ca-file"), load: parsePool}
		if _, err := s.cas.get(); err != nil {
			return nil, err
		}
	}
	if o.CRLFile != "" {
		s.crl = &watched[map[string]bool]{paths: []string{o.CRLFile}, flags: crlFlag, load: parseCRL}
		if _, err := s.crl.get(); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// auth tells whether the port requires certificates.
func (s *side) auth() bool { return s.o.ClientCertAuth || s.o.TrustedCAFile != "" }

// pool returns the trusted CAs; nil means the system's.
func (s *side) pool() (*x509.CertPool, error) {
	if s.cas == nil {
		return nil, nil
	}
	return s.cas.get()
}

// check judges a connection whose chain Go has verified.
func (s *side) check(cs tls.ConnectionState) error {
	if len(cs.VerifiedChains) == 0 {
		return errNoneShown
	}
	leaf := cs.VerifiedChains[0][0]
	if s.crl != nil {
		revoked, err := s.crl.get()
		if err != nil {
			return err
		}
		for _, cert := range cs.PeerCertificates {
			if revoked[string(cert.SerialNumber.Bytes())] {
				return refuse(ErrWrongHolder, "certificate of %s with serial %x is revoked by %s", holder(cert), cert.SerialNumber, s.o.CRLFile)
			}
		}
	}
	if cns := s.o.AllowedCNs; len(cns) > 0 && !slices.Contains(cns, leaf.Subject.CommonName) {
		return refuse(ErrWrongHolder, "common name %q of a peer is not allowed: --peer-cert-allowed-cn is %s", leaf.Subject.CommonName, joinUpTo(cns, 8))
	}
	if hosts := s.o.AllowedHostnames; len(hosts) > 0 &&
		!slices.ContainsFunc(hosts, func(h string) bool { return leaf.VerifyHostname(h) == nil }) {
		return refuse(ErrWrongHolder, "certificate of %s (%s) holds no allowed host name: %s", holder(leaf), sans(leaf), joinUpTo(hosts, 8))
	}
	return nil
}

// watched is a value read from files, and read again when one of them changed.
type watched[T any] struct {
	paths    []string
	flags    string // for messages
	load     func(contents [][]byte) (T, error)
	keepLast bool // on a failed reading serve the last good value, and warn
	log      zerolog.Logger

	mu    sync.Mutex
	seen  []stamp
	value T
	good  bool
}

// stamp tells one version of a file from another.
type stamp struct {
	mtime time.Time
	size  int64
}

// get returns the value as of the present files. Errors name flag and file.
func (w *watched[T]) get() (T, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	seen, contents, err := w.read()
	if err == nil && contents == nil {
		return w.value, nil
	}
	var value T
	if err == nil {
		value, err = w.load(contents)
	}
	switch {
	case err == nil:
		w.value, w.seen, w.good = value, seen, true
		return value, nil
	case w.keepLast && w.good:
		// In the middle of a rotation certificate and key may not match; the
		// ones before are still good. The stamps stay: read again next time.
		w.log.Warn().Err(err).Msg("changed certificate files are not usable; the last good ones are served")
		return w.value, nil
	}
	var none T
	return none, fmt.Errorf("%s %s: %w", w.flags, joinUpTo(w.paths, len(w.paths)), err)
}

// read returns the files' contents, or nil contents when none changed.
func (w *watched[T]) read() (seen []stamp, contents [][]byte, err error) {
	for _, path := range w.paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, nil, bare(err)
		}
		seen = append(seen, stamp{info.ModTime(), info.Size()})
	}
	if w.good && slices.Equal(seen, w.seen) {
		return seen, nil, nil
	}
	for _, path := range w.paths {
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, nil, bare(err)
		}
		contents = append(contents, b)
	}
	return seen, contents, nil
}

// bare strips the path off a file error; the message has it already.
func bare(err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// watchPair reads a certificate with its key.
func watchPair(certFlag, certFile, keyFlag, keyFile string, log zerolog.Logger) (*watched[*tls.Certificate], error) {
	if certFile == "" || keyFile == "" {
		return nil, fmt.Errorf("%s %q and %s %q: give both", certFlag, certFile, keyFlag, keyFile)
	}
	w := &watched[*tls.Certificate]{
		paths: []string{certFile, keyFile}, flags: certFlag + ", " + keyFlag, keepLast: true, log: log,
		load: func(b [][]byte) (*tls.Certificate, error) {
			cert, err := tls.X509KeyPair(b[0], b[1])
			return &cert, err
		},
	}
	_, err := w.get()
	return w, err
}

func parsePool(b [][]byte) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b[0]) {
		return nil, errors.New("no certificate in PEM form in it")
	}
	return pool, nil
}

// parseCRL reads a revocation list, DER or PEM, into a set of serials.
func parseCRL(b [][]byte) (map[string]bool, error) {
	der := b[0]
	if block, _ := pem.Decode(der); block != nil {
		der = block.Bytes
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, errors.New("not a certificate revocation list in DER or PEM form")
	}
	revoked := make(map[string]bool, len(list.RevokedCertificateEntries))
	for _, e := range list.RevokedCertificateEntries {
		revoked[string(e.SerialNumber.Bytes())] = true
	}
	return revoked, nil
}
