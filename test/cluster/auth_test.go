//go:build interop

package cluster_test

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// command is one of etcdctl's, with what is typed.
type command struct {
	typed string
	line  string // parts are separated by blanks
}

// rbac is the walkthrough of users and roles, then what is refused, then what
// goes on when rights and users change, and the end.
var rbac = []command{
	{"", "auth status"},
	{"", "auth enable"}, // without root
	{"", "role add root"}, {"", "role get root"}, {"", "role add root"},
	{"rootpw\n", "user add root --interactive=false"}, {"", "user add root:again"},
	{"", "user grant-role root root"}, {"", "user get root"}, {"", "user grant-role root none"},
	{"", "role add role0"},
	{"", "role grant-permission role0 readwrite foo"},
	{"", "role grant-permission role0 --prefix=true read pre/"},
	{"", "role grant-permission role0 write wa wz"},
	{"", "role grant-permission role0 --from-key=true readwrite zz"},
	{"", "role grant-permission role0 readwrite b a"}, {"", "role grant-permission none read a"},
	{"", "role get role0"}, {"", "role get none"}, {"", "role list"},
	{"", "user add user0:123"}, {"", "user add cert --no-password"}, {"", "user grant-role user0 role0"}, {"", "user list"},
	{"", "user get user0 --detail"}, {"", "user get nobody"},
	{"", "auth enable"}, {"", "auth enable --user=root:rootpw"},
	{"", "--user=user0:123 put foo bar"}, {"", "get foo"}, {"", "--user=user0:123 get foo"},
	{"", "--user=user0:123 get foo1"}, {"", "--user=user0:wrong get foo"}, {"", "--user=nobody:123 get foo"}, {"", "--user=cert:123 get foo"},
	{"", "--user=user0:123 get pre/ --prefix"}, {"", "--user=user0:123 get pre/ --from-key"}, {"", "--user=user0:123 put pre/x 1"},
	{"", "--user=user0:123 put wb 1"}, {"", "--user=user0:123 put --prev-kv wb 2"}, {"", "--user=user0:123 get wb"},
	{"", "--user=user0:123 del wa wz"}, {"", "--user=user0:123 del wa zzz"}, {"", "--user=user0:123 get zzz --from-key"},
	{"mod(\"wb\") > \"0\"\n\nget foo\n\nput foo x\n\n", "--user=user0:123 txn"},
	{"mod(\"foo\") > \"0\"\n\nget foo\n\nput foo x\n\n", "--user=user0:123 txn"},
	{"", "--user=user0:123 user get user0"}, {"", "--user=user0:123 user get root"}, {"", "--user=user0:123 role get role0"}, {"", "--user=user0:123 role get root"},
	{"", "--user=user0:123 user list"}, {"", "--user=user0:123 compact 2"}, {"", "--user=user0:123 alarm disarm"}, {"", "--user=user0:123 alarm list"},
	{"", "--user=user0:123 lease list"}, {"", "--user=user0:123 lease revoke 123"}, {"", "--user=user0:123 watch foo1"}, {"", "watch foo"},
	{"", "--user=user0:123 auth disable"}, {"", "auth status"}, {"", "--user=root:rootpw auth status"},
	{"", "--user=root:rootpw user delete root"}, {"", "--user=root:rootpw user revoke-role root root"}, {"", "--user=root:rootpw role delete root"},
	{"new\n", "--user=root:rootpw user passwd user0 --interactive=false"}, {"", "--user=user0:123 get foo"}, {"", "--user=user0:new get foo"},
	{"", "--user=root:rootpw role revoke-permission role0 foo"}, {"", "--user=root:rootpw role revoke-permission role0 foo"},
	{"", "--user=root:rootpw role revoke-permission role0 --prefix=true pre/"}, {"", "--user=user0:new get foo"},
	{"", "--user=root:rootpw role get role0"}, {"", "--user=root:rootpw auth status"},
	{"", "--user=root:rootpw role delete role0"}, {"", "--user=root:rootpw user get user0"}, {"", "--user=user0:new get zz"},
	{"", "--user=root:rootpw user delete user0"}, {"", "--user=user0:new get zz"}, {"", "--user=root:rootpw user list"},
	{"", "--user=root:rootpw auth disable"}, {"", "auth status"}, {"", "get foo"}, {"", "user delete root"},
}

// noise is what the client logs, with times and addresses.
var noise = regexp.MustCompile(`(?m)^\{"level".*\n`)

