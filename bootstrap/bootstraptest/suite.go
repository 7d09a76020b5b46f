package bootstraptest

import (
	"context"
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/conclave-kv/conclave/bootstrap"
)

// World is what a source under test is to know.
type World struct {
	// Peers are listed in this order. Each has one URL; its host, if a name,
	// begins with the peer's name.
	Peers []bootstrap.Peer
	// Hosts resolves the names among the peers' hosts.
	Hosts map[string]netip.Addr
}

// Maker brings a source into being that knows the world. It is called anew for
// each case and cleans up through t.
type Maker func(t *testing.T, world World) bootstrap.Source

// token is the cluster token of all cases.
const token = "conformance"

// Run runs the suite.
func Run(t *testing.T, make Maker) {
	t.Run("samePlanForAll", func(t *testing.T) { samePlanForAll(t, make) })
	t.Run("orderDoesNotCount", func(t *testing.T) { orderDoesNotCount(t, make) })
	t.Run("singleMember", func(t *testing.T) { singleMember(t, make) })
	t.Run("ownEntryByAddress", func(t *testing.T) { ownEntryByAddress(t, make) })
	t.Run("lookupRepeats", func(t *testing.T) { lookupRepeats(t, make) })
	t.Run("selfMissing", func(t *testing.T) { selfMissing(t, make) })
	t.Run("portDiffers", func(t *testing.T) { portDiffers(t, make) })
	t.Run("schemeDiffers", func(t *testing.T) { schemeDiffers(t, make) })
	t.Run("contextEnds", func(t *testing.T) { contextEnds(t, make) })
}

// three is a world of three members, all but addresses spelled as names.
func three() World {
	return World{
		Peers: []bootstrap.Peer{
			{Name: "infra0", PeerURLs: []string{"http://infra0.example.com:2380"}},
			{Name: "infra1", PeerURLs: []string{"http://infra1.example.com:2380"}},
			{Name: "infra2", PeerURLs: []string{"http://infra2.example.com:2390"}},
		},
		Hosts: map[string]netip.Addr{
			"infra0.example.com": netip.MustParseAddr("192.0.2.10"),
			"infra1.example.com": netip.MustParseAddr("192.0.2.11"),
			"infra2.example.com": netip.MustParseAddr("2001:db8::12"),
		},
	}
}

func stated(p bootstrap.Peer) bootstrap.Self {
	return bootstrap.Self{Name: p.Name, PeerURLs: slices.Clone(p.PeerURLs), ClientURLs: []string{"http://127.0.0.1:2379"}}
}

// How long to wait for a plan that is to come, on however busy a machine, and
// for one that is not to come.
const patient, brief = 30 * time.Second, 300 * time.Millisecond

func resolve(ctx context.Context, src bootstrap.Source, self bootstrap.Self, timeout time.Duration) (bootstrap.Plan, error) {
	return bootstrap.Resolve(ctx, src, self, bootstrap.Options{
		Token: token, Timeout: timeout, Log: zerolog.Nop(),
		Backoff: bootstrap.Backoff{Min: time.Millisecond, Max: 10 * time.Millisecond},
	})
}

func mustResolve(t *testing.T, src bootstrap.Source, self bootstrap.Self) bootstrap.Plan {
	t.Helper()
	plan, err := resolve(t.Context(), src, self, patient)
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

// wantRefusal checks that the source finds no plan, and says so in one line.
func wantRefusal(t *testing.T, plan bootstrap.Plan, err error, marks ...error) {
	t.Helper()
	if err == nil {
		t.Fatalf("got a plan: %s", plan)
	}
	if !slices.ContainsFunc(marks, func(mark error) bool { return errors.Is(err, mark) }) {
		t.Errorf("error %q is none of %v", err, marks)
	}
	if strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), "--") {
		t.Errorf("error %q is not one line naming a flag", err)
	}
}

