package bootstrap

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func TestParseInitialCluster_accepts(t *testing.T) {
	got, err := ParseInitialCluster("b=http://10.0.0.2:2380, a=http://h:2,a=https://h:1,,c=unix://sock:1,")
	if err != nil {
		t.Fatal(err)
	}
	want := []Peer{
		{Name: "a", PeerURLs: []string{"http://h:2", "https://h:1"}},
		{Name: "b", PeerURLs: []string{"http://10.0.0.2:2380"}},
		{Name: "c", PeerURLs: []string{"unix://sock:1"}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestParseInitialCluster_refuses(t *testing.T) {
	many := make([]string, 0, MaxPeers+1)
	for i := range MaxPeers + 1 {
		many = append(many, fmt.Sprintf("m%d=http://h%d:1", i, i))
	}
	tests := []struct{ text, want string }{
		{"", `--initial-cluster "" lists no member`},
		{",", `lists no member`},
		{"a", `"a" is not name=url`},
		{"=http://h:1", "member name is empty"},
		{"a b=http://h:1", `member name "a b" contains a space`},
		{"a=", "URL scheme must be http, https, unix, or unixs"},
		{"a=h:2380", "URL scheme must be"},
		{"a=http://h", `URL address does not have the form "host:port": "http://h"`},
		{"a=http://h:", `does not have the form "host:port"`},
		{"a=http://:2380", `unexpected empty host ("http://:2380")`},
		{"a=http://h:0", "not between 1 and 65535"},
		{"a=http://h:65536", "not between 1 and 65535"},
		{"a=http://h:x", "malformed"},
		{"a=http://h:1/path", "URL must not contain a path"},
		{"a=http://h:1/", "URL must not contain a path"},
		{"a=http://h:1?q", "URL must not contain a path"},
		{"a=http://h:1,b=http://h:1", `duplicate url http://h:1 among the first peers (of "a" and "b")`},
		{"a=http://h:1,a=http://h:1", `duplicate url http://h:1`},
		{strings.Join(many, ","), "65 first peers are listed; at most 64 are taken"},
	}
	for _, tt := range tests {
		peers, err := ParseInitialCluster(tt.text)
		if err == nil {
			t.Errorf("%s: accepted as %+v", tt.text, peers)
			continue
		}
		if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), tt.want) ||
			!strings.Contains(err.Error(), "--initial-cluster") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: error %q, want one line with --initial-cluster and %q", tt.text, err, tt.want)
		}
	}
}

func TestGHSA528j9r78wffx_passwordsInURLs(t *testing.T) {
	_, err := ParseURLs("--initial-advertise-peer-urls", []string{"http://me:hunter2@h:1"})
	if err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "--initial-advertise-peer-urls") {
		t.Errorf("error %v", err)
	}
}

// Whatever is accepted can be printed and read again, to the same plan.
func FuzzParseInitialCluster(f *testing.F) {
	f.Add("a=http://10.0.0.1:2380,b=https://[fd00::1%25eth0]:2380,b=unix://x")
	f.Add("a=http://h:1,=http://h:2")
	f.Add("a=http://h:1\n,b==http://h:2")
	f.Fuzz(func(t *testing.T, text string) {
		peers, err := ParseInitialCluster(text)
		if err != nil {
			if !errors.Is(err, ErrRefused) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("error %q", err)
			}
			return
		}
		plan, err := newPlan(Answer{Peers: peers}, "token")
		if err != nil {
			t.Fatalf("accepted %q, then refused: %v", text, err)
		}
		again, err := ParseInitialCluster(plan.String())
		if err != nil {
			t.Fatalf("printed as %q, which is refused: %v", plan, err)
		}
		if second, err := newPlan(Answer{Peers: again}, "token"); err != nil || second.String() != plan.String() || second.ClusterID != plan.ClusterID {
			t.Fatalf("%q became %q (%v)", plan, second, err)
		}
	})
}
