package pki

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func TestSecret_roundTrip(t *testing.T) {
	s := newSecret(t)
	path := filepath.Join(t.TempDir(), "cluster.secret")
	if err := s.Write(path); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
	got, err := LoadSecret(path)
	if err != nil {
		t.Fatal(err)
	}
	if got.trustDomain != s.trustDomain || len(s.trustDomain) != 16 || got.sealKey != s.sealKey || !got.admission.cert.Equal(s.admission.cert) {
		t.Fatal("another secret came back")
	}
	sealed, err := s.Seal("x", []byte("plain"))
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := got.Unseal("x", sealed); err != nil || string(plain) != "plain" {
		t.Fatalf("unsealed %q, %v", plain, err)
	}
	strict(t, "any", s.admission.cert, s.admission.cert)
}

func TestSecret_writeRefusesToReplace(t *testing.T) {
	path := writeFile(t, "cluster.secret", []byte("precious"))
	err := newSecret(t).Write(path)
	wantError(t, err, fs.ErrExist, "--out", path)
	if b, _ := os.ReadFile(path); string(b) != "precious" {
		t.Fatal("replaced")
	}
}

// README's first line for a host: /etc/conclave is not there yet.
func TestSecret_writeMakesItsDirectory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "etc", "conclave", "cluster.secret")
	if err := newSecret(t).Write(path); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info.Mode(), err)
	}
}

func TestLoadSecret_permissions(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cluster.secret")
	if err := newSecret(t).Write(path); err != nil {
		t.Fatal(err)
	}
	for mode, ok := range map[fs.FileMode]bool{
		0o600: true, 0o400: true, 0o640: true, 0o440: true,
		0o644: false, 0o604: false, 0o602: false, 0o666: false, 0o601: false,
	} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		_, err := LoadSecret(path)
		if ok && err != nil {
			t.Errorf("mode %04o: %v", mode, err)
		}
		if !ok {
			wantError(t, err, ErrSecretFile, "--cluster-secret-file "+path, "chmod 600 "+path, fmt.Sprintf("%04o", mode))
		}
	}
	// A link is judged by the file, as Kubernetes mounts secrets.
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadSecret(link); err != nil {
		t.Fatal(err)
	}
}

func TestLoadSecret_notAFile(t *testing.T) {
	dir := t.TempDir()
	_, err := LoadSecret(dir)
	wantError(t, err, ErrSecretFile, dir)
	_, err = LoadSecret(filepath.Join(dir, "none"))
	wantError(t, err, ErrSecretFile, "no such file", "conclave cluster-secret new")
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = LoadSecret(pipe) // must not hang
	wantError(t, err, ErrSecretFile, "not a file")
	_, err = LoadSecret(writeFile(t, "large", bytes.Repeat([]byte("x"), maxSecretSize+1)))
	wantError(t, err, ErrSecretFile, "larger than")
}

func TestParseSecret_malformed(t *testing.T) {
	good, err := newSecret(t).encode()
	if err != nil {
		t.Fatal(err)
	}
	other, err := newSecret(t).encode()
	if err != nil {
		t.Fatal(err)
	}
	s := string(good)
	cert := s[strings.Index(s, "-----BEGIN CERT"):strings.Index(s, "-----BEGIN PRIVATE")]
	otherCert := string(other)[strings.Index(string(other), "-----BEGIN CERT"):strings.Index(string(other), "-----BEGIN PRIVATE")]
	leaf := EncodeCertificates(mustIssue(t, newCA(t, AuthorityOptions{}), Request{Profile: ProfileClient, CN: "x"}).Leaf)
	for name, c := range map[string]struct{ text, word string }{
		"empty":         {"", "not a cluster secret"},
		"text":          {"hello\n", "not a cluster secret"},
		"a certificate": {cert, "not a cluster secret"},
		"version":       {strings.Replace(s, "Version: 1", "Version: 2", 1), `format "2"`},
		"no version":    {strings.Replace(s, "Version: 1\n", "", 1), "format"},
		"domain":        {strings.Replace(s, "Trust-Domain: ", "Trust-Domain: ../", 1), "trust domain"},
		"no CA":         {strings.Replace(s, cert, "", 1), "incomplete"},
		"twice":         {s + s, "more than one"},
		"tail":          {s + "tail", "damaged"},
		"cut":           {s[:len(s)-20], "damaged"},
		"cut key":       {strings.Replace(s, cert, "", 1), "incomplete"},
		"another CA":    {strings.Replace(s, cert, otherCert, 1), "does not belong"},
		"another key":   {strings.Replace(s, seal(s), seal(string(other)), 1), "checksum"},
		"not a CA":      {strings.Replace(s, cert, string(leaf), 1), "not that of a CA"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseSecret([]byte(c.text))
			wantError(t, err, nil, c.word)
			path := writeFile(t, "cluster.secret", []byte(c.text))
			_, err = LoadSecret(path)
			wantError(t, err, ErrSecretFile, "--cluster-secret-file "+path)
		})
	}
}

