package bootstrap_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/conclave-kv/conclave/bootstrap"
	"github.com/conclave-kv/conclave/bootstrap/bootstraptest"
)

func hostsOf(hosts map[string]netip.Addr) bootstrap.HostLookup {
	return func(ctx context.Context, host string) ([]netip.Addr, error) {
		if addr, ok := hosts[host]; ok {
			return []netip.Addr{addr}, ctx.Err()
		}
		return nil, fmt.Errorf("lookup %s: no such name", host)
	}
}

func TestStatic_conformance(t *testing.T) {
	bootstraptest.Run(t, func(t *testing.T, world bootstraptest.World) bootstrap.Source {
		var items []string
		for _, p := range world.Peers {
			items = append(items, p.Name+"="+p.PeerURLs[0])
		}
		peers, err := bootstrap.ParseInitialCluster(strings.Join(items, ","))
		if err != nil {
			t.Fatal(err)
		}
		return &bootstrap.Static{Peers: peers, Hosts: hostsOf(world.Hosts)}
	})
}

func TestStatic_compare(t *testing.T) {
	hosts := hostsOf(map[string]netip.Addr{
		"a.example.com":     netip.MustParseAddr("192.0.2.1"),
		"alias.example.com": netip.MustParseAddr("192.0.2.1"),
		"b.example.com":     netip.MustParseAddr("192.0.2.2"),
	})
	tests := []struct {
		name, cluster, urls string
		want                string // part of the error; empty for none
	}{
		{"notStated", "m=http://a.example.com:2380", "", ""},
		{"same", "m=http://a.example.com:2380", "http://a.example.com:2380", ""},
		{"letterCase", "m=http://A.example.com:2380", "http://a.example.com:2380", ""},
		{"alias", "m=http://a.example.com:2380", "http://alias.example.com:2380", ""},
		{"twoURLsOtherOrder", "m=http://192.0.2.2:2380,m=http://a.example.com:2380", "http://alias.example.com:2380,http://b.example.com:2380", ""},
		{"mappedAddress", "m=http://[::ffff:192.0.2.1]:2380", "http://192.0.2.1:2380", ""},
		{"unix", "m=unix://a:1", "unix://a:1", ""},
		{"localhostIsNotAddress", "m=http://localhost:2380", "http://127.0.0.1:2380",
			"--initial-cluster has m=http://localhost:2380 but missing from --initial-advertise-peer-urls=http://127.0.0.1:2380; make the two flags agree"},
		{"oneMoreInCluster", "m=http://a.example.com:2380,m=http://b.example.com:2380", "http://a.example.com:2380",
			"--initial-cluster has m=http://b.example.com:2380 but missing from --initial-advertise-peer-urls=http://a.example.com:2380"},
		{"oneMoreAdvertised", "m=http://a.example.com:2380", "http://a.example.com:2380,http://b.example.com:2380",
			"--initial-advertise-peer-urls has http://b.example.com:2380 but missing from --initial-cluster=m=http://a.example.com:2380"},
		{"wrongName", "x=http://a.example.com:2380,y=http://b.example.com:2380", "http://a.example.com:2380",
			`couldn't find local name "m" in the initial cluster configuration: --initial-cluster lists x, y; give one of these as --name`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			peers, err := bootstrap.ParseInitialCluster(tt.cluster)
			if err != nil {
				t.Fatal(err)
			}
			self := bootstrap.Self{Name: "m"}
			if tt.urls != "" {
				if self.PeerURLs, err = bootstrap.ParseURLs("--initial-advertise-peer-urls", strings.Split(tt.urls, ",")); err != nil {
					t.Fatal(err)
				}
			}
			answer, err := (&bootstrap.Static{Peers: peers, Hosts: hosts}).Lookup(t.Context(), self)
			switch {
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want == "" && answer.Peers[answer.Self].Name != "m":
				t.Errorf("self is %+v", answer)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || !errors.Is(err, bootstrap.ErrRefused)):
				t.Errorf("error %v, want %s", err, tt.want)
			}
		})
	}
}

// A name that does not resolve yet is waited for, not refused.
func TestStatic_unresolvedHostIsPassing(t *testing.T) {
	peers, err := bootstrap.ParseInitialCluster("m=http://late.example.com:2380")
	if err != nil {
		t.Fatal(err)
	}
	src := &bootstrap.Static{Peers: peers, Hosts: hostsOf(nil)}
	_, err = src.Lookup(t.Context(), bootstrap.Self{Name: "m", PeerURLs: []string{"http://192.0.2.1:2380"}})
	if err == nil || errors.Is(err, bootstrap.ErrRefused) || !strings.Contains(err.Error(), "late.example.com") {
		t.Errorf("error %v", err)
	}
}
