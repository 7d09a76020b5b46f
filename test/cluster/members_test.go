//go:build interop

package cluster_test

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// pauseLimit is how long writes may pause while members come and go: less than
// the cluster would take to notice that it has no leader.
const pauseLimit = time.Second

// steady is clients that write through one member without pause; none of their
// writes may fail.
type steady struct {
	t    *testing.T
	stop context.CancelFunc
	wait sync.WaitGroup

	mu      sync.Mutex
	acked   map[string]int64
	last    time.Time
	longest time.Duration // since the last look
}

func newSteady(t *testing.T, m *member) *steady {
	ctx, cancel := context.WithCancel(t.Context())
	s := &steady{t: t, stop: cancel, acked: map[string]int64{}, last: time.Now()}
	for w := range writers {
		client := m.dial()
		s.wait.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				key := fmt.Sprintf("k/%d/%06d", w, n)
				resp, err := client.Put(ctx, key, key)
				if err != nil {
					if ctx.Err() == nil {
						t.Errorf("write %s: %v", key, err)
					}
					return
				}
				s.note(key, resp.Header.Revision)
				time.Sleep(5 * time.Millisecond) // leaves the machine to the members
			}
		})
	}
	t.Cleanup(s.end)
	return s
}

func (s *steady) note(key string, revision int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.acked[key] = revision
	s.longest = max(s.longest, time.Since(s.last))
	s.last = time.Now()
}

func (s *steady) end() {
	s.stop()
	s.wait.Wait()
}

// look reports the longest pause since the look before.
func (s *steady) look(what string) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	longest := max(s.longest, time.Since(s.last))
	s.longest, s.last = 0, time.Now()
	s.t.Logf("%s: the longest pause of %d writers is %v", what, writers, longest.Round(time.Millisecond))
	if longest > pauseLimit {
		s.t.Errorf("%s: no write succeeded for %v", what, longest)
	}
}

// members runs etcdctl on a member until it is no longer told that the cluster
// is unhealthy, or a learner behind, as kubeadm does.
func (m *member) retried(args ...string) string {
	m.g.t.Helper()
	var out string
	eventually(m.g.t, 30*time.Second, strings.Join(args, " "), func() error {
		var err error
		out, err = m.ctl(realTool(m.g.t, "etcdctl"), args...)
		if err != nil && !strings.Contains(out, "etcdserver: unhealthy cluster") && !strings.Contains(out, "in sync with leader") {
			m.g.t.Fatal(err)
		}
		return err
	})
	return out
}

var settingLine = regexp.MustCompile(`(?m)^ETCD_([A-Z_]+)="(.*)"$`)

// add has etcdctl add a member and starts it with what etcdctl prints.
func (m *member) add(t *testing.T, learner bool) *member {
	t.Helper()
	added := m.g.layOut()
	args := []string{"member", "add", added.name, "--peer-urls", added.peerURL()}
	if learner {
		args = append(args, "--learner")
	}
	out := m.retried(args...)
	var more []string
	for _, setting := range settingLine.FindAllStringSubmatch(out, -1) {
		more = append(more, "--"+strings.ReplaceAll(strings.ToLower(setting[1]), "_", "-"), setting[2])
	}
	if len(more) != 8 {
		t.Fatalf("etcdctl prints %s", out)
	}
	added.launch(more...)
	return added
}

var idPattern = regexp.MustCompile(`(?m)^([0-9a-f]+), `)

// id is the member's id as etcdctl prints it.
func (m *member) id(through *member) string {
	m.g.t.Helper()
	out, err := through.ctl(realTool(m.g.t, "etcdctl"), "member", "list")
	if err != nil {
		m.g.t.Fatal(err)
	}
	for line := range strings.Lines(out) {
		if strings.Contains(line, m.peerURL()) {
			return idPattern.FindStringSubmatch(line)[1]
		}
	}
	m.g.t.Fatalf("%s is not listed: %s", m.name, out)
	return ""
}

