package bootstrap_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/conclave-kv/conclave/bootstrap"
)

func TestPlan_join(t *testing.T) {
	hosts := hostsOf(map[string]netip.Addr{
		"a.example.com": netip.MustParseAddr("192.0.2.1"), "b.example.com": netip.MustParseAddr("192.0.2.2"),
	})
	peers, err := bootstrap.ParseInitialCluster("a=http://a.example.com:1,b=http://192.0.2.2:1,c=http://192.0.2.3:1")
	if err != nil {
		t.Fatal(err)
	}
	source := &bootstrap.Static{Peers: peers, Hosts: hosts}
	plan, err := bootstrap.Resolve(t.Context(), source, bootstrap.Self{Name: "c"}, bootstrap.Options{Joining: true, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	// One by name, one by address; the joining one has no name yet.
	const one, two, three = "http://192.0.2.1:1", "http://b.example.com:1", "http://192.0.2.3:1"
	tests := []struct {
		name    string
		members []bootstrap.Member
		want    string // in the error; empty for none
		mark    error
	}{
		{"matches", members(1, "one", one, 2, "two", two, 3, "", three), "", nil},
		{"notAdded", members(1, "one", one, 2, "two", two), `run "conclave member add c --peer-urls=http://192.0.2.3:1" on the cluster first`, bootstrap.ErrMismatch},
		{"startedElsewhere", members(1, "one", one, 2, "two", two, 3, "c", three), `was started as "c" already`, bootstrap.ErrRefused},
		{"count", members(1, "one", one, 3, "", three), `member count is unequal: the first peers given are 3`, bootstrap.ErrMismatch},
		{"countSuggests", members(1, "one", one, 3, "", three), `give --initial-cluster c=http://192.0.2.3:1,one=http://192.0.2.1:1`, bootstrap.ErrMismatch},
		{"unmatched", members(1, "one", one, 2, "", "http://192.0.2.9:1", 3, "", three), `unmatched member while checking PeerURLs: member 2`, bootstrap.ErrMismatch},
		{"unmatchedSuggests", members(1, "one", one, 2, "", "http://192.0.2.9:1", 3, "", three), `2=http://192.0.2.9:1`, bootstrap.ErrMismatch},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := plan.Join(t.Context(), hosts, bootstrap.Running{ClusterID: 77, Members: tt.members})
			if tt.want != "" {
				if err == nil || !strings.Contains(err.Error(), tt.want) || !errors.Is(err, tt.mark) || strings.Contains(err.Error(), "\n") {
					t.Errorf("error %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got.ClusterID != 77 || got.Self != 3 || got.Name != "c" || got.String() != "c=http://192.0.2.3:1,one=http://192.0.2.1:1,two=http://b.example.com:1" {
				t.Errorf("joined as %+v", got)
			}
		})
	}
}

func members(fields ...any) []bootstrap.Member {
	var out []bootstrap.Member
	for i := 0; i < len(fields); i += 3 {
		out = append(out, bootstrap.Member{ID: uint64(fields[i].(int)), Name: fields[i+1].(string), PeerURLs: []string{fields[i+2].(string)}})
	}
	return out
}
