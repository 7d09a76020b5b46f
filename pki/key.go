package pki

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"

	"github.com/cloudflare/cfssl/csr"
	"github.com/cloudflare/cfssl/helpers"
)

// PEM block types.
const (
	pemCertificate = "CERTIFICATE"
	pemKey         = "PRIVATE KEY" // PKCS#8
)

// NewKey generates an ECDSA P-256 private key.
func NewKey() (crypto.Signer, error) {
	installBridge()
	key, err := csr.NewKeyRequest().Generate()
	if err != nil {
		return nil, fmt.Errorf("generate a key: %w", err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("generated key of type %T cannot sign", key)
	}
	return signer, nil
}

// NewRequest makes a certificate request (PEM) that proves possession of key
// and asks for no name.
func NewRequest(key crypto.Signer) ([]byte, error) {
	installBridge()
	b, err := csr.Generate(key, &csr.CertificateRequest{})
	if err != nil {
		return nil, fmt.Errorf("make a certificate request: %w", err)
	}
	return b, nil
}

// EncodeKey returns the key as a PKCS#8 PEM block.
func EncodeKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode a private key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemKey, Bytes: der}), nil
}

// EncodeCertificates returns certificates as PEM blocks, in the given order.
func EncodeCertificates(certs ...*x509.Certificate) []byte {
	var b bytes.Buffer
	for _, c := range certs {
		_ = pem.Encode(&b, &pem.Block{Type: pemCertificate, Bytes: c.Raw}) // a buffer does not fail
	}
	return b.Bytes()
}

// parseKeyPEM reads a private key of any usual PEM form.
func parseKeyPEM(b []byte) (crypto.Signer, error) {
	installBridge()
	key, err := helpers.ParsePrivateKeyPEM(b)
	if err != nil {
		// cfssl's error may quote what it could not read.
		return nil, errors.New("not a private key in PEM form")
	}
	return key, nil
}

// parseKeyDER reads a PKCS#8 private key.
func parseKeyDER(der []byte) (crypto.Signer, error) {
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, errors.New("not a PKCS#8 private key")
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("key of type %T cannot sign", key)
	}
	return signer, nil
}

// matches tells whether key is the private half of the certificate's.
func matches(cert *x509.Certificate, key crypto.Signer) bool {
	pub, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && pub.Equal(cert.PublicKey)
}

// newSerial returns 159 random bits, as many as RFC 5280 lets a serial number
// have.
func newSerial() (*big.Int, error) {
	b := make([]byte, 20)
	for {
		if _, err := rand.Read(b); err != nil {
			return nil, fmt.Errorf("draw a serial number: %w", err)
		}
		b[0] &= 0x7f
		// A leading zero byte would shorten the encoding; one draw in 128.
		if b[0] != 0 {
			return new(big.Int).SetBytes(b), nil
		}
	}
}
