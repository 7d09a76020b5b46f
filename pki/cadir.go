package pki

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/conclave-kv/conclave/internal/durable"
)

// The files of a CA directory (`conclave cert ca init`).
const (
	caCertFile = "ca.pem"
	caKeyFile  = "ca-key.pem"
)

// InitCADir creates a CA of one's own in dir: ca.pem, and ca-key.pem with mode
// 0600. Its certificates are used through etcd's flags and belong to no trust
// domain. An existing CA, or a part of one, is left alone; the error wraps
// fs.ErrExist.
func InitCADir(dir, cn string, lifetime time.Duration, now time.Time) (*Authority, error) {
	if err := checkUser(cn); err != nil {
		return nil, err
	}
	if err := CheckLifetime(lifetime); err != nil {
		return nil, err
	}
	if path := filepath.Join(dir, caCertFile); exists(path) {
		return nil, refuse(fs.ErrExist, "--dir %s: %s exists, and a new CA would make its certificates worthless; choose another directory", dir, path)
	}
	if path := filepath.Join(dir, caKeyFile); exists(path) {
		return nil, refuse(fs.ErrExist, "--dir %s: %s is there without %s: the CA is unfinished; remove that file, or choose another directory",
			dir, path, caCertFile)
	}
	a, err := NewAuthority(AuthorityOptions{CN: cn, Lifetime: lifetime, Now: now})
	if err != nil {
		return nil, err
	}
	key, err := EncodeKey(a.key)
	if err != nil {
		return nil, err
	}
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("--dir %s: %w", dir, err)
	}
	if err := writeCA(dir, EncodeCertificates(a.cert), key); err != nil {
		return nil, fmt.Errorf("--dir %s: %w", dir, err)
	}
	return a, nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// writeCA creates both files of a CA or none.
func writeCA(dir string, cert, key []byte) error {
	// The key first: a certificate without it would look like a CA.
	keyPath := filepath.Join(dir, caKeyFile)
	if err := durable.CreateFile(keyPath, key, 0o600); err != nil {
		return err
	}
	err := durable.CreateFile(filepath.Join(dir, caCertFile), cert, 0o644)
	if err != nil {
		// Left behind, it would be in the way of the next try.
		if rerr := os.Remove(keyPath); rerr != nil {
			return fmt.Errorf("%w; and what is there of the CA must be removed: %w", err, rerr)
		}
		_ = durable.SyncDir(dir) // err is the one to report
	}
	return err
}

// OpenCADir opens a CA made by InitCADir, or any CA whose certificate and key
// lie under those names. As a cluster secret, the key may be readable by its
// group, never by the world.
func OpenCADir(dir string) (*Authority, error) {
	read := func(name string, file func(string) ([]byte, error)) ([]byte, error) {
		b, err := file(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("--ca-dir %s: no %s in it; make a CA with `conclave cert ca init --dir %s`", dir, name, dir)
		}
		if err != nil {
			return nil, fmt.Errorf("--ca-dir %s: %s: %w", dir, name, err)
		}
		return b, nil
	}
	certPEM, err := read(caCertFile, os.ReadFile)
	if err != nil {
		return nil, err
	}
	keyPEM, err := read(caKeyFile, readPrivate)
	if err != nil {
		return nil, err
	}
	cert, err := parseOne(certPEM)
	if err != nil {
		return nil, fmt.Errorf("--ca-dir %s: %s: %w", dir, caCertFile, err)
	}
	key, err := parseKeyPEM(keyPEM)
	if err != nil {
		return nil, fmt.Errorf("--ca-dir %s: %s: %w", dir, caKeyFile, err)
	}
	a, err := newAuthority(cert, key, "")
	if err != nil {
		return nil, fmt.Errorf("--ca-dir %s: %w", dir, err)
	}
	return a, nil
}
