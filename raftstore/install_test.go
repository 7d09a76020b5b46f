package raftstore

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

func TestInstall_becomesTheState(t *testing.T) {
	b := openBed(t, t.TempDir(), nil)
	b.begin(t)
	args, content := leaderState(50, 3, 5<<20)
	b.mustInstall(t, args, content)
	b.holds(t, numbers(50))
	if b.node.logs.Start() != 50 || b.node.LastIndex() != 50 || b.node.Term() < 3 {
		t.Errorf("log starts after %d, last index %d, term %d", b.node.logs.Start(), b.node.LastIndex(), b.node.Term())
	}
	nothingStaged(t, b.dir)
	b.follow(t, 3, 50, 3, 51, "51", "52")
	eventually(t, "the entry after the installed state", func() bool { return b.machine.Applied() == 51 })
	b.holds(t, numbers(51))
	b.close()
	if b.machine.drained != 1 {
		t.Errorf("%d replaced files were closed", b.machine.drained)
	}
	b = openBed(t, b.dir, nil)
	b.holds(t, numbers(51)[:50]) // 51 is in the log, and recorded as agreed nowhere
	b.follow(t, 3, 52, 3, 52)
	eventually(t, "the log after a restart", func() bool { return b.machine.Applied() == 52 })
	b.holds(t, numbers(52))
}

// A state that is not newer than what is here is not taken.
func TestInstall_notNewer(t *testing.T) {
	b := openBed(t, t.TempDir(), nil)
	b.begin(t)
	args, content := leaderState(8, 2, 0)
	b.mustInstall(t, args, content)
	if b.machine.installed != 0 || b.node.LastIndex() != 10 {
		t.Errorf("%d installs, last index %d", b.machine.installed, b.node.LastIndex())
	}
	nothingStaged(t, b.dir)
}

// The same when it comes so late that the log has forgotten its last entry. The
// leader goes on from there, and what the log has forgotten is not missed.
func TestInstall_olderThanTheLog(t *testing.T) {
	b := openBed(t, t.TempDir(), nil)
	b.begin(t)
	b.machine.sync()
	if err := b.node.logs.DeleteRange(1, 7); err != nil {
		t.Fatal(err)
	}
	args, content := leaderState(5, 2, 0)
	b.mustInstall(t, args, content)
	if b.machine.installed != 0 || b.machine.Applied() != 8 {
		t.Errorf("%d installs, applied up to %d: what was acknowledged is gone", b.machine.installed, b.machine.Applied())
	}
}

// A state that comes again is welcome while the log goes on right behind it, and
// so are the entries after it: the leader may have lost the answers.
func TestInstall_again(t *testing.T) {
	b := openBed(t, t.TempDir(), nil)
	b.begin(t)
	args, content := leaderState(50, 3, 0)
	b.mustInstall(t, args, content)
	b.mustInstall(t, args, content)
	b.follow(t, 3, 50, 3, 51, "51")
	eventually(t, "the entry after the state", func() bool { return b.machine.Applied() == 51 })
	b.mustInstall(t, args, content)
	b.follow(t, 3, 50, 3, 52, "51", "52")
	eventually(t, "the entry after those that came again", func() bool { return b.machine.Applied() == 52 })
	b.holds(t, numbers(52))
	b.machine.sync()
	if err := b.node.logs.DeleteRange(51, 51); err != nil {
		t.Fatal(err)
	}
	b.mustInstall(t, args, content)
	b.follow(t, 3, 50, 3, 53, "51", "52", "53")
	eventually(t, "the entry after those that were cut off", func() bool { return b.machine.Applied() == 53 })
	b.holds(t, numbers(53))
	if b.machine.installed != 1 {
		t.Errorf("installed %d times", b.machine.installed)
	}
}

// When the log has the last entry of the state, what follows it there is kept:
// it was acknowledged (section 7 of the Raft paper).
func TestInstall_logHasItsLastEntry(t *testing.T) {
	b := openBed(t, t.TempDir(), nil)
	b.begin(t)
	args, content := leaderState(9, 2, 0)
	b.mustInstall(t, args, content)
	if last := b.node.LastIndex(); last != 10 {
		t.Errorf("the log ends at %d: entry 10 was acknowledged", last)
	}
	args, content = leaderState(9, 3, 0) // agreed in place of ours
	b.mustInstall(t, args, content)
	if last := b.node.LastIndex(); last != 9 || b.machine.Applied() != 9 {
		t.Errorf("the log ends at %d, applied %d, after a state that it does not match", last, b.machine.Applied())
	}
}