// seal cuts the line of the seal key out of a secret file.
func seal(s string) string {
	_, s, _ = strings.Cut(s, "\n\n")
	s, _, _ = strings.Cut(s, "\n")
	return s
}

func TestSecret_neverPrinted(t *testing.T) {
	s := newSecret(t)
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		got := fmt.Sprintf(format, s)
		if len(got) > 100 || !strings.Contains(got, s.trustDomain) {
			t.Errorf("%s prints %q", format, got)
		}
	}
}

func TestSeal_contextAndDamage(t *testing.T) {
	s, other := newSecret(t), newSecret(t)
	a, err := s.Seal("one", []byte("plain"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.Seal("one", []byte("plain"))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(a, b) || bytes.Contains(a, []byte("plain")) {
		t.Fatal("sealing is not random, or hides nothing")
	}
	if _, err := s.Unseal("two", a); !errors.Is(err, ErrUnseal) {
		t.Fatalf("opened for another purpose: %v", err)
	}
	if _, err := other.Unseal("one", a); !errors.Is(err, ErrUnseal) {
		t.Fatalf("opened with another secret: %v", err)
	}
	for i := range a {
		bad := bytes.Clone(a)
		bad[i] ^= 1
		if _, err := s.Unseal("one", bad); !errors.Is(err, ErrUnseal) {
			t.Fatalf("byte %d changed: %v", i, err)
		}
		if _, err := s.Unseal("one", a[:i]); !errors.Is(err, ErrUnseal) {
			t.Fatalf("cut at %d: %v", i, err)
		}
	}
}

func TestParseSecret_mutated(t *testing.T) {
	good, err := newSecret(t).encode()
	if err != nil {
		t.Fatal(err)
	}
	chance := rand.New(rand.NewPCG(1, 2))
	refused := 0
	for range 5000 {
		text := bytes.Clone(good)
		for range 1 + chance.IntN(3) {
			i := chance.IntN(len(text))
			switch chance.IntN(4) {
			case 0:
				text[i] = byte(chance.UintN(256))
			case 1:
				text = slices.Delete(text, i, min(len(text), i+chance.IntN(40)))
			case 2:
				text = slices.Insert(text, i, text[i:min(len(text), i+chance.IntN(40))]...)
			case 3:
				text = text[:max(i, 1)]
			}
		}
		s, err := ParseSecret(text)
		if err != nil {
			refused++
			if strings.Contains(err.Error(), "\n") || len(err.Error()) > 300 {
				t.Fatalf("error is not one short line: %q", err)
			}
			continue
		}
		if again, err := s.encode(); err != nil || !bytes.Equal(again, good) {
			t.Fatal("another secret was read from a damaged file")
		}
	}
	// Changes in the comment are allowed.
	if refused < 3000 {
		t.Fatalf("only %d of 5000 damaged files were refused", refused)
	}
}

func FuzzParseSecret(f *testing.F) {
	good, err := newSecret(f).encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(nil))
	f.Add([]byte("-----BEGIN CONCLAVE CLUSTER SECRET-----\nVersion: 1\n\nAAAA\n-----END CONCLAVE CLUSTER SECRET-----\n"))
	f.Add(bytes.ReplaceAll(good, []byte("\n"), []byte("\r\n")))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := ParseSecret(text)
		if err != nil {
			if strings.Contains(err.Error(), "\n") || len(err.Error()) > 300 {
				t.Fatalf("error is not one short line: %q", err)
			}
			return
		}
		again, err := s.encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseSecret(again); err != nil {
			t.Fatalf("what was read cannot be read again: %v", err)
		}
		if block, _ := pem.Decode(again); block == nil {
			t.Fatal("no block")
		}
	})
}