// votes waits until every member of the group has published its name and counts
// as a voter everywhere.
func (g *group) votes(t *testing.T) {
	t.Helper()
	eventually(t, serveTimeout, "all names everywhere", func() error {
		for _, m := range g.members {
			out, err := m.ctl(realTool(t, "etcdctl"), "member", "list")
			if n := strings.Count(out, ", started, "); err != nil || n != len(g.members) || strings.Contains(out, ", true") {
				return fmt.Errorf("%s lists %s (%w)", m.name, out, err)
			}
		}
		return nil
	})
}

// One member becomes three, then five, of which one was a learner, then three
// again without the leader, all by etcdctl and under writes: none fails, none
// waits long, all are there in the end.
func TestMembers_growAndShrinkUnderLoad(t *testing.T) {
	t.Parallel()
	g := start(t, 1, true)
	first := g.members[0]
	s := newSteady(t, first)
	for range 2 {
		m := first.add(t, false)
		m.serves()
		s.look("one more, " + m.name)
	}
	learner := first.add(t, true)
	eventually(t, serveTimeout, "the learner to read by itself", func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		_, err := learner.dial().Get(ctx, "k/", clientv3.WithSerializable(), clientv3.WithCountOnly())
		return err
	})
	first.retried("member", "promote", learner.id(first))
	learner.serves()
	s.look("a learner, promoted")
	first.add(t, false).serves()
	g.votes(t)
	s.look("one more")

	// Leadership goes to the third, which then is removed as the leader, by its
	// own hand; then the last one that came.
	etcdctl := realTool(t, "etcdctl")
	gone := g.members[2]
	eventually(t, serveTimeout, "leadership to move", func() error {
		args := []string{"--endpoints", first.clientURL() + "," + gone.clientURL() + "," + g.members[1].clientURL() + "," + learner.clientURL() + "," + g.members[4].clientURL()}
		out, err := first.ctl(etcdctl, append(args, "move-leader", gone.id(first))...)
		if err == nil && !strings.Contains(out, "Leadership transferred from ") {
			t.Errorf("etcdctl prints %s", out)
		}
		return err
	})
	s.look("leadership handed over")
	out := gone.retried("member", "remove", gone.id(first))
	if !strings.Contains(out, "removed from cluster") {
		t.Errorf("etcdctl prints %s", out)
	}
	s.look("the leader removed")
	if code := gone.proc.exit(10 * time.Second); code != 0 {
		t.Errorf("the removed leader ended with %d", code)
	}
	contains(t, gone.name, gone.proc.said(), "the member has been permanently removed from the cluster", "the data-dir used by this member must be removed.")
	last := g.members[4]
	first.retried("member", "remove", last.id(first))
	if code := last.proc.exit(10 * time.Second); code != 0 {
		t.Errorf("the removed member ended with %d", code)
	}
	s.look("another one removed")
	refusal(t, last.launch(), "--data-dir", last.data, "permanently removed", "conclave member add "+last.name)

	g.members = []*member{first, g.members[1], learner}
	s.end()
	for _, m := range g.members {
		holds(t, m.name, m.dial(), s.acked)
	}
	g.one()
	sameOnDisk(t, g)
	t.Logf("%d writes, none failed", len(s.acked))
}

// A dead member's place is taken by a new one, which finds the others by DNS.
func TestMembers_replaceDeadByDNS(t *testing.T) {
	t.Parallel()
	g := newGroup(t, 3, true)
	dns := onLoopback(t, g.zone())
	g.findBy(dns)
	g.launch()
	g.serve()
	g.settle()
	first, dead := g.members[0], g.members[2]
	s := newSteady(t, first)
	dead.proc.kill()
	id := dead.id(first)
	first.retried("member", "remove", id)
	s.look("the dead one removed")
	g.members = g.members[:2]
	fresh := g.layOut()
	fresh.host = fresh.name + ".example.com"
	first.retried("member", "add", fresh.name, "--peer-urls", fresh.peerURL())
	dns.publish(t, g.zone(), 2)
	fresh.launch("--initial-cluster-state", "existing")
	fresh.serves()
	s.look("the new one added")
	s.end()
	for _, m := range g.members {
		holds(t, m.name, m.dial(), s.acked)
	}
	g.one()
	// The dead one comes back, and is told.
	refusal(t, dead.launch(), "permanently removed from the cluster", "member m3 ("+id+")")
	if _, err := os.Stat(dead.data); err != nil {
		t.Errorf("its directory: %v", err)
	}
}

