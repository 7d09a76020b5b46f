package raftstore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/rs/zerolog"
)

// transportPair is members 1 and 2 in memory; 2's raft is the test.
func transportPair(t *testing.T) (net *faultNet, a, b *Transport) {
	t.Helper()
	net = newFaultNet(1)
	meshes := map[uint64]*Mesh{}
	for id := uint64(1); id <= 2; id++ {
		meshes[id] = net.mesh(id, zerolog.Nop())
		meshes[id].Handle(kindEcho, echo)
		meshes[id].SetPeers(memPeers(id, 1, 2))
	}
	a, b = servingTransport(meshes[1], shortLog{}), servingTransport(meshes[2], shortLog{})
	t.Cleanup(func() {
		a.Close()
		b.Close()
		meshes[1].Close()
		meshes[2].Close()
	})
	awaitBoth(t, meshes[1], 2)
	awaitBoth(t, meshes[2], 1)
	return net, a, b
}

var peer2 = raft.ServerID(memberText(2))

func entry(index uint64) *raft.AppendEntriesRequest {
	return &raft.AppendEntriesRequest{
		RPCHeader: testHeader, Term: 1, PrevLogEntry: index - 1, PrevLogTerm: 1,
		Entries: []*raft.Log{{Index: index, Term: 1, Data: []byte(fmt.Sprint(index))}},
	}
}

func receiveRPC(t *testing.T, trans *Transport) *raft.RPC {
	t.Helper()
	select {
	case rpc := <-trans.Consumer():
		return &rpc
	case <-time.After(patience):
		t.Fatal("no message for raft")
		return nil
	}
}

func TestTransport_addressesAreIDs(t *testing.T) {
	_, a, _ := transportPair(t)
	if a.LocalAddr() != "0000000000000001" {
		t.Error(a.LocalAddr())
	}
	if got := a.DecodePeer(a.EncodePeer(peer2, "http://elsewhere:1#pending")); got != "0000000000000002" {
		t.Error(got)
	}
	if err := a.RequestVote("nonsense", "", &raft.RequestVoteRequest{}, &raft.RequestVoteResponse{}); err == nil {
		t.Error("a server id that is no member id was accepted")
	}
	if err := a.AppendEntries(raft.ServerID(memberText(9)), "", entry(1), &raft.AppendEntriesResponse{}); !errors.Is(err, ErrUnreachable) {
		t.Errorf("unknown member: %v", err)
	}
}

