//go:build interop

package cluster_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// solo is a cluster of one, the smallest that shows a correct command to work.
type solo struct {
	*member
	dns   string
	other *member // never started: its addresses are free
}

func newSolo(t *testing.T) *solo {
	t.Helper()
	g := newGroup(t, 2, true)
	s := &solo{member: g.members[0], other: g.members[1]}
	s.name = "one"
	z := &zone{}
	z.a("one", s.addr)
	z.a("alias", s.addr)
	z.a("elsewhere", s.other.addr)
	z.srv("_etcd-server-ssl-one._tcp", "one", s.peer)
	z.srv("_etcd-server-ssl-others._tcp", "elsewhere", s.other.peer)
	z.srv("_etcd-server-ssl-twice._tcp", "one", s.peer)
	z.srv("_etcd-server-ssl-twice._tcp", "alias", s.peer)
	z.srv("_etcd-server-ssl-double._tcp", "one", s.peer)
	fmt.Fprintf(&z.text, "_etcd-server-ssl-double._tcp IN SRV 1 0 %s one\n", s.peer)
	z.srv("_etcd-server-ssl-gone._tcp", "one", s.peer)
	z.srv("_etcd-server-ssl-gone._tcp", "nowhere", s.peer)
	z.srv("_etcd-server-plain._tcp", "one", s.peer)
	s.dns = onLoopback(t, z).addr
	return s
}

// setting is a flag with its value.
type setting struct{ name, value string }

// line is a command line in the making.
type line []setting

// set replaces or adds flags; an empty value takes one away.
func (l line) set(pairs ...string) line {
	out := slices.Clone(l)
	for i := 0; i < len(pairs); i += 2 {
		name, value := pairs[i], pairs[i+1]
		at := slices.IndexFunc(out, func(f setting) bool { return f.name == name })
		switch {
		case at < 0:
			out = append(out, setting{name, value})
		case value == "":
			out = slices.Delete(out, at, at+1)
		default:
			out[at].value = value
		}
	}
	return out
}

func (l line) argv() []string {
	argv := []string{conclave}
	for _, f := range l {
		argv = append(argv, "--"+f.name+"="+f.value)
	}
	return argv
}

// static is a correct command with the list of peers.
func (s *solo) static() line {
	peer, client := "https://"+s.addr+":"+s.peer, "https://"+s.addr+":"+s.client
	return line{
		{"name", "one"}, {"data-dir", s.data}, {"cluster-secret-file", s.g.secret},
		{"listen-peer-urls", peer}, {"initial-advertise-peer-urls", peer},
		{"listen-client-urls", client}, {"advertise-client-urls", client},
		{"initial-cluster", "one=" + peer},
	}
}

// plain is static without TLS.
func (s *solo) plain() line {
	l := s.static().set("cluster-secret-file", "")
	for i := range l {
		l[i].value = strings.ReplaceAll(l[i].value, "https://", "http://")
	}
	return l
}

// byDNS turns a command to the records of a service name's suffix.
func (s *solo) byDNS(l line, suffix string) line {
	return l.set("initial-cluster", "", "discovery-srv", "example.com", "discovery-srv-name", suffix,
		"discovery-srv-server", s.dns, "discovery-timeout", "2s")
}

// badInput is a command that is refused, and the one that works instead; nil
// where that is shown by another one of the same kind.
type badInput struct {
	name      string
	bad, good line
	want      []string // in the one line that says so
}

func TestBadInput_oneLineAndAnotherTry(t *testing.T) {
	t.Parallel()
	s := newSolo(t)
	for _, c := range slices.Concat(s.badRecords(), s.badSecrets(t), s.badWords()) {
		t.Run(c.name, func(t *testing.T) {
			refusal(t, launch(t, "one", s.home, c.bad.argv()...), c.want...)
			untouched(t, s.data)
			if c.good != nil {
				s.works(t, c.good)
			}
			if err := os.RemoveAll(s.data); err != nil {
				t.Fatal(err)
			}
			litter, err := os.ReadDir(s.home)
			if err != nil || len(litter) != 1 {
				t.Errorf("left in the working directory: %v %v", litter, err)
			}
		})
	}
}

