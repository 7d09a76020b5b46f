package pki

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestCADir_roundTrip(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "ca")
	made, err := InitCADir(dir, "my CA", CALifetime, start)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(dir, "ca-key.pem")); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatal(info, err)
	}
	got, err := OpenCADir(dir)
	if err != nil || !got.cert.Equal(made.cert) {
		t.Fatal(err)
	}
	cert := mustIssue(t, got, Request{Profile: ProfilePeer, CN: "n1", Hosts: []string{"n1"}}).Leaf
	strict(t, "sslserver", got.cert, cert)
	if len(cert.URIs) != 0 {
		t.Fatalf("a CA of no cluster names %v", cert.URIs)
	}
	_, err = InitCADir(dir, "again", CALifetime, start)
	wantError(t, err, fs.ErrExist, "--dir "+dir)
	_, err = InitCADir(t.TempDir(), "", CALifetime, start)
	wantError(t, err, nil, "--cn")
	for _, life := range []time.Duration{0, -time.Hour, 100 * time.Millisecond} {
		_, err = InitCADir(t.TempDir(), "x", life, start)
		wantError(t, err, nil, "--lifetime "+life.String())
	}
}

// TestCADir_unfinished has the certificate fail after the key was written, then
// a key that a crash left alone.
func TestCADir_unfinished(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "ca-key.pem")
	if err := os.Mkdir(cert, 0o700); err != nil {
		t.Fatal(err)
	}
	wantError(t, writeCA(dir, []byte("cert"), []byte("key")), fs.ErrExist, cert)
	if exists(key) {
		t.Fatal("a CA that could not be written left its key")
	}
	if err := os.Remove(cert); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(key, []byte("key"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := InitCADir(dir, "x", CALifetime, start)
	wantError(t, err, fs.ErrExist, "--dir "+dir, key, "unfinished", "remove that file")
	if got, _ := os.ReadFile(key); string(got) != "key" {
		t.Fatalf("the key became %q", got)
	}
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	if _, err := InitCADir(dir, "x", CALifetime, start); err != nil {
		t.Fatal(err)
	}
}

func TestOpenCADir_refusals(t *testing.T) {
	dir := t.TempDir()
	_, err := OpenCADir(dir)
	wantError(t, err, nil, "--ca-dir "+dir, "conclave cert ca init --dir "+dir)
	if _, err := InitCADir(dir, "x", CALifetime, start); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ca.pem", "ca-key.pem"} {
		path := filepath.Join(dir, name)
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("garbage"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err = OpenCADir(dir)
		wantError(t, err, nil, "--ca-dir "+dir, name)
		if err := os.WriteFile(path, good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	key, err := EncodeKey(newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "ca-key.pem"), key, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = OpenCADir(dir)
	wantError(t, err, nil, "does not belong")
}

func TestOpenCADir_permissions(t *testing.T) {
	dir := t.TempDir()
	if _, err := InitCADir(dir, "x", CALifetime, start); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(dir, "ca-key.pem")
	for mode, ok := range map[fs.FileMode]bool{
		0o600: true, 0o400: true, 0o640: true, 0o644: false, 0o602: false, 0o666: false,
	} {
		if err := os.Chmod(key, mode); err != nil {
			t.Fatal(err)
		}
		_, err := OpenCADir(dir)
		if ok && err != nil {
			t.Errorf("mode %04o: %v", mode, err)
		}
		if !ok {
			wantError(t, err, nil, "--ca-dir "+dir, "ca-key.pem", fmt.Sprintf("mode %04o", mode), "chmod 600 "+key)
		}
	}
}

func TestOutput_writesAndRefuses(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "out")
	o := OutputPaths(dir, "admin")
	if err := o.Write([]byte("cert"), []byte("key"), []byte("ca"), false); err != nil {
		t.Fatal(err)
	}
	for path, mode := range map[string]fs.FileMode{o.Cert: 0o644, o.Key: 0o600, o.CA: 0o644} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", path, info, err)
		}
	}
	wantError(t, o.Write([]byte("c"), []byte("k"), []byte("ca"), false), fs.ErrExist, o.Cert, "--force")
	// Another certificate of the same CA goes beside; one of another does not.
	bob := OutputPaths(dir, "bob")
	if err := bob.Write([]byte("c"), []byte("k"), []byte("ca"), false); err != nil {
		t.Fatal(err)
	}
	eve := OutputPaths(dir, "eve")
	wantError(t, eve.Write([]byte("c"), []byte("k"), []byte("another"), false), fs.ErrExist, o.CA)
	if _, err := os.Stat(eve.Key); err == nil {
		t.Error("a refused output left a key")
	}
	if err := o.Write([]byte("c2"), []byte("k2"), []byte("ca"), true); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(o.Key); string(b) != "k2" {
		t.Error("--force did not replace")
	}
}