// drill is one call of etcdctl on both clusters.
type drill struct {
	args  []string
	retry bool // while the cluster is too young
	want  string
}

// parade is a cluster that etcdctl is tried on.
type parade struct {
	*group
	ids map[string]string // of members, by name
}

// run calls etcdctl on the first member. NAME.id in args stands for an id,
// NAME.peer for a peer URL; in the output the reverse.
func (p *parade) run(t *testing.T, d drill) string {
	t.Helper()
	args := slices.Clone(d.args)
	for i := range args {
		for name, id := range p.ids {
			args[i] = strings.ReplaceAll(args[i], name+".id", id)
		}
		for _, m := range p.members {
			args[i] = strings.ReplaceAll(args[i], m.name+".peer", m.peerURL())
		}
	}
	var out string
	eventually(t, 30*time.Second, strings.Join(args, " "), func() error {
		var err error
		out, err = p.members[0].ctl(realTool(t, "etcdctl"), args...)
		if err != nil && d.retry && strings.Contains(out, "unhealthy cluster") {
			return err
		}
		return nil
	})
	if m := regexp.MustCompile(`Member +([0-9a-f]+) added`).FindStringSubmatch(out); m != nil {
		p.ids[args[2]] = m[1]
	}
	return p.anonymous(out)
}

var (
	clusterPattern = regexp.MustCompile(`cluster +[0-9a-f]+`)
	memberPattern  = regexp.MustCompile(`Member +`)
	warningLine    = regexp.MustCompile(`(?m)^\{.*\n`)
)

func (p *parade) anonymous(out string) string {
	out = warningLine.ReplaceAllString(out, "") // the client's own log
	for name, id := range p.ids {
		out = strings.ReplaceAll(out, id, name+".id")
	}
	for _, m := range p.members {
		out = strings.ReplaceAll(out, m.peerURL(), m.name+".peer")
		out = strings.ReplaceAll(out, m.clientURL(), m.name+".client")
	}
	out = memberPattern.ReplaceAllString(clusterPattern.ReplaceAllString(out, "cluster ID"), "Member ")
	lines := strings.Split(out, "\n")
	slices.Sort(lines) // members are listed by id
	for i, line := range lines {
		if list, ok := strings.CutPrefix(line, "ETCD_INITIAL_CLUSTER="); ok {
			pairs := strings.Split(strings.Trim(list, `"`), ",")
			slices.Sort(pairs)
			lines[i] = "ETCD_INITIAL_CLUSTER=" + strings.Join(pairs, ",")
		}
	}
	return strings.Join(lines, "\n")
}

func drillOf(want, text string) drill { return drill{args: strings.Fields(text), want: want} }

// early are calls to a member that has just started: for five seconds nobody
// comes and no voter goes.
func early() []drill {
	return []drill{
		drillOf("unhealthy cluster", "member add early --peer-urls=http://127.0.0.1:1"),
		drillOf("unhealthy cluster", "member add early --learner --peer-urls=http://127.0.0.1:1"),
		drillOf("unhealthy cluster", "member remove m2.id"),
	}
}