// works runs the corrected command.
func (s *solo) works(t *testing.T, l line) {
	t.Helper()
	p := launch(t, "one", s.home, l.argv()...)
	p.says(serveTimeout, "ready to serve client requests")
	p.stop()
}

func (s *solo) badRecords() []badInput {
	static, plain := s.static(), s.plain()
	good := s.byDNS(static, "one")
	named := good.set("initial-advertise-peer-urls", "https://one.example.com:"+s.peer)
	return []badInput{
		{"noRecord", s.byDNS(static, "none"), good,
			[]string{"_etcd-server-ssl-none._tcp.example.com", "--discovery-timeout 2s", "publish one for each member", "--discovery-srv"}},
		{"selfMissing", s.byDNS(static, "others"), good,
			[]string{"--initial-advertise-peer-urls https://" + s.addr + ":" + s.peer, "elsewhere.example.com:" + s.other.peer, "publish a record for it, or correct the flag"}},
		{"selfMissingWithoutURLs", s.byDNS(static, "others").set("name", "", "listen-peer-urls", "", "initial-advertise-peer-urls", "", "listen-client-urls", "", "advertise-client-urls", ""), good,
			[]string{"no record of _etcd-server-ssl-others._tcp.example.com resolves to an address of this host", "loopback does not count", "give --initial-advertise-peer-urls"}},
		{"selfTwice", s.byDNS(static, "twice"), good,
			[]string{"--initial-advertise-peer-urls https://" + s.addr + ":" + s.peer + " matches 2 records", "one.example.com:" + s.peer, "alias.example.com:" + s.peer, "give its host and port as written there"}},
		{"recordTwice", s.byDNS(named, "double"), named,
			[]string{"_etcd-server-ssl-double._tcp.example.com has two records for one.example.com:" + s.peer, "remove the other"}},
		{"plaintextRecordsWithSecret", s.byDNS(static, "plain"), s.byDNS(plain, "plain"),
			[]string{"--discovery-srv example.com", "only plaintext records (_etcd-server-plain._tcp.example.com)", "publish _etcd-server-ssl-plain._tcp.example.com", "--cluster-secret-file"}},
		{"tlsRecordsWithoutSecret", s.byDNS(plain, "one"), good,
			[]string{"--discovery-srv example.com", "only TLS records (_etcd-server-ssl-one._tcp.example.com)", "give --cluster-secret-file"}},
		{"unresolvable", s.byDNS(static, "gone"), good,
			[]string{"nowhere.example.com, listed in _etcd-server-ssl-gone._tcp.example.com, does not resolve", "--discovery-timeout 2s", "publish its address or remove the record"}},
		{"noServer", good.set("discovery-srv-server", net.JoinHostPort(s.other.addr, s.other.peer)), good,
			[]string{"--discovery-srv example.com", s.other.addr + ":" + s.other.peer, "connection refused"}},
		{"twoSources", good.set("initial-cluster", "one=https://"+s.addr+":"+s.peer), good,
			[]string{"--initial-cluster", "--discovery-srv", "one=https://" + s.addr + ":" + s.peer, "example.com", "Choose one"}},
		{"domainMalformed", good.set("discovery-srv", "https://example.com"), good,
			[]string{`--discovery-srv "https://example.com" is not a domain name`, "write the domain alone"}},
		{"serverMalformed", good.set("discovery-srv-server", "ns.example.com"), good,
			[]string{`--discovery-srv-server "ns.example.com" is not host:port`, "write the DNS server's address and port"}},
	}
}