// Requests of one peer reach raft in order without waiting for answers, and
// calls pass by while raft is busy.
func TestTransport_orderedAndNeverInTheWay(t *testing.T) {
	_, a, b := transportPair(t)
	p, err := a.AppendEntriesPipeline(peer2, "")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	const n = 40
	for i := uint64(1); i <= n; i++ {
		if _, err := p.AppendEntries(entry(i), &raft.AppendEntriesResponse{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := call(t, a.mesh, 2, "raft is busy", patience); err != nil {
		t.Fatalf("a call waited for raft: %v", err)
	}
	var rpcs []*raft.RPC
	for i := uint64(1); i <= n; i++ {
		rpc := receiveRPC(t, b)
		req := rpc.Command.(*raft.AppendEntriesRequest)
		if req.Entries[0].Index != i || string(req.Entries[0].Data) != fmt.Sprint(i) || string(req.Leader) != memberText(1) {
			t.Fatalf("message %d is %+v", i, req)
		}
		rpcs = append(rpcs, rpc)
	}
	for i := len(rpcs) - 1; i >= 0; i-- {
		rpcs[i].Respond(&raft.AppendEntriesResponse{Term: 1, LastLog: uint64(i + 1), Success: true}, nil)
	}
	for i := uint64(1); i <= n; i++ {
		f := <-p.Consumer()
		if f.Error() != nil || f.Response().LastLog != i || f.Request().Entries[0].Index != i {
			t.Fatalf("answer %d is %+v, %v", i, f.Response(), f.Error())
		}
	}
}

// pipelined starts a pipeline to peer2 with one append in it.
func pipelined(t *testing.T, from *Transport, args *raft.AppendEntriesRequest) (raft.AppendPipeline, raft.AppendFuture) {
	t.Helper()
	p, err := from.AppendEntriesPipeline(peer2, "")
	if err != nil {
		t.Fatal(err)
	}
	f, err := p.AppendEntries(args, &raft.AppendEntriesResponse{})
	if err != nil {
		t.Fatal(err)
	}
	return p, f
}

func TestPipeline_failureYieldsNothing(t *testing.T) {
	_, a, b := transportPair(t)
	p, f := pipelined(t, a, entry(1))
	rpc := receiveRPC(t, b)
	rpc.Respond(nil, errors.New("disk on fire"))
	if err := f.Error(); err == nil || err.Error() != "disk on fire" {
		t.Errorf("future: %v", err)
	}
	eventually(t, "the pipeline refuses more", func() bool {
		_, err := p.AppendEntries(entry(2), &raft.AppendEntriesResponse{})
		return err != nil
	})
	select {
	case f := <-p.Consumer():
		t.Errorf("a failed append was yielded: %v", f.Error())
	default:
	}
}

// Raft takes no answer after a refusal, and goes on sending until it has seen that.
func TestPipeline_refusalEndsIt(t *testing.T) {
	for name, refusal := range map[string]raft.AppendEntriesResponse{
		"of an append": {Term: 1},
		"of the term":  {Term: 2, Success: true},
	} {
		t.Run(name, func(t *testing.T) {
			_, a, b := transportPair(t)
			p, _ := pipelined(t, a, entry(1))
			go func() {
				for {
					select {
					case rpc := <-b.Consumer():
						answer := refusal
						rpc.Respond(&answer, nil)
					case <-t.Context().Done():
						return
					}
				}
			}()
			if f := <-p.Consumer(); f.Error() != nil || f.Response().Term != refusal.Term || f.Response().Success != refusal.Success {
				t.Fatalf("answered %+v, %v", f.Response(), f.Error())
			}
			sent := make(chan error, 1)
			go func() {
				for i := uint64(2); ; i++ {
					if _, err := p.AppendEntries(entry(i), &raft.AppendEntriesResponse{}); err != nil {
						sent <- err
						return
					}
				}
			}()
			select {
			case err := <-sent:
				if !errors.Is(err, errRefused) {
					t.Error(err)
				}
			case <-time.After(10 * time.Second):
				t.Error("an append waits for room that nobody makes")
				p.Close()
			}
		})
	}
}

func TestPipeline_closeEndsAll(t *testing.T) {
	_, a, _ := transportPair(t)
	large := entry(1)
	large.Entries[0].Data = make([]byte, pipelineBytes)
	p, f := pipelined(t, a, large)
	blocked := make(chan error, 1)
	go func() {
		_, err := p.AppendEntries(entry(2), &raft.AppendEntriesResponse{})
		blocked <- err
	}()
	select {
	case err := <-blocked:
		t.Fatalf("more than %d bytes are under way (%v)", pipelineBytes, err)
	case <-time.After(50 * time.Millisecond):
	}
	p.Close()
	if err := <-blocked; !errors.Is(err, raft.ErrPipelineShutdown) {
		t.Errorf("blocked append: %v", err)
	}
	if err := f.Error(); err == nil {
		t.Error("the append under way did not end")
	}
}

// A pipeline holds on to nothing that is answered, whose entries may be large.
func TestPipeline_letsGoOfWhatIsAnswered(t *testing.T) {
	_, a, b := transportPair(t)
	started, err := a.AppendEntriesPipeline(peer2, "")
	if err != nil {
		t.Fatal(err)
	}
	var gone atomic.Int32
	exchange := func(n uint64) {
		for i := range n {
			args := entry(i + 1)
			runtime.AddCleanup(args, func(int) { gone.Add(1) }, 0)
			if _, err := started.AppendEntries(args, &raft.AppendEntriesResponse{}); err != nil {
				t.Fatal(err)
			}
		}
		for range n {
			receiveRPC(t, b).Respond(&raft.AppendEntriesResponse{Term: 1, Success: true}, nil)
		}
		for range n {
			<-started.Consumer()
		}
	}
	const many, few = pipelineDepth/2 + 1, pipelineDepth / 4
	exchange(many)
	for range few {
		exchange(1)
	}
	eventually(t, "all but the last are collected", func() bool {
		runtime.GC()
		return gone.Load() >= many+few-1
	})
	started.Close() // it lived until now
}

// Raft ends only when its calls have. A peer that stops at the same time is still
// connected, and does not answer any more.
func TestTransport_abandonedCallsEnd(t *testing.T) {
	_, a, b := transportPair(t)
	_, f := pipelined(t, a, entry(1))
	called := make(chan error, 1)
	go func() { called <- a.AppendEntries(peer2, "", entry(2), &raft.AppendEntriesResponse{}) }()
	for range 2 {
		receiveRPC(t, b) // and does not answer it
	}
	a.abandon()
	if err := <-called; !errors.Is(err, errTransportClosed) {
		t.Errorf("the call: %v", err)
	}
	if err := f.Error(); !errors.Is(err, errTransportClosed) {
		t.Errorf("the append of a pipeline: %v", err)
	}
}

func TestTransport_lostPeerIsNoticed(t *testing.T) {
	net, a, _ := transportPair(t)
	still := watchStillness(t)
	net.cut(1, 2)
	start := time.Now()
	err := a.AppendEntries(peer2, "", &raft.AppendEntriesRequest{RPCHeader: testHeader, Term: 1}, &raft.AppendEntriesResponse{})
	took := time.Since(start)
	if took > 2*time.Second {
		still.excuses(t, 200*time.Millisecond)
	}
	if err == nil || took > 2*time.Second {
		t.Errorf("heartbeat into nothing: %v after %v", err, took)
	}
}

func TestTransport_impostorIsRefused(t *testing.T) {
	_, a, b := transportPair(t)
	args := &raft.RequestVoteRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: 3, ID: []byte(memberText(3))}, Term: 9}
	err := a.RequestVote(peer2, "", args, &raft.RequestVoteResponse{})
	if err == nil || !strings.Contains(err.Error(), "member 1 speaks for") {
		t.Errorf("refused with %v", err)
	}
	select {
	case rpc := <-b.Consumer():
		t.Errorf("raft was given %+v", rpc.Command)
	default:
	}
}

// A raft that was shut down must not keep the next one's messages waiting.
func TestTransport_nextInstance(t *testing.T) {
	_, a, b := transportPair(t)
	done := make(chan error, 1)
	go func() {
		done <- a.RequestPreVote(peer2, "", &raft.RequestPreVoteRequest{RPCHeader: testHeader, Term: 2}, &raft.RequestPreVoteResponse{})
	}()
	receiveRPC(t, b) // taken and never answered
	b.Close()
	next := servingTransport(b.mesh, allDurable{})
	defer next.Close()
	if err := <-done; err == nil {
		t.Error("an unanswered vote succeeded")
	}
	go func() {
		receiveRPC(t, next).Respond(&raft.RequestPreVoteResponse{Granted: true}, nil)
	}()
	resp := &raft.RequestPreVoteResponse{}
	if err := a.RequestPreVote(peer2, "", &raft.RequestPreVoteRequest{RPCHeader: testHeader, Term: 2}, resp); err != nil || !resp.Granted {
		t.Errorf("vote of the next instance: %+v, %v", resp, err)
	}
	next.Close()
	err := a.RequestPreVote(peer2, "", &raft.RequestPreVoteRequest{RPCHeader: testHeader, Term: 2}, resp)
	var refused *CallError
	if !errors.As(err, &refused) || refused.Code != CodeNoHandler {
		t.Errorf("no raft at all: %v", err)
	}
}

// A raft that takes nothing fills its inbox, and no more.
func TestTransport_inboxIsBounded(t *testing.T) {
	_, a, b := transportPair(t)
	r, err := a.peer(peer2)
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	var waits []*pendingCall
	for i := range uint64(2 * inboxMessages) {
		args := entry(i + 1)
		_, p, err := a.post(r, kindAppend, laneBulk, time.Second, appendSize(args), func(b []byte) []byte { return encodeAppend(b, args) })
		if err != nil {
			t.Fatal(err)
		}
		waits = append(waits, p)
	}
	eventually(t, "the rest is refused", func() bool {
		for _, p := range waits {
			select {
			case answer := <-p.answer:
				var call *CallError
				if !errors.As(answer.err, &call) || call.Code != CodeBusy {
					t.Fatal(answer.err)
				}
				refused++
			default:
			}
		}
		return refused >= inboxMessages-1
	})
	b.mu.Lock()
	held := b.inbox[1].bytes.Load()
	b.mu.Unlock()
	if held == 0 || held > inboxBytes {
		t.Errorf("%d bytes are held", held)
	}
}

func TestTransport_commitSlotIsOneWay(t *testing.T) {
	_, a, b := transportPair(t)
	args := entry(1)
	go func() {
		receiveRPC(t, b).Respond(&raft.AppendEntriesResponse{Term: 1, LastLog: 1, Success: true}, nil)
	}()
	if err := a.AppendEntries(peer2, "", args, &raft.AppendEntriesResponse{}); err != nil {
		t.Fatal(err)
	}
	a.mesh.PushCommit(1)
	rpc := receiveRPC(t, b)
	req := rpc.Command.(*raft.AppendEntriesRequest)
	if len(req.Entries) != 0 || req.PrevLogEntry != 1 || req.LeaderCommitIndex != 1 || req.Term != 1 || string(req.ID) != memberText(1) {
		t.Errorf("pushed %+v", req)
	}
	rpc.Respond(&raft.AppendEntriesResponse{}, nil)
	if err := call(t, a.mesh, 2, "still fine", patience); err != nil {
		t.Error(err)
	}
}

func BenchmarkMesh_call(b *testing.B) {
	m, peer := tcpPair(b)
	_ = peer
	payload := make([]byte, 128)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := m.Call(context.Background(), 2, kindEcho, payload); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// servingTransport is a transport that serves without a node.
func servingTransport(m *Mesh, local replica) *Transport {
	t := m.Transport(local)
	t.serve()
	return t
}

// allDurable is a log that is always on stable storage.
type allDurable struct{}

func (allDurable) Durable() uint64                  { return math.MaxUint64 }
func (allDurable) Flush(<-chan struct{}) error      { return nil }
func (allDurable) SilentLeader() raft.ServerAddress { return "" }
func (allDurable) Term() uint64                     { return 0 }
func (allDurable) Begin() uint64                    { return 0 }
func (allDurable) Voter(wanted string) string       { return wanted }
func (allDurable) Refused(_, _ uint64)              {}

// shortLog is one that a follower can't lack many entries of, however slow a
// test runs.
type shortLog struct{ allDurable }

func (shortLog) Durable() uint64 { return pipelineLag }
