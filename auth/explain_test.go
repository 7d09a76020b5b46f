package auth

import (
	"math/rand/v2"
	"testing"

	"go.etcd.io/etcd/api/v3/authpb"
)

// What is explained is what is allowed, and by permissions that suffice alone.
func TestExplain_agreesWithTheDecision(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	allowed := 0
	for range 100_000 {
		roles := map[string][]*authpb.Permission{"a": nil, "b": nil}
		var all []*authpb.Permission
		for range rng.IntN(6) {
			key, end := randomRange(rng)
			if !validRange([]byte(key), []byte(end)) {
				continue
			}
			p := &authpb.Permission{PermType: authpb.Permission_Type(rng.IntN(3)), Key: []byte(key), RangeEnd: []byte(end)}
			role := []string{"a", "b"}[rng.IntN(2)]
			roles[role], all = append(roles[role], p), append(all, p)
		}
		key, end := randomRange(rng)
		write := rng.IntN(2) == 0
		may := func(perms []*authpb.Permission) bool {
			g := grantOf(perms)
			if write {
				return g.write.contain([]byte(key), []byte(end))
			}
			return g.read.contain([]byte(key), []byte(end))
		}
		reasons := Explain(roles, write, []byte(key), []byte(end))
		if want := may(all); want != (reasons != nil) {
			t.Fatalf("%v: write %t of %q %q is allowed: %t, explained by %v", all, write, key, end, want, reasons)
		}
		var picked []*authpb.Permission
		for _, r := range reasons {
			picked = append(picked, r.Permission)
		}
		if reasons == nil {
			continue
		}
		allowed++
		if !may(picked) {
			t.Fatalf("%v: %v do not allow write %t of %q %q", all, picked, write, key, end)
		}
		for i := range picked {
			if rest := append(append([]*authpb.Permission{}, picked[:i]...), picked[i+1:]...); may(rest) {
				t.Fatalf("%v: %v is not needed for write %t of %q %q", all, picked[i], write, key, end)
			}
		}
	}
	if allowed < 1000 {
		t.Errorf("only %d requests were allowed", allowed)
	}
}

func TestExplain_root(t *testing.T) {
	if r := Explain(map[string][]*authpb.Permission{Root: nil}, true, []byte("k"), []byte(openEnd)); len(r) != 1 || r[0].Role != Root {
		t.Errorf("got %v", r)
	}
}
