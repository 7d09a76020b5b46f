package pki

import (
	"crypto/x509"
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"
)

func TestNameOf_malformed(t *testing.T) {
	for _, s := range []string{
		"conclave://td/member/0", "conclave://td/member/", "conclave://td/member/1", "conclave://td/member/000000000000000G",
		"conclave://td/member/0000000000000ABC", "conclave://td/member/00000000000000001", "conclave:///member/0000000000000001",
		"conclave://TD/member/0000000000000001", "conclave://td/user/", "conclave://td/user/a/b", "conclave://td/other/x",
		"conclave://td/user/a?b=c", "conclave://td/user/a#b", "conclave://u@td/user/a", "conclave://td:1/user/a", "conclave:td/user/a",
		"conclave://td/user/%00", "conclave://td/user/%61",
	} {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := NameOf(&x509.Certificate{URIs: []*url.URL{u}}); err == nil || errors.Is(err, ErrUnnamed) {
			t.Errorf("%s is taken for %+v, %v", s, n, err)
		}
	}
}

func TestNameOf_count(t *testing.T) {
	member, user := Name{TrustDomain: "td", Member: 0xabc}.URI(), Name{TrustDomain: "td", User: "root"}.URI()
	other, err := url.Parse("spiffe://td/x")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NameOf(&x509.Certificate{URIs: []*url.URL{other}}); !errors.Is(err, ErrUnnamed) {
		t.Errorf("no conclave name: %v", err)
	}
	if _, err := NameOf(&x509.Certificate{URIs: []*url.URL{member, user}}); err == nil {
		t.Error("two names were taken")
	}
	if n, err := NameOf(&x509.Certificate{URIs: []*url.URL{other, member}}); err != nil || n.Member != 0xabc || n.TrustDomain != "td" {
		t.Errorf("%+v, %v", n, err)
	}
}

func TestCleanHosts_forms(t *testing.T) {
	got, err := cleanHosts([]string{"N1.Example.COM.", "n1.example.com", " 10.0.0.1 ", "[::1]", "::1", "::ffff:10.0.0.1", "*.example.com", "a_b"})
	want := []string{"n1.example.com", "10.0.0.1", "::1", "*.example.com", "a_b"}
	if err != nil || !slices.Equal(got, want) {
		t.Fatalf("%v, %v; want %v", got, err, want)
	}
	for _, bad := range []string{"a..b", "-a", "a-", "*", "a.*.b", "a b", strings.Repeat("a", 64), strings.Repeat("a.", 130) + "a", "ü", "a/b", "%"} {
		if got, err := cleanHosts([]string{bad}); err == nil {
			t.Errorf("%q becomes %v", bad, got)
		}
	}
	many := make([]string, maxHosts+1)
	for i := range many {
		many[i] = "h" + itoa(int64(i))
	}
	if _, err := cleanHosts(many); err == nil {
		t.Error("no bound on names")
	}
}

func TestHostsOf_urls(t *testing.T) {
	got := HostsOf("https://n1.example.com:2380", "https://0.0.0.0:2379", "https://[::]:2379", "https://[fd00::1]:2380", "unix://n1:1", "unixs:///run/Conclave.sock", "unixs://n1:1", "://", "https://10.0.0.1")
	if want := []string{"n1.example.com", "fd00::1", "conclave.sock", "10.0.0.1"}; !slices.Equal(got, want) {
		t.Fatalf("%v, want %v", got, want)
	}
}
