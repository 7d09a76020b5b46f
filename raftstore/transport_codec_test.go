package raftstore

import (
	"bytes"
	"reflect"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	"github.com/conclave-kv/conclave/internal/conclavepb"
)

var testHeader = raft.RPCHeader{ProtocolVersion: 3, ID: []byte(memberText(1)), Addr: []byte(memberText(1))}

func sampleAppend() *raft.AppendEntriesRequest {
	return &raft.AppendEntriesRequest{
		RPCHeader: testHeader, Leader: testHeader.Addr, Term: 7, PrevLogEntry: 300, PrevLogTerm: 6, LeaderCommitIndex: 299,
		Entries: []*raft.Log{
			{Index: 301, Term: 7, Type: raft.LogNoop, AppendedAt: time.Unix(0, 1234567890123456789)},
			{Index: 302, Term: 7, Type: raft.LogCommand, Data: []byte("data"), Extensions: []byte{1, 2, 3}},
			{Index: 303, Term: 7, Type: raft.LogConfiguration, Data: bytes.Repeat([]byte("x"), 1000)},
			{},
		},
	}
}

// The hand-written form is that of the .proto file.
func TestCodec_appendIsTheMessage(t *testing.T) {
	a := sampleAppend()
	msg := &conclavepb.RaftAppend{
		Header: headerMessage(a.RPCHeader), Term: a.Term, PrevLogEntry: a.PrevLogEntry,
		PrevLogTerm: a.PrevLogTerm, LeaderCommitIndex: a.LeaderCommitIndex,
	}
	for _, e := range a.Entries {
		msg.Entries = append(msg.Entries, &conclavepb.RaftEntry{
			Index: e.Index, Term: e.Term, Type: uint32(e.Type), Data: e.Data, Extensions: e.Extensions, AppendedAt: unixNanos(e.AppendedAt),
		})
	}
	want, err := proto.MarshalOptions{Deterministic: true}.Marshal(msg)
	if err != nil {
		t.Fatal(err)
	}
	got := encodeAppend(nil, a)
	if !bytes.Equal(got, want) {
		t.Errorf("encoded %x, want %x", got, want)
	}
	if len(got) > appendSize(a) {
		t.Errorf("%d bytes need more than the %d foreseen", len(got), appendSize(a))
	}
	back, err := decodeAppend(want)
	if err != nil || !reflect.DeepEqual(back, a) {
		t.Errorf("decoded %+v, %v", back, err)
	}
}

func TestCodec_replies(t *testing.T) {
	for _, want := range []raft.AppendEntriesResponse{
		{RPCHeader: testHeader, Term: 7, LastLog: 1 << 40, Success: true},
		{RPCHeader: testHeader, NoRetryBackoff: true},
	} {
		got := raft.AppendEntriesResponse{Term: 99, Success: true}
		body := encodeAppendReply(nil, &want)
		if err := decodeAppendReply(body, &got); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%+v became %+v, %v", want, got, err)
		}
		var msg conclavepb.RaftAppendReply
		if err := proto.Unmarshal(body, &msg); err != nil || msg.Success != want.Success || msg.LastLog != want.LastLog {
			t.Errorf("the message is %v, %v", &msg, err)
		}
	}
	body, err := encodeReply(nil, &raft.RequestVoteResponse{RPCHeader: testHeader, Term: 3, Granted: true})
	var vote raft.RequestVoteResponse
	if err != nil || decodeVoteReply(body, &vote) != nil || !vote.Granted || vote.Term != 3 {
		t.Errorf("vote %+v, %v", vote, err)
	}
	if _, err := encodeReply(nil, 7); err == nil {
		t.Error("an unknown answer was encoded")
	}
}

func TestCodec_requests(t *testing.T) {
	marshal := func(msg proto.Message) []byte {
		body, err := proto.Marshal(msg)
		if err != nil {
			t.Fatal(err)
		}
		return body
	}
	vote := &raft.RequestVoteRequest{RPCHeader: testHeader, Candidate: testHeader.Addr, Term: 4, LastLogIndex: 5, LastLogTerm: 3, LeadershipTransfer: true}
	pre := &raft.RequestPreVoteRequest{RPCHeader: testHeader, Term: 4, LastLogIndex: 5, LastLogTerm: 3}
	now := &raft.TimeoutNowRequest{RPCHeader: testHeader}
	snap := &raft.InstallSnapshotRequest{
		RPCHeader: testHeader, Leader: testHeader.Addr, SnapshotVersion: 1, Term: 4, LastLogIndex: 9, LastLogTerm: 3,
		Configuration: []byte("c"), ConfigurationIndex: 2, Size: 1 << 33,
	}
	for kind, c := range map[Kind]struct {
		body []byte
		want any
	}{
		kindVote: {marshal(voteMessage(vote)), vote}, kindPreVote: {marshal(preVoteMessage(pre)), pre},
		kindTimeoutNow: {marshal(timeoutNowMessage(now)), now}, kindSnapshot: {marshal(snapshotMessage(snap)), snap},
	} {
		got, err := decodeRequest(kind, c.body)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("kind %d: %+v, %v, want %+v", kind, got, err, c.want)
		}
		if _, err := decodeRequest(kind, []byte{0xff}); err == nil {
			t.Errorf("kind %d: garbage was decoded", kind)
		}
	}
	if _, err := decodeRequest(raftKinds+99, nil); err == nil {
		t.Error("an unknown kind was decoded")
	}
}

// FuzzAppend: whatever decodes must encode to something that decodes alike.
func FuzzAppend(f *testing.F) {
	f.Add(encodeAppend(nil, sampleAppend()))
	f.Add([]byte{0x32, 0x80})
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := decodeAppend(b)
		if err != nil {
			return
		}
		again, err := decodeAppend(encodeAppend(nil, a))
		if err != nil || len(again.Entries) != len(a.Entries) || again.Term != a.Term {
			t.Fatalf("%+v became %+v, %v", a, again, err)
		}
	})
}

func BenchmarkAppend_encode(b *testing.B) {
	a := benchAppend()
	b.SetBytes(int64(appendSize(a)))
	b.ReportAllocs()
	for b.Loop() {
		f := newOutFrame(frameRequest, 1, kindAppend, time.Second, appendSize(a))
		f.b = encodeAppend(f.b, a)
		if err := f.seal(); err != nil {
			b.Fatal(err)
		}
		f.release()
	}
}

func BenchmarkAppend_decode(b *testing.B) {
	body := encodeAppend(nil, benchAppend())
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := decodeAppend(body); err != nil {
			b.Fatal(err)
		}
	}
}

// benchAppend has four entries of 8 KiB, as batches of puts are.
func benchAppend() *raft.AppendEntriesRequest {
	a := &raft.AppendEntriesRequest{RPCHeader: testHeader, Term: 7, PrevLogEntry: 300, PrevLogTerm: 6, LeaderCommitIndex: 299}
	for i := range uint64(4) {
		a.Entries = append(a.Entries, &raft.Log{Index: 301 + i, Term: 7, Data: make([]byte, 8<<10), AppendedAt: time.Now()})
	}
	return a
}