// drills is a session of member commands against three members; the later ones
// see what the earlier ones did.
func drills() []drill {
	line := drillOf
	patient := line("added as learner", "member add l1 --learner --peer-urls=http://127.0.0.1:2")
	patient.retry = true
	return []drill{
		line("member not found", "member promote 1234"),
		line("can only promote a learner member", "member promote m2.id"),
		line("started", "member list"),
		patient,
		line("too many learner members", "member add l2 --learner --peer-urls=http://127.0.0.1:3"),
		line("Peer URLs already exists", "member add twin --peer-urls=m1.peer"),
		line("in sync with leader", "member promote l1.id"),
		line("member not found", "member update 1234 --peer-urls=http://127.0.0.1:9"),
		line("updated in", "member update l1.id --peer-urls=http://127.0.0.1:4"),
		line("Peer URLs already exists", "member update l1.id --peer-urls=m1.peer"),
		line("Peer URLs already exists", "member add twin --peer-urls=http://127.0.0.1:9,http://127.0.0.1:4"),
		line("updated in", "member update m2.id --peer-urls=m2.peer"),
		line("127.0.0.1:4", "member list"),
		line("member not found", "member remove 1234"),
		line("removed from", "member remove l1.id"),
		line("member not found", "member remove l1.id"),
		line("member not found", "member promote l1.id"),
		line("member not found", "member update l1.id --peer-urls=http://127.0.0.1:4"),
		line("added to", "member add v1 --peer-urls=http://127.0.0.1:6,http://127.0.0.1:5"),
		line("unstarted", "member list"),
		line("added to", "member add v2 --peer-urls=http://127.0.0.1:7"),
		line("not enough started members", "member add v3 --peer-urls=http://127.0.0.1:8"),
		line("not enough started members", "member remove m2.id"),
		line("can only promote a learner member", "member promote v1.id"),
		line("removed from", "member remove v2.id"),
		line("removed from", "member remove v1.id"),
		line("bad leader transferee", "move-leader 1234"),
		line("URL address does not have the form", "member update m2.id --peer-urls=http://a"),
	}
}

// Real etcdctl gets the same answers from conclave as from etcd.
func TestMembers_sameAnswersAsEtcd(t *testing.T) {
	t.Parallel()
	ours, theirs := &parade{group: newGroup(t, 3, false)}, &parade{group: newGroup(t, 3, false)}
	theirs.program = realTool(t, "etcd")
	both := []*parade{ours, theirs}
	for _, p := range both {
		p.launch()
	}
	for _, p := range both {
		p.serve()
		p.ids = map[string]string{}
		p.votes(t)
		for _, m := range p.members {
			p.ids[m.name] = m.id(p.members[0])
		}
	}
	said := map[*parade][]string{}
	for _, p := range both {
		p.members[0].proc.stop()
		p.members[0].launch()
		p.members[0].serves()
		for _, d := range early() {
			said[p] = append(said[p], p.run(t, d))
		}
		p.lead(t, p.members[0])
	}
	compare := func(d drill, got, want string) {
		if got != want || !strings.Contains(got, d.want) {
			t.Errorf("%s: want %q in\nconclave: %s\netcd:     %s", strings.Join(d.args, " "), d.want, got, want)
		}
	}
	for i, d := range early() {
		compare(d, said[ours][i], said[theirs][i])
	}
	for _, d := range drills() {
		compare(d, ours.run(t, d), theirs.run(t, d))
	}
	if t.Failed() {
		return
	}
	// One of three is down: nobody else can leave, and nobody can come, until the
	// dead one is removed.
	for _, p := range both {
		p.members[2].proc.stop()
		eventually(t, 10*time.Second, "the stop to be noticed", func() error {
			out, err := p.members[0].ctl(realTool(t, "etcdctl"), "member", "remove", p.ids["m2"])
			if err == nil || !strings.Contains(out, "unhealthy cluster") {
				return fmt.Errorf("removal of the second: %s", out)
			}
			return nil
		})
	}
	for _, d := range []drill{
		{args: []string{"member", "add", "v3", "--peer-urls=http://127.0.0.1:8"}, want: "unhealthy cluster"},
		{args: []string{"member", "remove", "m2.id"}, want: "unhealthy cluster"},
		{args: []string{"member", "remove", "m3.id"}, want: "removed from"},
		{args: []string{"member", "list"}, want: "m2"},
	} {
		compare(d, ours.run(t, d), theirs.run(t, d))
	}
}

// lead has a member become the leader.
func (p *parade) lead(t *testing.T, m *member) {
	t.Helper()
	var endpoints []string
	for _, each := range p.members {
		endpoints = append(endpoints, each.clientURL())
	}
	must(t, p.dir, realTool(t, "etcdctl"), "--endpoints", strings.Join(endpoints, ","), "move-leader", p.ids[m.name])
}
