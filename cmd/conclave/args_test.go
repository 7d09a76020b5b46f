package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

func testApp(t *testing.T) (out *bytes.Buffer, arranged func(...string) (commandLine, error)) {
	t.Helper()
	out = new(bytes.Buffer)
	app := newApp(stdio{in: strings.NewReader(""), out: out, err: out})
	return out, func(args ...string) (commandLine, error) { return arrange(app, args) }
}

func TestArrange_order(t *testing.T) {
	_, arranged := testApp(t)
	for _, c := range []struct{ given, want string }{
		{"get foo --prefix", "conclave get --prefix=true -- foo"},
		{"--prefix get foo", "conclave get --prefix=true -- foo"},
		{"get --prefix=false foo", "conclave get --prefix=false -- foo"},
		{"put --lease 5 k v", "conclave put --lease=5 -- k v"},
		{"put k v --lease=5", "conclave put --lease=5 -- k v"},
		{"--endpoints x get k", "conclave --endpoints=x get -- k"},
		{"get k --endpoints x,y", "conclave --endpoints=x,y get -- k"},
		{"get k --endpoints x --endpoints y", "conclave --endpoints=x --endpoints=y get -- k"},
		{"put k -- -v", "conclave put -- k -v"},
		{"put -- --prev-kv --", "conclave put -- --prev-kv --"},
		{"get -", "conclave get -- -"},
		{"get help", "conclave get -- help"},
		{"get k -w json", "conclave --write-out=json get -- k"},
		{"get k -w=json", "conclave --write-out=json get -- k"},
		{"get k -wjson", "conclave --write-out=json get -- k"},
		{"get k -prefix", "conclave get --prefix=true -- k"},
		{"txn -i", "conclave txn --interactive=true --"},
		{"endpoint --cluster status -w table", "conclave --write-out=table endpoint status --cluster=true --"},
		{"endpoint status --cluster", "conclave endpoint status --cluster=true --"},
		{"compact 5", "conclave compaction -- 5"},
		{"compac 5", "conclave compaction -- 5"},
		{"member l", "conclave member list --"},
		{"get k --limit -1", "conclave get --limit=-1 -- k"},
		{"--user= get k", "conclave --user= get -- k"},
	} {
		line, err := arranged(strings.Fields(c.given)...)
		if err != nil {
			t.Errorf("%s: %v", c.given, err)
		} else if got := strings.Join(line.argv(), " "); got != c.want {
			t.Errorf("%s: got %s, want %s", c.given, got, c.want)
		}
	}
}

func TestArrange_serverForm(t *testing.T) {
	_, arranged := testApp(t)
	line, err := arranged("-name", "a", "--data-dir=b", "--pre-vote=false", "-client-cert-auth", "--name", "c")
	if err != nil {
		t.Fatal(err)
	}
	want := []givenFlag{
		{name: "name", value: "a"}, {name: "data-dir", value: "b"}, {name: "pre-vote", value: "false"},
		{name: "client-cert-auth", value: "true", bare: true}, {name: "name", value: "c"},
	}
	if len(line.words) != 0 || !slices.Equal(line.flags, want) {
		t.Errorf("got %+v, want %+v", line.flags, want)
	}
}

// A flag's kind must be known before the command is, so no two commands may
// give one name different kinds.
func TestArrange_oneKindPerFlag(t *testing.T) {
	_, arranged := testApp(t)
	line, err := arranged()
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]bool{}
	for _, f := range line.candidates() {
		for _, name := range f.Names() {
			flag := describe(f)
			if kind, seen := kinds[name]; seen && kind != flag.boolean {
				t.Errorf("--%s takes a value in one command and none in another", name)
			}
			kinds[name] = flag.boolean
		}
	}
	for _, name := range allServerFlags() {
		flag, _ := serverFlagNamed(name)
		if kind, seen := kinds[name]; seen && kind != flag.boolean {
			t.Errorf("--%s takes a value in one form and none in the other", name)
		}
	}
	if !kinds["prefix"] || kinds["endpoints"] {
		t.Error("kinds are not told apart at all")
	}
}

func TestServerFlags_distinct(t *testing.T) {
	seen := map[string]bool{}
	for _, name := range allServerFlags() {
		if seen[name] {
			t.Errorf("--%s stands twice", name)
		}
		seen[name] = true
	}
	if len(seen) < 120 {
		t.Errorf("%d flags; etcd 3.7 alone has 112, and 15 it ignores", len(seen))
	}
}

func TestDidYouMean_nearest(t *testing.T) {
	candidates := []string{"get", "put", "del", "txn", "endpoint", "member", "initial-cluster", "initial-cluster-token"}
	for word, want := range map[string]string{
		"gett": "get", "gte": "get", "pu": "put", "endpont": "endpoint", "emmber": "member",
		"inital-cluster": "initial-cluster", "cluster-token": "initial-cluster-token",
	} {
		if got := didYouMean(word, "", candidates); got != "; did you mean "+want+"?" {
			t.Errorf("%s: got %q, want %s", word, got, want)
		}
	}
	for _, word := range []string{"xyzzy", "q", "watch"} {
		if got := didYouMean(word, "", candidates); got != "" {
			t.Errorf("%s: got %q, want no hint", word, got)
		}
	}
}

// Whatever is typed, arranging ends in a line urfave/cli can read or in an
// error, and loses no positional argument.
func FuzzArrange(f *testing.F) {
	for _, seed := range []string{"get\nfoo\n--prefix", "-w\n=", "--\n--", "-=x", "put\n-\n--lease", "---x", "endpoint\n--cluster\nhelp", "-é\nget"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		args := strings.Split(text, "\n")
		out := new(bytes.Buffer)
		line, err := arrange(newApp(stdio{in: strings.NewReader(""), out: out, err: out}), args)
		if err != nil {
			if err.Error() == "" {
				t.Error("an error without words")
			}
			return
		}
		argv := line.argv()
		end := slices.Index(argv, "--")
		if !slices.Equal(argv[end+1:], line.rest) {
			t.Errorf("%q: arguments %q became %q", args, line.rest, argv[end+1:])
		}
		for _, word := range argv[1:end] {
			isWord := slices.ContainsFunc(line.words, func(c *cli.Command) bool { return c.Name == word })
			if !isWord && !strings.HasPrefix(word, "--") {
				t.Errorf("%q: %q stands before the arguments in %q", args, word, argv)
			}
		}
	})
}

// A word that became a command is no longer one of a later version.
func TestLaterWords_areNoCommands(t *testing.T) {
	app := newApp(stdio{})
	for _, word := range laterWords {
		if app.Command(word) != nil {
			t.Errorf("%s is a command", word)
		}
	}
}
