package bootstrap

import (
	"fmt"
	"testing"
)

// The expected ids were printed by etcd 3.7.3's own membership package for
// the same --initial-cluster and token.
func TestIDs_equalEtcds(t *testing.T) {
	tests := []struct {
		cluster, token, clusterID string
		members                   map[string]string
	}{
		{"default=http://localhost:2380", "etcd-cluster", "cdf818194e3a8c32",
			map[string]string{"default": "8e9e05c52164694d"}},
		{"infra0=http://10.0.1.10:2380,infra1=http://10.0.1.11:2380,infra2=http://10.0.1.12:2380", "etcd-cluster-1", "acccc8912db0cd57",
			map[string]string{"infra0": "140fedbeeb74765d", "infra1": "d5dc5f8d75d04e29", "infra2": "8a0a11c6194fc77"}},
		{"a=https://infra0.example.com:2380,b=https://infra1.example.com:2380,c=https://infra2.example.com:2380", "etcd-cluster", "cb4d8dc4ceba9c6c",
			map[string]string{"a": "3abad664b7d879ab", "b": "ed963960b9af3a6", "c": "e06ddd4538ff0120"}},
		// Two URLs for one member, in the wrong order.
		{"m=http://10.0.0.2:2380,m=http://10.0.0.1:2380,n=http://[fd00::1]:2380", "tok", "2035e5c80ff418e0",
			map[string]string{"m": "d3b8edf9430e965", "n": "772d35a2cc44907a"}},
	}
	for _, tt := range tests {
		peers, err := ParseInitialCluster(tt.cluster)
		if err != nil {
			t.Fatal(err)
		}
		plan, err := newPlan(Answer{Peers: peers}, tt.token)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%x", plan.ClusterID); got != tt.clusterID {
			t.Errorf("%s: cluster id %s, want %s", tt.cluster, got, tt.clusterID)
		}
		if len(plan.Members) != len(tt.members) {
			t.Errorf("%s: %d members, want %d", tt.cluster, len(plan.Members), len(tt.members))
		}
		for i, m := range plan.Members {
			if got := fmt.Sprintf("%x", m.ID); got != tt.members[m.Name] {
				t.Errorf("%s: member %s has id %s, want %s", tt.cluster, m.Name, got, tt.members[m.Name])
			}
			if i > 0 && plan.Members[i-1].ID >= m.ID {
				t.Errorf("%s: members are not sorted by id", tt.cluster)
			}
		}
	}
}

// A member added later is named by the time in the token's place; the value
// is from etcd's own test of that.
func TestMemberID_withTime(t *testing.T) {
	if got := MemberID([]string{"http://10.0.0.8:2379"}, "472662245"); got != 2448790162483548276 {
		t.Errorf("id %d, want 2448790162483548276", got)
	}
}
