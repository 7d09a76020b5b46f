//go:build interop

package snapshots

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/conclave-kv/conclave/internal/testcluster"
)

var record = flag.Bool("record", false, "write testdata anew")

// forms are those of `etcdutl snapshot status`.
var forms = []string{"simple", "json", "table", "fields"}

// TestRecord_history makes testdata.
func TestRecord_history(t *testing.T) {
	if !*record {
		t.Skip("it writes testdata anew, which `make snapshots` asks for")
	}
	for minor, programs := range map[string]string{"3.4": "etcd-3.4", "3.5": "etcd-3.5", "3.6": "etcd-3.6", "3.7": "interop"} {
		t.Run(minor, func(t *testing.T) {
			server := startServer(t, filepath.Join("..", "..", "bin", programs))
			server.write()
			r := server.ask()
			data := server.save()
			r.Status = status(t, data)
			keep(t, minor, r, data)
		})
	}
}

// server is a real etcd of one member.
type server struct {
	t        *testing.T
	ctx      context.Context
	programs string // directory
	endpoint string
	client   *clientv3.Client
}

func startServer(t *testing.T, programs string) *server {
	t.Helper()
	ports := testcluster.FreePorts(t, 2)
	s := &server{t: t, programs: programs, endpoint: "http://127.0.0.1:" + ports[0]}
	peer := "http://127.0.0.1:" + ports[1]
	cmd := exec.Command(filepath.Join(programs, "etcd"), "--name", "old", "--data-dir", filepath.Join(t.TempDir(), "data"), "--log-level", "error",
		"--listen-client-urls", s.endpoint, "--advertise-client-urls", s.endpoint,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "old="+peer)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v; make snapshots gets it", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // the test has what it wants of it
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("etcd said: %s", said.String())
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	s.ctx = ctx
	var err error
	if s.client, err = clientv3.New(clientv3.Config{Endpoints: []string{s.endpoint}, Context: ctx, Logger: zap.NewNop()}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.client.Close() })
	return s
}

func (s *server) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// ask has the server tell its state.
func (s *server) ask() (r recording) {
	s.t.Helper()
	st, err := s.client.Status(s.ctx, s.endpoint)
	s.must(err)
	r.Server, r.Revision, r.Compacted = st.Version, st.Header.Revision, compactedTo
	for _, revision := range []int64{r.Revision, (r.Revision + r.Compacted) / 2} {
		h, err := s.client.HashKV(s.ctx, s.endpoint, revision)
		s.must(err)
		r.Hashes = append(r.Hashes, hash{revision, h.Hash, h.CompactRevision})
	}
	all, err := s.client.Get(s.ctx, "", clientv3.WithPrefix(), clientv3.WithRev(r.Compacted))
	s.must(err)
	r.AtStart = newKeyValues(all.Kvs)
	watch := s.client.Watch(s.ctx, "", clientv3.WithPrefix(), clientv3.WithRev(r.Compacted+1))
	for len(r.Events) == 0 || r.Events[len(r.Events)-1].Mod < r.Revision {
		got := <-watch
		s.must(got.Err())
		r.Events = append(r.Events, newEvents(got.Events)...)
	}
	leases, err := s.client.Leases(s.ctx)
	s.must(err)
	for _, l := range leases.Leases {
		ttl, err := s.client.TimeToLive(s.ctx, l.ID, clientv3.WithAttachedKeys())
		s.must(err)
		r.Leases = append(r.Leases, newLease(ttl))
	}
	sortLeases(r.Leases)
	users, err := s.client.UserList(s.ctx)
	s.must(err)
	roles, err := s.client.RoleList(s.ctx)
	s.must(err)
	r.Users, r.Roles = users.Users, roles.Roles
	return r
}

// save has the version's own etcdctl save a snapshot.
func (s *server) save() []byte {
	s.t.Helper()
	path := filepath.Join(s.t.TempDir(), "snapshot.db")
	run(s.t, filepath.Join(s.programs, "etcdctl"), "--endpoints", s.endpoint, "snapshot", "save", path)
	data, err := os.ReadFile(path)
	s.must(err)
	return data
}

// status is what etcdutl 3.7.3 says of a snapshot.
func status(t *testing.T, data []byte) map[string]string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "snapshot.db")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	said := map[string]string{}
	for _, form := range forms {
		said[form] = run(t, filepath.Join("..", "..", "bin", "interop", "etcdutl"), "snapshot", "status", path, "-w", form)
	}
	return said
}

func run(t *testing.T, program string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, errs.String())
	}
	return out.String()
}

// keep writes a recording and its snapshot.
func keep(t *testing.T, minor string, r recording, data []byte) {
	t.Helper()
	text, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	var packed bytes.Buffer
	w, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Write(data)
	err = errors.Join(err, w.Close(), os.MkdirAll(place(minor), 0o755))
	for name, content := range map[string][]byte{"recording.json": append(text, '\n'), "snapshot.db.gz": packed.Bytes()} {
		err = errors.Join(err, os.WriteFile(filepath.Join(place(minor), name), content, 0o644))
	}
	if err != nil {
		t.Fatal(err)
	}
	fmt.Printf("etcd %s: revision %d, compacted to %d, %d bytes, packed %d\n", r.Server, r.Revision, r.Compacted, len(data), packed.Len())
}
