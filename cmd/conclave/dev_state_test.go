package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func usualDevState(t *testing.T, members int) devState {
	t.Helper()
	s, _, err := chooseDevState(members, anyPort, anyPort)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestDevState_savedAndLoaded(t *testing.T) {
	dir := devDir(t.TempDir())
	if _, err := loadDevState(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("without a file: %v", err)
	}
	want := usualDevState(t, 5)
	if err := want.save(dir); err != nil {
		t.Fatal(err)
	}
	got, err := loadDevState(dir)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("loaded %+v, %v; want %+v", got, err, want)
	}
}

// What --reset deletes is named after the state file, so a strange one is not
// trusted.
func TestDevState_strange(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"garbage":     {`{"format"`, "unexpected end"},
		"empty":       {`{}`, "not a state file of conclave dev"},
		"newer":       {`{"format": 2}`, "newer version (format 2, this one reads 1)"},
		"no members":  {`{"format": 1, "dns_port": 1}`, "not a state file of conclave dev"},
		"other names": {`{"format": 1, "dns_port": 1, "members": [{"name": "../m1", "client_port": 2, "peer_port": 3}]}`, `calls member 1 "../m1"`},
		"port twice":  {`{"format": 1, "dns_port": 1, "members": [{"name": "m1", "client_port": 2, "peer_port": 2}]}`, "gives peers of m1 the port 2"},
		"no port":     {`{"format": 1, "dns_port": 1, "members": [{"name": "m1", "client_port": 2}]}`, "gives peers of m1 the port 0"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := devDir(t.TempDir())
			if err := os.WriteFile(dir.statePath(), []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := loadDevState(dir)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), dir.statePath()) {
				t.Errorf("error %v\nwant one with %q and the file", err, c.want)
			}
		})
	}
}

func TestDevState_arguments(t *testing.T) {
	s := usualDevState(t, 3)
	got := strings.Join(s.arguments("/d", s.Members[1]), " ")
	const want = "--name=m2 --data-dir=/d/m2.conclave --discovery-srv=conclave.test --discovery-srv-server=127.0.0.1:2353 " +
		"--cluster-secret-file=/d/cluster.secret --listen-peer-urls=https://127.0.0.1:22380 " +
		"--initial-advertise-peer-urls=https://m2.conclave.test:22380 " +
		"--listen-client-urls=https://127.0.0.1:22379 --advertise-client-urls=https://127.0.0.1:22379"
	if got != want {
		t.Errorf("arguments %s\nwant      %s", got, want)
	}
}

func TestMemberEnv_onlyFromFlags(t *testing.T) {
	got := memberEnv([]string{"PATH=/bin", "CONCLAVE_NAME=x", "ETCD_NAME=y", "ETCDCTL_CERT=z", "NOTIFY_SOCKET=/s", "HOME=/h", lifelineEnv + "=old"})
	if want := []string{lifelineEnv + "=stdin", "PATH=/bin", "HOME=/h"}; !reflect.DeepEqual(got, want) {
		t.Errorf("environment %q, want %q", got, want)
	}
}

func TestLastWords_forms(t *testing.T) {
	for _, c := range []struct{ log, want string }{
		{"", "none, its log is empty"},
		{"\n\n", "none, its log is empty"},
		{"{\"msg\":\"one\"}\n{\"level\":\"info\",\"ts\":\"t\",\"caller\":\"c\",\"msg\":\"waiting\",\"b\":2,\"a\":\"x\",\"error\":\"no record\"}\n", "waiting: no record (a=x, b=2)"},
		{"{\"msg\":\"one\"}\nError: --name is bad\n", "Error: --name is bad"},
		{"{\"msg\":\"one\"}\npanic: boom\n\ngoroutine 1 [running]:\nmain.main()\n", "panic: boom"},
		{strings.Repeat("x", 2*maxWords), strings.Repeat("x", maxWords) + "..."},
	} {
		if got := lastWordsOf(c.log); got != c.want {
			t.Errorf("last words of %q: %q, want %q", c.log, got, c.want)
		}
	}
}

func TestLastWords_longLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, []byte("panic: long ago\n"+strings.Repeat("a line\n", maxLogTail/6)+"the end\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := lastWords(path); got != "the end" {
		t.Errorf("last words %q", got)
	}
	if got := lastWords(path + ".none"); !strings.Contains(got, "cannot be read") {
		t.Errorf("last words of no file: %q", got)
	}
}