// TestAuth_asEtcd gives the walkthrough to conclave and to etcd, with real
// etcdctl, and compares all that is printed.
func TestAuth_asEtcd(t *testing.T) {
	t.Parallel()
	etcdctl := realTool(t, "etcdctl")
	ours, theirs := kinds(t)
	var said [2][]string
	for i, k := range []kind{ours, theirs} {
		g := groupOf(t, k, 1)
		g.launch()
		g.serve()
		for _, c := range rbac {
			argv := append([]string{etcdctl, "--endpoints", g.members[0].clientURL()}, strings.Split(c.line, " ")...)
			out, err := output(g.dir, c.typed, argv...)
			how := "done: "
			if err != nil {
				how = "failed: "
			}
			said[i] = append(said[i], how+noise.ReplaceAllString(out, ""))
		}
	}
	for i, c := range rbac {
		if said[0][i] != said[1][i] {
			t.Errorf("%s\nconclave %s\netcd     %s", c.line, said[0][i], said[1][i])
		}
	}
	contains(t, "etcdctl", strings.Join(said[0], ""), "Role root created", "User user0 created", "Authentication Enabled", "OK", "foo\nbar",
		"permission denied", "user name is empty", "invalid auth management", "authentication failed", "SUCCESS", "AuthRevision", "Authentication Disabled")
}

// Users log in on the other side of a snapshot, with the same rights, whichever
// program saved it and whichever restored it.
func TestAuth_crossesInSnapshots(t *testing.T) {
	t.Parallel()
	etcdctl := realTool(t, "etcdctl")
	ours, theirs := kinds(t)
	for _, tt := range []struct {
		name     string
		from, to kind
	}{{"conclave to etcd", ours, theirs}, {"etcd to conclave", theirs, ours}, {"conclave to conclave", ours, ours}} {
		t.Run(tt.name, func(t *testing.T) {
			ctl := func(g *group, line string) (string, error) {
				out, err := output(g.dir, "", append([]string{etcdctl, "--endpoints", g.members[0].clientURL()}, strings.Split(line, " ")...)...)
				return noise.ReplaceAllString(out, ""), err
			}
			from := groupOf(t, tt.from, 1)
			from.launch()
			from.serve()
			for _, line := range []string{
				"user add root:rootpw", "user grant-role root root", "role add app", "role grant-permission app --prefix=true readwrite app/",
				"role grant-permission app read shared", "user add alice:pw", "user grant-role alice app", "user add cert --no-password",
				"put secret x", "put app/1 y", "auth enable",
			} {
				if out, err := ctl(from, line); err != nil {
					t.Fatal(line, out, err)
				}
			}
			look := []string{
				"--user=root:rootpw user list", "--user=root:rootpw role list", "--user=root:rootpw user get alice --detail", "--user=root:rootpw auth status",
				"--user=root:rootpw get secret", "--user=alice:pw get app/ --prefix", "--user=alice:pw put app/2 z", "--user=alice:pw get secret",
				"--user=alice:no get app/1", "--user=cert:pw get app/1", "get app/1",
			}
			told := func(g *group) (all []string) {
				for _, line := range look {
					out, _ := ctl(g, line)
					all = append(all, line+": "+out)
				}
				return all
			}
			file := filepath.Join(from.dir, "backup.db")
			must(t, from.dir, slices.Concat(tt.from.save, []string{file, "--endpoints", from.members[0].clientURL(), "--user=root:rootpw"})...)
			before := told(from)
			from.stop()
			to := groupOf(t, tt.to, 1)
			to.restore(tt.to, file)
			to.launch()
			eventually(t, serveTimeout, "users to be served", func() error {
				_, err := ctl(to, "--user=root:rootpw get secret")
				return err
			})
			for i, after := range told(to) {
				if after != before[i] {
					t.Errorf("before:\n%s\nafter:\n%s", before[i], after)
				}
			}
			for _, line := range []string{"--user=root:rootpw user passwd alice:pw2", "--user=root:rootpw role revoke-permission app shared", "--user=root:rootpw user add bob:pw"} {
				if out, err := output(to.dir, "pw2\n", append([]string{etcdctl, "--endpoints", to.members[0].clientURL()}, strings.Split(strings.ReplaceAll(line, "alice:pw2", "alice --interactive=false"), " ")...)...); err != nil {
					t.Error(line, out, err)
				}
			}
			if out, err := ctl(to, "--user=alice:pw2 get app/1"); err != nil {
				t.Error(out, err)
			}
		})
	}
}
