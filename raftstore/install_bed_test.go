package raftstore

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/conclave-kv/conclave/internal/conclavepb"
)

// installBed is member 2 with its files in a directory, and member 1 that leads
// it by hand.
type installBed struct {
	dir     string
	leader  *Transport
	mesh    *Mesh
	node    *Node
	machine *toyMachine
	fatal   chan error
	step    func(name string)
	close   func()
}

func statePath(dir string) string { return filepath.Join(dir, "db") }

func pairMembership() *conclavepb.Configuration {
	return &conclavepb.Configuration{Servers: []*conclavepb.Server{
		{Id: 1, PeerUrls: []string{memURL(1)}}, {Id: 2, PeerUrls: []string{memURL(2)}},
	}}
}

// openBed opens member 2 as after a crash. Change, if given, may change how.
func openBed(t testing.TB, dir string, change func(*Config)) *installBed {
	t.Helper()
	b, err := tryBed(dir, change)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.close)
	awaitBoth(t, b.leader.mesh, 2)
	awaitBoth(t, b.mesh, 1)
	return b
}

func tryBed(dir string, change func(*Config)) (*installBed, error) {
	if err := Recover(filepath.Join(dir, "wal"), statePath(dir), zerolog.Nop()); err != nil {
		return nil, err
	}
	machine, err := openToy(statePath(dir))
	if err != nil {
		return nil, err
	}
	net := newFaultNet(1)
	b := &installBed{dir: dir, machine: machine, mesh: net.mesh(2, zerolog.Nop()), fatal: make(chan error, 1)}
	cfg := Config{
		Dir: filepath.Join(dir, "wal"), State: statePath(dir), Self: 2, Mesh: b.mesh, Machine: machine,
		Bootstrap: pairMembership(), OpenTerm: func(uint64) []byte { return []byte("open") },
		ElectionTimeout: 200 * time.Millisecond, RequestTimeout: time.Second, PreVote: true,
		Fatal: func(err error) { b.fatal <- err }, Log: zerolog.Nop(), Registry: prometheus.NewRegistry(),
		afterStep: func(name string) {
			if b.step != nil {
				b.step(name)
			}
		},
	}
	if change != nil {
		change(&cfg)
	}
	if b.node, err = Open(cfg); err != nil {
		b.mesh.Close()
		return nil, err
	}
	mesh := net.mesh(1, zerolog.Nop())
	mesh.SetPeers(memPeers(1, 1, 2))
	b.leader = servingTransport(mesh, allDurable{})
	b.close = func() {
		b.leader.Close()
		mesh.Close()
		b.node.Close()
		b.mesh.Close()
	}
	return b, nil
}

// follow has member 2 append entries of a term after prev, and learn that those
// up to commit are agreed.
func (b *installBed) follow(t testing.TB, term, prev, prevTerm, commit uint64, data ...string) {
	t.Helper()
	args := &raft.AppendEntriesRequest{
		RPCHeader: testHeader, Term: term, PrevLogEntry: prev, PrevLogTerm: prevTerm, LeaderCommitIndex: commit,
	}
	for i, d := range data {
		args.Entries = append(args.Entries, &raft.Log{
			Index: prev + 1 + uint64(i), Term: term, Data: []byte(d), Extensions: recordCommit(commit),
		})
	}
	var resp raft.AppendEntriesResponse
	if err := b.leader.AppendEntries(peer2, "", args, &resp); err != nil || !resp.Success {
		t.Fatalf("append after %d: %+v, %v", prev, resp, err)
	}
}

// begin is an old state that the log goes beyond: entries 2 to 8 are agreed, of
// which the state file has those to 5, and 9 and 10 are in the log.
func (b *installBed) begin(t testing.TB) {
	t.Helper()
	b.follow(t, 2, 1, 1, 5, "2", "3", "4", "5")
	eventually(t, "entry 5 is applied", func() bool { return b.machine.Applied() == 5 })
	b.machine.sync()
	b.follow(t, 2, 5, 2, 5, "6", "7", "8")
	b.follow(t, 2, 8, 2, 8, "9", "10")
	eventually(t, "entry 8 is applied", func() bool { return b.machine.Applied() == 8 })
}

// leaderState is a state file of the leader at an index: it holds the commands
// named by the indexes from 2 on.
func leaderState(index, term uint64, padding int) (*raft.InstallSnapshotRequest, []byte) {
	f := &toyFile{Index: index, Term: term, ConfIndex: 1, Conf: pairMembership(), Padding: bytes.Repeat([]byte{7}, padding)}
	f.Commands = numbers(index)
	raw, err := json.Marshal(f)
	if err != nil {
		panic(err)
	}
	return &raft.InstallSnapshotRequest{
		RPCHeader: testHeader, SnapshotVersion: 1, Term: max(term, 3), LastLogIndex: index, LastLogTerm: term,
		Configuration: raft.EncodeConfiguration(encodeConfiguration(f.Conf)), ConfigurationIndex: 1, Size: int64(len(raw)),
	}, raw
}

// numbers are the commands of entries 2 to last.
func numbers(last uint64) []string {
	var out []string
	for i := uint64(2); i <= last; i++ {
		out = append(out, fmt.Sprint(i))
	}
	return out
}

// install sends a state as the leader would.
func (b *installBed) install(args *raft.InstallSnapshotRequest, content []byte) (*raft.InstallSnapshotResponse, error) {
	resp := &raft.InstallSnapshotResponse{}
	err := b.leader.InstallSnapshot(peer2, "", args, resp, bytes.NewReader(content))
	return resp, err
}

func (b *installBed) mustInstall(t testing.TB, args *raft.InstallSnapshotRequest, content []byte) {
	t.Helper()
	if resp, err := b.install(args, content); err != nil || !resp.Success || resp.Term != args.Term {
		t.Fatalf("install of index %d: %+v, %v", args.LastLogIndex, resp, err)
	}
}

// nothingStaged checks that no file of an install is left.
func nothingStaged(t testing.TB, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != "db" && e.Name() != "wal" {
			t.Errorf("%s is left", e.Name())
		}
	}
}

func (b *installBed) holds(t testing.TB, want []string) {
	t.Helper()
	if got := b.machine.all(); !slices.Equal(got, want) {
		t.Fatalf("the state is %v, want %v", got, want)
	}
}

// copyTree copies a directory as a crash leaves it. Files are copied with their
// holes: the log's segments are mostly that.
func copyTree(t testing.TB, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		}
		return copySparse(path, filepath.Join(to, rel))
	})
	if err != nil {
		t.Fatal(err)
	}
}

func copySparse(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer out.Close()
	buf, zero := make([]byte, 1<<20), make([]byte, 1<<20)
	var size int64
	for {
		n, err := io.ReadFull(in, buf)
		if n > 0 && !bytes.Equal(buf[:n], zero[:n]) {
			if _, err := out.WriteAt(buf[:n], size); err != nil {
				return err
			}
		}
		size += int64(n)
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return out.Truncate(size)
		}
		if err != nil {
			return err
		}
	}
}

func (b *installBed) termAt(index uint64) (uint64, error) {
	var entry raft.Log
	err := b.node.logs.GetLog(index, &entry)
	return entry.Term, err
}
