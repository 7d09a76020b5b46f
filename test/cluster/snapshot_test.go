//go:build interop

package cluster_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// kind is a program and its tools.
type kind struct {
	server        string
	save, restore []string // command lines without what follows
}

func kinds(t *testing.T) (ours, theirs kind) {
	etcdctl, etcdutl := realTool(t, "etcdctl"), realTool(t, "etcdutl")
	return kind{conclave, []string{conclave, "snapshot", "save"}, []string{conclave, "snapshot", "restore"}},
		kind{realTool(t, "etcd"), []string{etcdctl, "snapshot", "save"}, []string{etcdutl, "snapshot", "restore"}}
}

// groupOf lays out members of a program.
func groupOf(t *testing.T, k kind, n int) *group {
	g := newGroup(t, n, false)
	g.program = k.server
	return g
}

// restore makes the data directories of a group from a file.
func (g *group) restore(k kind, file string, more ...string) {
	g.t.Helper()
	var all []string
	for _, m := range g.members {
		all = append(all, m.name+"="+m.peerURL())
	}
	for _, m := range g.members {
		args := append(append([]string{}, k.restore...), file, "--data-dir", m.data, "--name", m.name,
			"--initial-cluster", strings.Join(all, ","), "--initial-advertise-peer-urls", m.peerURL(), "--initial-cluster-token", "after")
		must(g.t, m.home, append(args, more...)...)
	}
}

// hashes are of the history of all members, which must agree.
func (g *group) hash(revision int64) string {
	g.t.Helper()
	var first string
	for i, m := range g.members {
		client := m.dial()
		if _, err := client.Get(g.t.Context(), "x"); err != nil { // it is level then
			g.t.Fatal(err)
		}
		resp, err := client.HashKV(g.t.Context(), client.Endpoints()[0], revision)
		if err != nil {
			g.t.Fatal(err)
		}
		text := fmt.Sprintf("hash %d at %d, compacted %d", resp.Hash, resp.HashRevision, resp.CompactRevision)
		if i == 0 {
			first = text
		} else if text != first {
			g.t.Errorf("%s: %s, the first member: %s", m.name, text, first)
		}
	}
	return first
}

func (g *group) stop() {
	for _, m := range g.members {
		m.proc.stop()
	}
}

// storesVersion waits until a member has stored of which version its data is,
// as its snapshots then say too. etcd does so some seconds after it serves, and
// until then guesses 3.5.0 where it is asked for its status.
func (m *member) storesVersion() {
	m.g.t.Helper()
	client := m.dial()
	eventually(m.g.t, serveTimeout, m.name+" to store the version of its data", func() error {
		status, err := client.Status(m.g.t.Context(), client.Endpoints()[0])
		if err == nil && status.StorageVersion != "3.7.0" {
			err = fmt.Errorf("it says %q", status.StorageVersion)
		}
		return err
	})
}

// fill gives a group a history with deletions and compactions.
func (g *group) fill(seed uint64) {
	g.t.Helper()
	client := g.members[len(g.members)-1].dial()
	rng := rand.New(rand.NewPCG(seed, 1))
	revision := int64(1)
	for range 150 {
		op, compact := randomRequest(rng, revision)
		perform(g.t, client, op, compact)
		if got, err := client.Get(g.t.Context(), "x"); err == nil {
			revision = got.Header.Revision
		}
	}
	if _, err := client.Put(g.t.Context(), "last", "written"); err != nil {
		g.t.Fatal(err)
	}
}

// grant gives a group leases: one with two keys, of which one was another's
// before, the other one, and one that never had a key.
func (g *group) grant() {
	g.t.Helper()
	client := g.members[0].dial()
	for id, ttl := range map[int64]int64{7: 500, 8: 1000, 1<<63 - 1: 3000} {
		if _, err := pb.NewLeaseClient(client.ActiveConnection()).LeaseGrant(g.t.Context(), &pb.LeaseGrantRequest{ID: id, TTL: ttl}); err != nil {
			g.t.Fatal(err)
		}
	}
	for _, put := range []struct {
		key string
		id  clientv3.LeaseID
	}{{"leased/a", 7}, {"leased/b", 8}, {"leased/b", 7}} {
		if _, err := client.Put(g.t.Context(), put.key, "value", clientv3.WithLease(put.id)); err != nil {
			g.t.Fatal(err)
		}
	}
}