// TestOutput_keepsThePair has --force fail after the key was replaced, and after
// the certificate was.
func TestOutput_keepsThePair(t *testing.T) {
	for _, blocked := range []string{"admin.pem", "ca.pem"} {
		dir := t.TempDir()
		o := OutputPaths(dir, "admin")
		if err := o.Write([]byte("cert"), []byte("key"), []byte("ca"), false); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, blocked)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
		wantError(t, o.Write([]byte("c2"), []byte("k2"), []byte("ca2"), true), nil, "--out", path)
		for p, want := range map[string]string{o.Cert: "cert", o.Key: "key", o.CA: "ca"} {
			if got, _ := os.ReadFile(p); p != path && string(got) != want {
				t.Errorf("%s cannot be written: %s holds %q, want %q", blocked, p, got, want)
			}
		}
	}
}

func TestOutputPaths_names(t *testing.T) {
	for name, want := range map[string]string{
		"admin": "admin.pem", "a/../b": "a_.._b.pem", "../../x": "_.._x.pem", "..": "cert-.pem", "ca": "cert-ca.pem", "ca-key": "cert-ca-key.pem", "CA": "cert-CA.pem", "Ca-KEY": "cert-Ca-KEY.pem",
		"cacert": "cacert.pem", "ü b": "__b.pem", "-rf": "rf.pem",
	} {
		if got := OutputPaths("d", name).Cert; got != filepath.Join("d", want) {
			t.Errorf("%q goes to %s, want %s", name, got, want)
		}
	}
}

func TestOutput_keepsTheCA(t *testing.T) {
	dir := t.TempDir()
	ca, err := InitCADir(dir, "x", CALifetime, start)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ca", "ca-key", "-ca-key"} {
		if err := OutputPaths(dir, name).Write([]byte("cert"), []byte("key"), EncodeCertificates(ca.cert), true); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenCADir(dir); err != nil {
			t.Fatalf("a certificate of %q has spoilt the CA: %v", name, err)
		}
	}
}

func TestDescribe_certificate(t *testing.T) {
	a := newCA(t, AuthorityOptions{TrustDomain: "td", CN: "the CA"})
	member := mustIssue(t, a, Request{Profile: ProfilePeer, Member: 0xabc, Hosts: []string{"n1", "10.0.0.1"}}).Leaf
	user := mustIssue(t, a, Request{Profile: ProfileClient, CN: "admin", Lifetime: 36 * time.Hour}).Leaf
	key, err := EncodeKey(newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	list, err := Describe(slices.Concat(key, EncodeCertificates(member, user, a.cert)), start)
	if err != nil || len(list) != 3 {
		t.Fatal(list, err)
	}
	m, u, ca := list[0], list[1], list[2]
	if m.Member != 0xabc || m.TrustDomain != "td" || !slices.Equal(m.Hosts, []string{"n1", "10.0.0.1"}) || m.DaysLeft != 30 || m.Issuer != "CN=the CA" || m.Key != "ECDSA P-256" {
		t.Errorf("%+v", m)
	}
	if u.User != "admin" || u.DaysLeft != 1 || !slices.Contains(u.Usage, "client authentication") || len(u.Fingerprint) != 95 {
		t.Errorf("%+v", u)
	}
	if !ca.CA || !slices.Contains(ca.Usage, "certificate signing") {
		t.Errorf("%+v", ca)
	}
	out, err := openssl(t, "x509", "-in", writeFile(t, "u.pem", EncodeCertificates(user)), "-noout", "-fingerprint", "-sha256")
	if err != nil || !strings.Contains(out, u.Fingerprint) {
		t.Errorf("openssl says %s, we say %s", out, u.Fingerprint)
	}
	if list, _ := Describe(EncodeCertificates(user), start.Add(36*time.Hour+time.Second)); list[0].DaysLeft != -1 {
		t.Errorf("after the end %d days are left", list[0].DaysLeft)
	}
	for _, bad := range []string{"", "garbage", string(key), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"} {
		if _, err := Describe([]byte(bad), start); err == nil {
			t.Errorf("%q is described", bad)
		}
	}
}
