package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// certs are one CA and one certificate, for every member and for the client,
// used through the flags that etcd and conclave share. A nil *certs means
// plaintext.
type certs struct {
	ca, cert, key string // files
	tls           *tls.Config
}

// newCerts makes the files in dir.
func newCerts(dir string) (*certs, error) {
	c := &certs{ca: filepath.Join(dir, "ca.crt"), cert: filepath.Join(dir, "bench.crt"), key: filepath.Join(dir, "bench.key")}
	now := time.Now()
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bench CA"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "bench"},
		NotBefore: root.NotBefore, NotAfter: root.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		DNSNames:    []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	if err := writeCert(c.ca, root, root, rootKey, rootKey); err != nil {
		return nil, err
	}
	if err := writeCert(c.cert, leaf, root, leafKey, rootKey); err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(leafKey)
	if err != nil {
		return nil, err
	}
	if err := writePEM(c.key, "PRIVATE KEY", der); err != nil {
		return nil, err
	}
	return loadCerts(c.ca, c.cert, c.key)
}

func writeCert(name string, cert, parent *x509.Certificate, key, signer *ecdsa.PrivateKey) error {
	der, err := x509.CreateCertificate(rand.Reader, cert, parent, &key.PublicKey, signer)
	if err != nil {
		return fmt.Errorf("sign %s: %w", name, err)
	}
	return writePEM(name, "CERTIFICATE", der)
}

func writePEM(name, kind string, der []byte) error {
	return os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}

// loadCerts reads the files; no names at all mean plaintext.
func loadCerts(ca, cert, key string) (*certs, error) {
	if ca == "" {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(ca)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate", ca)
	}
	return &certs{ca: ca, cert: cert, key: key, tls: &tls.Config{
		Certificates: []tls.Certificate{pair}, RootCAs: pool, ClientCAs: pool,
		ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12,
	}}, nil
}

func (c *certs) scheme() string {
	if c == nil {
		return "http://"
	}
	return "https://"
}

// memberFlags is mutual TLS on both ports of etcd or conclave.
func (c *certs) memberFlags() []string {
	if c == nil {
		return nil
	}
	return []string{
		"--cert-file", c.cert, "--key-file", c.key, "--trusted-ca-file", c.ca, "--client-cert-auth",
		"--peer-cert-file", c.cert, "--peer-key-file", c.key, "--peer-trusted-ca-file", c.ca, "--peer-client-cert-auth",
	}
}

func (c *certs) emptyServerFlags() []string {
	if c == nil {
		return nil
	}
	return []string{"-ca", c.ca, "-cert", c.cert, "-key", c.key}
}

func (c *certs) dialOption() grpc.DialOption {
	if c == nil {
		return grpc.WithTransportCredentials(insecure.NewCredentials())
	}
	return grpc.WithTransportCredentials(credentials.NewTLS(c.tls))
}