func samePlanForAll(t *testing.T, make Maker) {
	world := three()
	src := make(t, world)
	var first bootstrap.Plan
	for i, peer := range world.Peers {
		plan := mustResolve(t, src, stated(peer))
		if i == 0 {
			first = plan
		}
		if plan.ClusterID != first.ClusterID || plan.Canonical() != first.Canonical() {
			t.Errorf("%s plans %s, %s plans %s", peer.Name, plan.Canonical(), first.Name, first.Canonical())
		}
		if want := bootstrap.MemberID(peer.PeerURLs, token); plan.Self != want {
			t.Errorf("%s takes itself for %x, want %x", peer.Name, plan.Self, want)
		}
		if plan.Name != peer.Name || !slices.Equal(plan.PeerURLs, peer.PeerURLs) {
			t.Errorf("%s takes itself for %s at %v", peer.Name, plan.Name, plan.PeerURLs)
		}
		if want := stated(peer).ClientURLs; !slices.Equal(plan.ClientURLs, want) {
			t.Errorf("%s has client URLs %v, stated were %v", peer.Name, plan.ClientURLs, want)
		}
		if plan.Secure || plan.Token != token || len(plan.Members) != len(world.Peers) {
			t.Errorf("%s plans %+v", peer.Name, plan)
		}
	}
}

func orderDoesNotCount(t *testing.T, make Maker) {
	world := three()
	self := stated(world.Peers[1])
	forth := mustResolve(t, make(t, world), self)
	slices.Reverse(world.Peers)
	if back := mustResolve(t, make(t, world), self); !reflect.DeepEqual(forth, back) {
		t.Errorf("reversed, the plan is %+v, before it was %+v", back, forth)
	}
}

func singleMember(t *testing.T, make Maker) {
	world := three()
	world.Peers = world.Peers[2:]
	plan := mustResolve(t, make(t, world), stated(world.Peers[0]))
	if len(plan.Members) != 1 || plan.Members[0].ID != plan.Self {
		t.Errorf("plan %+v", plan)
	}
}

// ownEntryByAddress: who states its address where the list has its name is
// found, and known to all by the listed URL.
func ownEntryByAddress(t *testing.T, make Maker) {
	world := three()
	self := stated(world.Peers[2])
	self.PeerURLs = []string{"http://[2001:db8::12]:2390"}
	plan := mustResolve(t, make(t, world), self)
	if !slices.Equal(plan.PeerURLs, world.Peers[2].PeerURLs) || plan.Name != "infra2" {
		t.Errorf("takes itself for %s at %v", plan.Name, plan.PeerURLs)
	}
}

// lookupRepeats: asking again gives the same answer, and what was stated is
// left alone.
func lookupRepeats(t *testing.T, make Maker) {
	world := three()
	src := make(t, world)
	self := stated(world.Peers[0])
	var answers []bootstrap.Answer
	for range 3 {
		answer, err := src.Lookup(t.Context(), self)
		if err != nil {
			t.Fatal(err)
		}
		answers = append(answers, answer)
	}
	if !reflect.DeepEqual(answers[0], answers[1]) || !reflect.DeepEqual(answers[1], answers[2]) {
		t.Errorf("answers differ: %+v", answers)
	}
	answers[0].Peers[0].Name, answers[0].ClientURLs[0] = "spoilt", "spoilt"
	if !reflect.DeepEqual(self, stated(world.Peers[0])) {
		t.Errorf("the answer shares memory with what was stated: %+v", self)
	}
	if answer, err := src.Lookup(t.Context(), self); err != nil || !reflect.DeepEqual(answer, answers[1]) {
		t.Errorf("the answer shares memory with the source: %+v, %v", answer, err)
	}
}

func selfMissing(t *testing.T, make Maker) {
	world := three()
	stranger := bootstrap.Self{Name: "infra9", PeerURLs: []string{"http://192.0.2.99:2380"}}
	plan, err := resolve(t.Context(), make(t, world), stranger, brief)
	wantRefusal(t, plan, err, bootstrap.ErrRefused, bootstrap.ErrTimeout)
}

// portDiffers: the host alone does not make an entry one's own.
func portDiffers(t *testing.T, make Maker) {
	world := three()
	self := stated(world.Peers[0])
	self.PeerURLs = []string{"http://infra0.example.com:12380"}
	plan, err := resolve(t.Context(), make(t, world), self, brief)
	wantRefusal(t, plan, err, bootstrap.ErrRefused, bootstrap.ErrTimeout)
}

func schemeDiffers(t *testing.T, make Maker) {
	world := three()
	self := stated(world.Peers[0])
	self.PeerURLs = []string{"https://infra0.example.com:2380"}
	plan, err := resolve(t.Context(), make(t, world), self, brief)
	wantRefusal(t, plan, err, bootstrap.ErrRefused)
}

func contextEnds(t *testing.T, make Maker) {
	world := three()
	src := make(t, world)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	plan, err := resolve(ctx, src, stated(world.Peers[0]), patient)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("plan %s, error %v; want the context's", plan, err)
	}
}