// The log may come to have the last entry while the state is received.
func TestInstall_logGetsItsLastEntryMeanwhile(t *testing.T) {
	b := openBed(t, t.TempDir(), nil)
	b.begin(t)
	args, content := leaderState(11, 2, 0)
	machine := b.machine
	machine.mu.Lock()
	machine.preparing = func() { b.follow(t, 3, 10, 2, 8); b.followOld(t, 10, "11", "12") }
	machine.mu.Unlock()
	b.mustInstall(t, args, content)
	if last := b.node.LastIndex(); last != 12 || machine.installed != 0 {
		t.Errorf("the log ends at %d, %d installs: entry 12 was acknowledged", last, machine.installed)
	}
	nothingStaged(t, b.dir)
}

// followOld has member 2 append entries of term 2 by a leader of term 3.
func (b *installBed) followOld(t testing.TB, prev uint64, data ...string) {
	args := &raft.AppendEntriesRequest{RPCHeader: testHeader, Term: 3, PrevLogEntry: prev, PrevLogTerm: 2}
	for i, d := range data {
		args.Entries = append(args.Entries, &raft.Log{Index: prev + 1 + uint64(i), Term: 2, Data: []byte(d)})
	}
	var resp raft.AppendEntriesResponse
	if err := b.leader.AppendEntries(peer2, "", args, &resp); err != nil || !resp.Success {
		t.Errorf("append after %d: %+v, %v", prev, resp, err)
	}
}

func TestInstall_oldTerm(t *testing.T) {
	b := openBed(t, t.TempDir(), nil)
	b.begin(t)
	b.follow(t, 7, 10, 2, 8)
	args, content := leaderState(50, 3, 0)
	if resp, err := b.install(args, content); err != nil || resp.Success || resp.Term != 7 {
		t.Fatalf("%+v, %v", resp, err)
	}
	b.holds(t, numbers(8))
	nothingStaged(t, b.dir)
}

// A new leader may be elected while the state is loaded.
func TestInstall_oldTermMeanwhile(t *testing.T) {
	b := openBed(t, t.TempDir(), nil)
	b.begin(t)
	b.machine.preparing = func() { b.follow(t, 7, 10, 2, 8) }
	args, content := leaderState(50, 3, 0)
	if resp, err := b.install(args, content); err != nil || resp.Success || resp.Term != 7 {
		t.Fatalf("%+v, %v", resp, err)
	}
	b.holds(t, numbers(8))
	nothingStaged(t, b.dir)
	b.follow(t, 7, 10, 2, 10)
	eventually(t, "raft goes on", func() bool { return b.machine.Applied() == 10 })
}

// What is no state of the announced kind changes nothing, and the next install
// succeeds.
func TestPR22145_snapshotOfAnySize(t *testing.T) {
	args, content := leaderState(50, 3, 1<<20)
	for name, c := range map[string]struct {
		change func(args *raft.InstallSnapshotRequest, content []byte) []byte
		want   error
	}{
		"shorter than announced": {func(_ *raft.InstallSnapshotRequest, content []byte) []byte { return content[:1000] }, errIncomplete},
		"empty":                  {func(args *raft.InstallSnapshotRequest, _ []byte) []byte { args.Size = 0; return nil }, errToyFile},
		"no state file": {func(args *raft.InstallSnapshotRequest, content []byte) []byte {
			return []byte(strings.Repeat("x", len(content)))
		}, errToyFile},
		"cut off": {func(args *raft.InstallSnapshotRequest, content []byte) []byte { args.Size /= 2; return content }, errToyFile},
		"another index": {func(args *raft.InstallSnapshotRequest, content []byte) []byte {
			args.LastLogIndex++
			return content
		}, errOtherFile},
		"another term":         {func(args *raft.InstallSnapshotRequest, content []byte) []byte { args.LastLogTerm--; return content }, errOtherFile},
		"larger than the disk": {func(args *raft.InstallSnapshotRequest, content []byte) []byte { args.Size = 1 << 60; return content }, ErrNoSpace},
	} {
		t.Run(name, func(t *testing.T) {
			b := openBed(t, t.TempDir(), nil)
			b.begin(t)
			bad := *args
			_, err := b.install(&bad, c.change(&bad, slices.Clone(content)))
			var refused *CallError
			if !errors.As(err, &refused) || !strings.Contains(refused.Text, c.want.Error()) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			b.holds(t, numbers(8))
			nothingStaged(t, b.dir)
			b.mustInstall(t, args, content)
			b.holds(t, numbers(50))
		})
	}
}

