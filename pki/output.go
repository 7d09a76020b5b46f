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
	// The files of a CA are taken, in any spelling: some file systems tell no case apart.
	if base == "" || strings.EqualFold(base+".pem", caCertFile) || strings.EqualFold(base+".pem", caKeyFile) {
		base = "cert-" + base
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

// Write writes the three files durably, all or none of them: a certificate that
// is replaced keeps its key until both new ones are there. The directory is made
// with mode 0700 where it is missing. It checks again what Check does.
func (o Output) Write(certPEM, keyPEM, caPEM []byte, force bool) error {
	if err := durable.MkdirAll(filepath.Dir(o.Cert), 0o700); err != nil {
		return fmt.Errorf("--out: %w", err)
	}
	if err := o.Check(caPEM, force); err != nil {
		return err
	}
	err := durable.WriteFiles(
		durable.File{Path: o.Key, Data: keyPEM, Perm: 0o600},
		durable.File{Path: o.Cert, Data: certPEM, Perm: 0o644},
		durable.File{Path: o.CA, Data: caPEM, Perm: 0o644},
	)
	if err != nil {
		return fmt.Errorf("--out: %w", err)
	}
	return nil
}