// leases are those of a group, with the keys attached. What is left of their time
// is close to all of it: a new leader of either program may add two seconds.
func (g *group) leases() string {
	g.t.Helper()
	client := g.members[len(g.members)-1].dial()
	list, err := client.Leases(g.t.Context())
	if err != nil {
		g.t.Fatal(err)
	}
	var all []string
	for _, l := range list.Leases {
		ttl, err := client.TimeToLive(g.t.Context(), l.ID, clientv3.WithAttachedKeys())
		if err != nil {
			g.t.Fatal(err)
		}
		if ttl.TTL > ttl.GrantedTTL+2 || ttl.TTL < ttl.GrantedTTL-120 {
			g.t.Errorf("lease %x has %d of %d seconds", ttl.ID, ttl.TTL, ttl.GrantedTTL)
		}
		slices.SortFunc(ttl.Keys, bytes.Compare)
		all = append(all, fmt.Sprintf("%x of %d: %q", ttl.ID, ttl.GrantedTTL, ttl.Keys))
	}
	slices.Sort(all)
	return strings.Join(all, "; ")
}

// Snapshots cross both ways: what conclave saved, etcd's tools restore, and the
// other way round; history and leases are the same before and after, and go on.
func TestSnapshot_crossesBothWays(t *testing.T) {
	t.Parallel()
	ours, theirs := kinds(t)
	for _, tt := range []struct {
		name             string
		from, to         kind
		members, restore int
	}{
		{"conclave to etcd, one", ours, theirs, 1, 1},
		{"conclave to etcd, three", ours, theirs, 3, 3},
		{"etcd to conclave, one", theirs, ours, 1, 1},
		{"etcd to conclave, three", theirs, ours, 3, 3},
		{"conclave to conclave, one to three", ours, ours, 1, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			from := groupOf(t, tt.from, tt.members)
			from.launch()
			from.serve()
			from.fill(uint64(tt.members))
			from.grant()
			file := filepath.Join(from.dir, "backup.db")
			last := from.members[len(from.members)-1]
			last.storesVersion()
			out := must(t, from.dir, append(tt.from.save, file, "--endpoints", last.clientURL())...)
			if !strings.Contains(out, "Snapshot saved at "+file) || !strings.Contains(out, "Server version 3.7.0") {
				t.Errorf("saving says %s", out)
			}
			before, leases := from.hash(0), from.leases()
			if want := `7 of 500: ["leased/a" "leased/b"]; 7fffffffffffffff of 3000: []; 8 of 1000: []`; leases != want {
				t.Errorf("leases %s, want %s", leases, want)
			}
			from.stop()
			sameStatus(t, file)
			etcdutl := realTool(t, "etcdutl")
			must(t, from.dir, "cp", file, file+".copy") // which hashkv writes to
			offline := strings.ReplaceAll(must(t, from.dir, etcdutl, "hashkv", file+".copy"), " ", "")
			if !strings.HasPrefix(before, "hash "+strings.Split(offline, ",")[0]+" ") {
				t.Errorf("etcdutl hashkv of the file: %s, the members: %s", offline, before)
			}

			to := groupOf(t, tt.to, tt.restore)
			to.restore(tt.to, file)
			if tt.to.server != conclave {
				must(t, to.dir, etcdutl, "defrag", "--data-dir", to.members[0].data)
			}
			to.launch()
			to.serve()
			if after := to.hash(0); after != before {
				t.Errorf("restored: %s, saved: %s", after, before)
			}
			if after := to.leases(); after != leases {
				t.Errorf("leases restored: %s, saved: %s", after, leases)
			}
			client := to.members[0].dial()
			if got, err := client.Get(t.Context(), "last"); err != nil || len(got.Kvs) != 1 || string(got.Kvs[0].Value) != "written" {
				t.Errorf("the last write before the snapshot: %v, %v", got, err)
			}
			if _, err := client.Revoke(t.Context(), 7); err != nil {
				t.Error(err)
			}
			if got, err := client.Get(t.Context(), "leased/", clientv3.WithPrefix()); err != nil || len(got.Kvs) != 0 {
				t.Errorf("after the end of their lease: %v, %v", got, err)
			}
			to.fill(9)
			to.hash(0)
		})
	}
}

// Saving and restoring show on a terminal how far they are, with bytes and rate,
// and nowhere else: no control characters in a log.
func TestSnapshot_progressOnTerminals(t *testing.T) {
	t.Parallel()
	g := start(t, 1, false)
	if _, err := g.members[0].dial().Put(t.Context(), "key", strings.Repeat("v", 1<<20)); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(g.dir, "backup.db")
	for _, tt := range []struct{ verb, command string }{
		{"saving", conclave + " snapshot save " + file + " --endpoints " + g.members[0].clientURL()},
		{"restoring", conclave + " snapshot restore " + file + " --data-dir restored"},
	} {
		plain := must(t, g.dir, "sh", "-c", tt.command)
		if strings.ContainsAny(plain, "\r\x1b") || strings.Contains(plain, tt.verb) {
			t.Errorf("into a pipe: %q", plain)
		}
		if err := os.RemoveAll(filepath.Join(g.dir, "restored")); err != nil {
			t.Fatal(err)
		}
		drawn := must(t, g.dir, installed(t, "script"), "-qec", tt.command, "/dev/null")
		if want := regexp.MustCompile(`\r` + tt.verb + ` \[={30}\] 100% \d+\.\d MB of \d+\.\d MB, [\d.]+ [kMG]?B/s`); !want.MatchString(drawn) {
			t.Errorf("on a terminal: %q", drawn)
		}
	}
}