// rawInstall is an install whose frames the test makes by itself.
type rawInstall struct {
	t    testing.TB
	b    *installBed
	peer *remote
	id   uint64
	done *pendingCall
}

func (b *installBed) raw(t testing.TB, args *raft.InstallSnapshotRequest) *rawInstall {
	t.Helper()
	r, err := b.leader.peer(peer2)
	if err != nil {
		t.Fatal(err)
	}
	in := &rawInstall{t: t, b: b, peer: r}
	body := mustMarshal(snapshotMessage(args))
	in.id, in.done = in.post(kindSnapshot, body)
	return in
}

func (r *rawInstall) post(kind Kind, payload []byte) (uint64, *pendingCall) {
	r.t.Helper()
	id, p, err := r.b.leader.post(r.peer, kind, laneBulk, time.Second, len(payload), func(b []byte) []byte { return append(b, payload...) })
	if err != nil {
		r.t.Fatal(err)
	}
	return id, p
}

func (r *rawInstall) chunk(id, offset uint64, data []byte) error {
	_, p := r.post(kindSnapshotChunk, append(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, id), offset), data...))
	return r.answer(p)
}

func (r *rawInstall) end(sum uint32) error {
	_, p := r.post(kindSnapshotEnd, binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(nil, r.id), sum))
	return r.answer(p)
}

func (r *rawInstall) answer(p *pendingCall) error {
	r.t.Helper()
	select {
	case a := <-p.answer:
		return a.err
	case <-time.After(patience):
		r.t.Fatal("no answer")
		return nil
	}
}

// refused checks that an error is the peer's and has a text.
func refused(t testing.TB, err error, text string) {
	t.Helper()
	var call *CallError
	if !errors.As(err, &call) || !strings.Contains(call.Text, text) {
		t.Errorf("got %v, want %s", err, text)
	}
}

func TestInstall_wrongChecksum(t *testing.T) {
	b := openBed(t, t.TempDir(), nil)
	b.begin(t)
	args, content := leaderState(50, 3, 0)
	r := b.raw(t, args)
	if err := r.chunk(r.id, 0, content); err != nil {
		t.Fatal(err)
	}
	sum := crc32.Checksum(content, castagnoli)
	_, _ = r.post(kindSnapshotEnd, binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(nil, r.id), sum+1))
	refused(t, r.answer(r.done), errChecksum.Error())
	b.holds(t, numbers(8))
	nothingStaged(t, b.dir)
}

// Chunks come in any order and more than once; what is not part of an install
// is refused.
func TestInstall_chunks(t *testing.T) {
	b := openBed(t, t.TempDir(), nil)
	b.begin(t)
	args, content := leaderState(50, 3, 0)
	r := b.raw(t, args)
	half := len(content) / 2
	_, late := r.post(kindSnapshotChunk, append(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, r.id), uint64(half)), content[half:]...))
	refused(t, r.chunk(r.id+1000, 0, content), "no such snapshot")
	refused(t, r.chunk(r.id, 0, make([]byte, chunkBytes+1)), "malformed")
	_, short := r.post(kindSnapshotChunk, []byte{1, 2, 3})
	refused(t, r.answer(short), "malformed")
	for range 2 {
		if err := r.chunk(r.id, 0, content[:half]); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.answer(late); err != nil {
		t.Fatal(err)
	}
	if err := r.end(crc32.Checksum(content, castagnoli)); err != nil {
		t.Fatal(err)
	}
	if err := r.answer(r.done); err != nil {
		t.Fatal(err)
	}
	b.holds(t, numbers(50))
	refused(t, r.chunk(r.id, 0, content), "no such snapshot")
}

// Of two installs the later one wins, unless it is of an older term.
func TestInstall_twoAtOnce(t *testing.T) {
	b := openBed(t, t.TempDir(), nil)
	b.begin(t)
	args, content := leaderState(50, 3, 0)
	first := b.raw(t, args)
	if err := first.chunk(first.id, 0, content[:10]); err != nil {
		t.Fatal(err)
	}
	older := *args
	older.Term = 2
	refused(t, b.raw(t, &older).answerOf(), "another snapshot")
	newer, newContent := leaderState(60, 4, 0)
	b.mustInstall(t, newer, newContent)
	refused(t, first.answerOf(), errNewerSnapshot.Error())
	b.holds(t, numbers(60))
	nothingStaged(t, b.dir)
}

