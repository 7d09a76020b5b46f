package pki

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/conclave-kv/conclave/internal/durable"
)

// The cluster secret file is text: a comment, then three PEM blocks in this
// order. The first holds the seal key under headers, the others the admission
// CA.
const (
	pemSecret     = "CONCLAVE CLUSTER SECRET"
	headerVersion = "Version"
	headerDomain  = "Trust-Domain"
	headerSum     = "Checksum"
	secretVersion = "1"

	maxSecretSize = 64 << 10 // bytes; of the key of a CA too
)

const secretComment = `# The secret of one conclave cluster. Give the same file to every member with
# --cluster-secret-file, readable by nobody else. Whoever reads it can join the
# cluster, and with a member's disk can issue any certificate of it.
`

// ErrSecretFile is wrapped when the file of --cluster-secret-file cannot be
// used; the text names the file and what to do.
var ErrSecretFile = errors.New("--cluster-secret-file")

// Secret is what the members of a cluster share before they know each other.
// It is safe for concurrent use.
type Secret struct {
	path        string // where it was loaded from, for messages
	trustDomain string
	admission   *Authority
	sealKey     [sealKeySize]byte
}

// NewSecret draws a new trust domain with its admission CA and seal key.
func NewSecret(now time.Time) (*Secret, error) {
	s := new(Secret)
	var id [8]byte
	if _, err := rand.Read(id[:]); err != nil {
		return nil, fmt.Errorf("draw a trust domain: %w", err)
	}
	if _, err := rand.Read(s.sealKey[:]); err != nil {
		return nil, fmt.Errorf("draw a seal key: %w", err)
	}
	s.trustDomain = hex.EncodeToString(id[:])
	ca, err := NewAuthority(AuthorityOptions{
		CN: "conclave admission CA " + s.trustDomain, TrustDomain: s.trustDomain, Now: now, Crosses: true,
	})
	if err != nil {
		return nil, err
	}
	s.admission = ca
	return s, nil
}

// TrustDomain returns the trust domain's id, 16 hex digits. It is not secret.
func (s *Secret) TrustDomain() string { return s.trustDomain }

// String names the secret without giving it away.
func (s *Secret) String() string { return "cluster secret of trust domain " + s.trustDomain }

// GoString is String: %#v must not print keys either.
func (s *Secret) GoString() string { return s.String() }

// Write creates the file with mode 0600, durably, and its directory where that
// is missing. The directory hides nothing: members may run as another user,
// who reads the file through its group. An existing file is never replaced:
// its cluster would be lost; the error wraps fs.ErrExist.
func (s *Secret) Write(path string) error {
	text, err := s.encode()
	if err != nil {
		return err
	}
	if err := durable.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("--out %s: %w", path, err)
	}
	switch err := durable.CreateFile(path, text, 0o600); {
	case errors.Is(err, fs.ErrExist):
		return refuse(fs.ErrExist, "--out %s exists and was left alone: replacing a cluster secret cuts off its cluster; choose another file name", path)
	case err != nil:
		return fmt.Errorf("--out %s: %w", path, err)
	}
	return nil
}

func (s *Secret) encode() ([]byte, error) {
	key, err := EncodeKey(s.admission.key)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.WriteString(secretComment)
	block := &pem.Block{
		Type:    pemSecret,
		Headers: map[string]string{headerVersion: secretVersion, headerDomain: s.trustDomain, headerSum: s.checksum()},
		Bytes:   s.sealKey[:],
	}
	if err := pem.Encode(&b, block); err != nil {
		return nil, fmt.Errorf("encode the cluster secret: %w", err)
	}
	b.Write(EncodeCertificates(s.admission.cert))
	b.Write(key)
	return b.Bytes(), nil
}

// checksum is for damage in copying, which would otherwise show only when the
// members do not find together. Eight bytes of a hash over a random key and
// public data tell nothing of the key.
func (s *Secret) checksum() string {
	h := sha256.New()
	h.Write([]byte(s.trustDomain)) // a hash does not fail
	h.Write(s.sealKey[:])
	h.Write(s.admission.cert.Raw)
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// LoadSecret reads the file of --cluster-secret-file. The file may be readable
// by its group, never by the world. Errors wrap ErrSecretFile.
func LoadSecret(path string) (*Secret, error) {
	text, err := readSecret(path)
	if err != nil {
		return nil, err
	}
	s, err := ParseSecret(text)
	if err != nil {
		return nil, fmt.Errorf("%w %s: %w; copy the file again from another member, or make one with `conclave cluster-secret new`",
			ErrSecretFile, path, err)
	}
	s.path = path
	return s, nil
}

// readSecret is readPrivate with words for who has no cluster secret yet.
func readSecret(path string) ([]byte, error) {
	text, err := readPrivate(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w %s: no such file; make it once with `conclave cluster-secret new` and copy it to every member", ErrSecretFile, path)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%w %s: not readable by this user; give it to the user or group that runs conclave (chgrp, chmod 640)", ErrSecretFile, path)
	case err != nil:
		return nil, fmt.Errorf("%w %s: %w", ErrSecretFile, path, err)
	}
	return text, nil
}

// readPrivate reads a small regular file and refuses one open to the world. It
// judges the file it opened, not the name.
func readPrivate(path string) ([]byte, error) {
	// Without O_NONBLOCK a named pipe would hang the start.
	f, err := os.OpenFile(filepath.Clean(path), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, errors.New("not a file")
	case info.Mode().Perm()&0o007 != 0:
		return nil, fmt.Errorf("open to every user (mode %04o): run `chmod 600 %s`, or 640 for a group", info.Mode().Perm(), path)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxSecretSize+1))
	switch {
	case err != nil:
		return nil, err
	case len(b) > maxSecretSize:
		return nil, fmt.Errorf("larger than %d bytes, which no secret is", maxSecretSize)
	}
	return b, nil
}

// ParseSecret reads the content of a cluster secret file. Its errors are short
// phrases that never quote the content.
func ParseSecret(text []byte) (*Secret, error) {
	var blocks []*pem.Block
	for rest := text; ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			if len(bytes.TrimSpace(rest)) > 0 && len(blocks) > 0 {
				return nil, errors.New("damaged or cut off after block " + fmt.Sprint(len(blocks)))
			}
			break
		}
		blocks = append(blocks, b)
	}
	switch {
	case len(blocks) == 0 || blocks[0].Type != pemSecret:
		return nil, errors.New("not a cluster secret")
	case blocks[0].Headers[headerVersion] != secretVersion:
		return nil, fmt.Errorf("a cluster secret of format %.20q, this conclave knows format %s", blocks[0].Headers[headerVersion], secretVersion)
	case len(blocks) != 3 || blocks[1].Type != pemCertificate || blocks[2].Type != pemKey:
		return nil, errors.New("incomplete, or more than one cluster secret in it")
	case len(blocks[0].Bytes) != sealKeySize:
		return nil, errors.New("its seal key has the wrong size")
	}
	s := &Secret{trustDomain: blocks[0].Headers[headerDomain]}
	if !trustDomainShape.MatchString(s.trustDomain) {
		return nil, errors.New("its trust domain is malformed")
	}
	copy(s.sealKey[:], blocks[0].Bytes)
	ca, err := loadAuthority(blocks[1].Bytes, blocks[2].Bytes, s.trustDomain)
	if err != nil {
		return nil, fmt.Errorf("its admission CA is unusable: %w", err)
	}
	s.admission = ca
	if blocks[0].Headers[headerSum] != s.checksum() {
		return nil, errors.New("damaged: its checksum does not fit")
	}
	return s, nil
}