// sameStatus compares what the two tools say about a file.
func sameStatus(t *testing.T, file string) {
	t.Helper()
	etcdutl := realTool(t, "etcdutl")
	for _, form := range []string{"simple", "table", "json", "fields"} {
		want := must(t, filepath.Dir(file), etcdutl, "snapshot", "status", file, "-w", form)
		if got := must(t, filepath.Dir(file), conclave, "snapshot", "status", file, "-w", form); got != want {
			t.Errorf("conclave says\n%s, etcdutl\n%s", got, want)
		}
	}
}

// saved is a snapshot of a member that has something, and its hash.
func saved(t *testing.T, k kind, seed uint64) (file, hash string) {
	t.Helper()
	from := groupOf(t, k, 1)
	from.launch()
	from.serve()
	from.fill(seed)
	file = filepath.Join(from.dir, "backup.db")
	must(t, from.dir, append(k.save, file, "--endpoints", from.members[0].clientURL())...)
	hash = from.hash(0)
	from.stop()
	return file, hash
}

// The ids, the revision and the compaction are those that etcd's tool gives, and
// the history from there on is etcd's.
func TestSnapshot_restoresAsEtcdutl(t *testing.T) {
	t.Parallel()
	ours, theirs := kinds(t)
	file, _ := saved(t, theirs, 5)
	g := newGroup(t, 3, false)
	var answers [2][]string
	for i, k := range []kind{ours, theirs} {
		g.program = k.server
		for _, m := range g.members {
			m.data = filepath.Join(m.home, fmt.Sprintf("data%d", i))
		}
		g.restore(k, file, "--bump-revision", "1000000", "--mark-compacted")
		g.launch()
		g.serve()
		answers[i] = g.answers()
		g.stop()
	}
	for i := range answers[0] {
		if answers[0][i] != answers[1][i] {
			t.Errorf("conclave: %s\netcd:     %s", answers[0][i], answers[1][i])
		}
	}
}

// answers are what a client sees of a restored group.
func (g *group) answers() (out []string) {
	g.t.Helper()
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	client := g.members[0].dial()
	list, err := client.MemberList(g.t.Context())
	if err != nil {
		g.t.Fatal(err)
	}
	for _, m := range list.Members {
		say("member %x of %x: %s %v", m.ID, list.Header.ClusterId, m.Name, m.PeerURLs)
	}
	all, err := client.Get(g.t.Context(), "", clientv3.WithPrefix())
	say("all: %v %v", all.Kvs, err)
	revision := all.Header.Revision
	for _, at := range []int64{revision - 1, revision - 1000000, 5} {
		_, err := client.Get(g.t.Context(), "last", clientv3.WithRev(at))
		say("at %d: %v", at, err)
	}
	put, err := client.Put(g.t.Context(), "new", "value")
	if err != nil {
		g.t.Fatal(err)
	}
	say("put at %d, before it %d", put.Header.Revision, revision)
	say("%s", g.hash(0))
	say("%s", g.hash(revision))
	if _, err := client.Compact(g.t.Context(), revision+1, clientv3.WithCompactPhysical()); err != nil {
		g.t.Fatal(err)
	}
	say("%s", g.hash(0))
	return out
}

// A directory that etcd's tool restored is refused with the way to use it, and
// that way works.
func TestSnapshot_directoryOfEtcdutl(t *testing.T) {
	t.Parallel()
	ours, theirs := kinds(t)
	file, before := saved(t, ours, 3)
	g := groupOf(t, ours, 1)
	g.restore(theirs, file)
	m := g.members[0]
	unchanged(t, m.data, func() {
		refusal(t, m.launch(), fmt.Sprintf("--data-dir %q", m.data), "a member of etcd", "conclave snapshot restore "+filepath.Join(m.data, "member", "snap", "db"), "--skip-hash-check")
	})
	state := filepath.Join(m.data, "member", "snap", "db")
	m.data = filepath.Join(m.home, "new")
	g.restore(ours, state, "--skip-hash-check")
	g.launch()
	g.serve()
	if after := g.hash(0); after != before {
		t.Errorf("restored: %s, saved: %s", after, before)
	}
}
