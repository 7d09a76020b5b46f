package pki

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/conclave-kv/conclave/internal/durable"
)

// Output are the files of one certificate: NAME.pem, NAME-key.pem (0600) and
// ca.pem in one directory.
type Output struct {
	Cert, Key, CA string
}

// OutputPaths names the files for a certificate of name in dir. Characters that
// do not belong in a file name become '_'.
func OutputPaths(dir, name string) Output {
	base := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._@-", r) {
			return r
		}
		return '_'
	}, name)
	base = strings.TrimLeft(base, ".-")
	if base == "" || base == "ca" {
		base = "cert-" + base // ca.pem is taken
	}
	return Output{
		Cert: filepath.Join(dir, base+".pem"),
		Key:  filepath.Join(dir, base+"-key.pem"),
		CA:   filepath.Join(dir, "ca.pem"),
	}
}

// Check refuses to go on where files would be replaced: the certificate and
// its key unless force, and ca.pem when it holds another CA. It is asked before
// anything is issued.
func (o Output) Check(caPEM []byte, force bool) error {
	if !force {
		for _, path := range []string{o.Cert, o.Key} {
			if _, err := os.Lstat(path); err == nil {
				return refuse(fs.ErrExist, "%s exists: choose another --out directory, or replace it with --force", path)
			}
		}
	}
	have, err := os.ReadFile(o.CA)
	switch {
	case errors.Is(err, fs.ErrNotExist) || caPEM == nil || force:
		return nil
	case err != nil:
		return err
	case string(have) != string(caPEM):
		return refuse(fs.ErrExist, "%s holds another CA: choose another --out directory, or replace it with --force", o.CA)
	}
	return nil
}

// Write writes the three files durably, the key first, making the directory
// with mode 0700 where it is missing. It checks again what Check does.
func (o Output) Write(certPEM, keyPEM, caPEM []byte, force bool) error {
	if err := durable.MkdirAll(filepath.Dir(o.Cert), 0o700); err != nil {
		return fmt.Errorf("--out: %w", err)
	}
	if err := o.Check(caPEM, force); err != nil {
		return err
	}
	for _, f := range []struct {
		path string
		data []byte
		perm fs.FileMode
	}{{o.Key, keyPEM, 0o600}, {o.Cert, certPEM, 0o644}, {o.CA, caPEM, 0o644}} {
		if err := durable.WriteFile(f.path, f.data, f.perm); err != nil {
			return fmt.Errorf("--out: %w", err)
		}
	}
	return nil
}