func (r *rawInstall) answerOf() error { return r.answer(r.done) }

// An install whose sender died ends after ten seconds, and leaves nothing.
func TestInstall_senderDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := openBed(t, t.TempDir(), nil)
		b.begin(t)
		args, content := leaderState(50, 3, 0)
		r := b.raw(t, args)
		if err := r.chunk(r.id, 0, content[:10]); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		b.leader.mesh.Close()
		staged := statePath(b.dir) + stagedSuffix
		if _, err := os.Stat(staged); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the staged file is removed", func() bool {
			_, err := os.Stat(staged)
			return errors.Is(err, os.ErrNotExist)
		})
		if took := time.Since(start); took < snapshotStall-time.Second || took > snapshotStall+time.Second {
			t.Errorf("given up after %v", took)
		}
		b.close()
		nothingStaged(t, b.dir)
	})
}

// A receiver that dies is given up after ten seconds; one that takes long to
// load is not.
func TestInstall_receiverDiesOrTakesLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := openBed(t, t.TempDir(), nil)
		b.begin(t)
		b.machine.preparing = func() { time.Sleep(3 * time.Minute) }
		args, content := leaderState(50, 3, 3<<20)
		start := time.Now()
		b.mustInstall(t, args, content)
		if took := time.Since(start); took < 3*time.Minute {
			t.Errorf("installed within %v", took)
		}
		reader := &slowReader{after: 1 << 20, then: func() { b.mesh.Close() }}
		args, _ = leaderState(70, 3, 3<<20)
		start = time.Now()
		if err := b.leader.InstallSnapshot(peer2, "", args, &raft.InstallSnapshotResponse{}, reader); err == nil || time.Since(start) > snapshotStall+time.Second {
			t.Errorf("install on a member that died: %v after %v", err, time.Since(start))
		}
		b.close()
	})
}

// slowReader yields zeroes, and does something after some of them.
type slowReader struct {
	after int
	then  func()
}

func (r *slowReader) Read(p []byte) (int, error) {
	clear(p)
	if r.after -= len(p); r.after < 0 && r.then != nil {
		r.then()
		r.then = nil
	}
	return len(p), nil
}

func TestInstall_unreadableState(t *testing.T) {
	b := openBed(t, t.TempDir(), nil)
	args, _ := leaderState(50, 3, 0)
	failing := iotest.ErrReader(errors.New("cannot read"))
	if err := b.leader.InstallSnapshot(peer2, "", args, &raft.InstallSnapshotResponse{}, failing); err == nil || err.Error() != "cannot read" {
		t.Errorf("got %v", err)
	}
}

func TestInstall_impostor(t *testing.T) {
	b := openBed(t, t.TempDir(), nil)
	args, content := leaderState(50, 3, 0)
	args.RPCHeader = raft.RPCHeader{ProtocolVersion: 3, ID: []byte(memberText(9))}
	_, err := b.install(args, content)
	refused(t, err, "speaks for")
}

// Stopping a member that receives a state leaves nothing.
func TestInstall_stoppedMeanwhile(t *testing.T) {
	b := openBed(t, t.TempDir(), nil)
	b.begin(t)
	args, content := leaderState(50, 3, 0)
	r := b.raw(t, args)
	if err := r.chunk(r.id, 0, content[:10]); err != nil {
		t.Fatal(err)
	}
	b.close()
	nothingStaged(t, b.dir)
}

// A failure before the intent is the sender's to repeat; one after it ends the
// process, and the next start finishes the install.
func TestInstall_failures(t *testing.T) {
	b := openBed(t, t.TempDir(), nil)
	b.begin(t)
	args, content := leaderState(50, 3, 0)
	blocked := statePath(b.dir) + intentSuffix
	if err := os.MkdirAll(filepath.Join(blocked, "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	b.machine.preparing = func() {}
	if _, err := b.install(args, content); err == nil {
		t.Fatal("installed without an intent")
	}
	select {
	case err := <-b.fatal:
		if !strings.Contains(err.Error(), "intent") {
			t.Errorf("ended with %v", err)
		}
	case <-time.After(patience):
		t.Fatal("nobody knows what is on disk, and the process goes on")
	}
}