func (s *solo) badSecrets(t *testing.T) []badInput {
	t.Helper()
	static, plain := s.static(), s.plain()
	text, err := os.ReadFile(s.g.secret)
	if err != nil {
		t.Fatal(err)
	}
	open := writeFile(t, filepath.Join(s.g.dir, "open.secret"), string(text))
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	cut := writeFile(t, filepath.Join(s.g.dir, "cut.secret"), string(text[:len(text)/2]))
	none := filepath.Join(s.g.dir, "no.secret")
	list := "one=http://" + s.addr + ":" + s.peer
	return []badInput{
		{"worldReadable", static.set("cluster-secret-file", open), static, []string{"--cluster-secret-file " + open, "mode 0644", "chmod 600 " + open}},
		{"noSecretFile", static.set("cluster-secret-file", none), static, []string{"--cluster-secret-file " + none, "no such file", "conclave cluster-secret new"}},
		{"cutSecretFile", static.set("cluster-secret-file", cut), static, []string{"--cluster-secret-file " + cut, "copy the file again"}},
		{"plaintextListWithSecret", static.set("initial-cluster", list), static, []string{"http://" + s.addr + ":" + s.peer, "https"}},
		{"plaintextURLsWithSecret", plain.set("cluster-secret-file", s.g.secret), plain,
			[]string{"--listen-peer-urls http://" + s.addr + ":" + s.peer, "--cluster-secret-file " + s.g.secret, "write https, or leave the secret out"}},
		{"tlsURLsWithoutSecret", static.set("cluster-secret-file", ""), static,
			[]string{"--listen-peer-urls", "https://" + s.addr + ":" + s.peer, "--peer-cert-file", "--cluster-secret-file"}},
		{"tlsListWithoutSecret", plain.set("initial-cluster", "one=https://"+s.addr+":"+s.peer), plain,
			[]string{"--initial-cluster has one=https://" + s.addr + ":" + s.peer, "make the two flags agree"}},
		{"tlsPeerWithoutSecret", plain.set("initial-cluster", list+",two=https://"+s.other.addr+":"+s.other.peer), plain,
			[]string{"https://" + s.other.addr + ":" + s.other.peer + " of two is https", "--cluster-secret-file"}},
		{"plaintextPeerWithSecret", static.set("initial-cluster", "one=https://"+s.addr+":"+s.peer+",two=http://"+s.other.addr+":"+s.other.peer), static,
			[]string{"http://" + s.other.addr + ":" + s.other.peer + " of two is plaintext", "--cluster-secret-file"}},
	}
}

func (s *solo) badWords() []badInput {
	good := s.static()
	peer := "https://" + s.addr + ":" + s.peer
	var all []badInput
	for _, name := range []string{"o ne", "o=ne", "o,ne", strings.Repeat("n", 300)} {
		all = append(all, badInput{"name " + name[:4], good.set("name", name), nil, []string{"--name"}})
	}
	for _, c := range []struct{ flag, value, want string }{
		{"listen-peer-urls", s.addr + ":" + s.peer, "scheme://host:port"},
		{"listen-peer-urls", "https://" + s.addr, "add the port"},
		{"listen-peer-urls", "ftp://" + s.addr + ":" + s.peer, "URL scheme must be http, https, unix, or unixs"},
		{"listen-peer-urls", "https://one.example.com:" + s.peer, "use an address of this host"},
		{"listen-peer-urls", "https://192.0.2.1:" + s.peer, "not an address of this host; give one that is"},
		{"listen-client-urls", "https://" + s.addr + ":99999", "99999"},
		{"listen-client-urls", peer + "/v3", "must not contain a path"},
		{"listen-client-urls", peer, "--listen-peer-urls and --listen-client-urls both listen on " + s.addr + ":" + s.peer + ": give each its own port"},
		{"initial-advertise-peer-urls", "https://:" + s.peer, "write the name or address others reach this member by"},
		{"advertise-client-urls", "localhost", "scheme://host:port"},
		{"initial-cluster", "one", `"one" is not name=url`},
		{"initial-cluster", "other=" + peer, `couldn't find local name "one" in the initial cluster configuration: --initial-cluster lists other; give one of these as --name`},
		{"initial-cluster", "one=https://" + s.other.addr + ":" + s.other.peer, s.other.addr},
		{"initial-cluster", "one=" + peer + ",two=" + peer, "duplicate url " + peer + " among the first peers (of \"one\" and \"two\"); list it once"},
		{"initial-cluster-state", "old", `use "new"`},
		{"initial-cluster-state", "existing", "list the members of the cluster too"},
		{"election-timeout", "200", "--heartbeat-interval"},
		{"data-dir", s.g.secret, "is not a directory"},
	} {
		all = append(all, badInput{c.flag + " " + c.value, good.set(c.flag, c.value), nil, []string{c.flag, c.want}})
	}
	all[len(all)-1].good = good
	return all
}
