//go:build interop

package main

import (
	"testing"
)

// administration is a session about users and roles: the tutorials' first, then
// every form and every mistake. Passwords come from arguments or the standard
// input, since etcdctl asks on a terminal only.
func administration() []step {
	var steps []step
	add := func(line string) { steps = append(steps, step{"", words(line)}) }
	for _, line := range []string{
		"role add root", "role get root", "user add root:rootpw", "user grant-role root root", "user get root",
		"role add role0", "role grant-permission role0 readwrite foo", "user add user0 --new-user-password 123", "user grant-role user0 role0",
		"auth status", "auth enable",
		"--user=user0:123 put foo bar", "get foo", "--user=user0:123 get foo", "--user=user0:123 get foo1", "--user=user0:wrong get foo",
		"--user root:rootpw auth status", "--user user0:123 user list", "--user root:rootpw auth disable",
		"role grant-permission role0 read a z", "role grant-permission role0 write --prefix p/", "role grant-permission role0 read --from-key q",
	} {
		add(line)
	}
	for _, f := range append([]string{"json --hex"}, formats...) {
		for _, line := range []string{
			"role add r", "role add r", "role get role0", "role get root", "role get none", "role list",
			"role grant-permission r read k", "role grant-permission r readwrite k end", "role revoke-permission r k", "role revoke-permission r k end",
			"role revoke-permission r k", "user add u --no-password", "user add u:pw", "user grant-role u r", "user grant-role u none",
			"user get u", "user get root --detail", "user get user0 --detail", "user list", "user revoke-role u r", "user revoke-role u r", "user delete u", "user delete u",
			"user get u", "role delete r", "role delete r", "auth status",
		} {
			add(line + " -w " + f)
		}
		steps = append(steps, step{"secret\n", words("user passwd user0 --interactive=false -w " + f)})
	}
	for _, line := range []string{
		"user add", "user add :pw", "user add a b", "user delete", "user get", "user list x", "user passwd", "user grant-role u", "user revoke-role u",
		"role add", "role delete", "role get", "role list x", "role grant-permission r read", "role grant-permission r own k",
		"role grant-permission r read k e --prefix", "role grant-permission r read k e --from-key", "role grant-permission r read k --from-key --prefix",
		"role revoke-permission r", "role revoke-permission role0 a z", "role revoke-permission role0 p/ --prefix", "role revoke-permission role0 q --from-key",
		"role grant-permission role0 read z a", "auth status x", "auth enable x", "auth disable x", "auth disable",
	} {
		add(line)
	}
	// Empty words, for all keys.
	for _, args := range [][]string{
		{"role", "grant-permission", "role0", "read", "", "--prefix"}, {"role", "grant-permission", "role0", "read", "", "--from-key"},
		{"role", "grant-permission", "role0", "read", ""}, {"role", "get", "role0"}, {"role", "revoke-permission", "role0", "", "--prefix"},
		{"role", "revoke-permission", "role0", ""}, {"role", "add", ""}, {"user", "add", "", "--no-password"}, {"user", "get", ""},
	} {
		steps = append(steps, step{"", args})
	}
	steps = append(steps, step{"piped\n", words("user add piped --interactive=false")})
	// The role root is made by enabling.
	for _, line := range []string{"role delete root", "auth enable", "--user root:rootpw role get root", "--user root:rootpw auth disable", "user delete root", "auth enable"} {
		add(line)
	}
	return steps
}

func TestAuth_sameBytesAsEtcdctl(t *testing.T) {
	// Both servers advertise the same URLs, so their ids are equal.
	const advertise = "http://127.0.0.1:2"
	theirs, ours := startEtcd(t, advertise), startEtcd(t, advertise)
	etcdctl := realTool(t, "etcdctl")
	for i, s := range administration() {
		want := call(t, etcdctl, theirs, s.stdin, s.args...)
		got := call(t, "conclave", ours, s.stdin, s.args...)
		if got != want {
			t.Errorf("step %d: %q with stdin %q\nconclave: %+v\netcdctl:  %+v", i, s.args, s.stdin, got, want)
		}
	}
}
