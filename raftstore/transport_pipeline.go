package raftstore

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

const (
	// pipelineDepth bounds the appends of one pipeline that have no answer, or whose
	// answer raft has not taken.
	pipelineDepth = 64
	// pipelineRoom is how often a full pipeline is looked at: nothing tells that raft
	// has taken answers.
	pipelineRoom = 10 * time.Millisecond
	// pipelineBytes bounds their entries, in bytes; one may always be sent.
	pipelineBytes = 16 << 20
	// pipelineLag is how many entries a follower may lack when nothing new comes.
	pipelineLag = 4 * maxAppendEntries
)

// errBehind ends a pipeline. Raft sends an append down it for each new entry, and
// without any only when its CommitTimeout is over: a follower that lacks many would
// get a few at a time, for minutes. Outside a pipeline raft sends them one append
// after the other.
var errBehind = errors.New("raftstore: the follower lacks many entries and no new ones come; they are sent without a pipeline")

// errRefused ends a pipeline whose follower has refused an append, or knows a newer
// term. Raft takes no answer after that one, and would wait for ever for room in a
// pipeline that is full.
var errRefused = errors.New("raftstore: the follower has refused an append, and the pipeline ends with it")

// pipeline sends appends to one peer without waiting for answers, and yields
// them in order as they are answered, from the goroutine that reads the peer's
// connection: another one between it and raft would have to be woken for each.
//
// A pipeline that fails yields nothing more and refuses the next append: raft
// takes any yielded append for a sign of life, and one that failed is none.
type pipeline struct {
	transport *Transport
	peer      *remote
	yielded   chan raft.AppendFuture
	failed    chan struct{}
	idle      time.Time // since when no append is being sent

	mu    sync.Mutex // never taken by who holds that of the peer
	err   error
	sent  []*appendFuture // not yielded yet, oldest first
	bytes int             // of their entries
	freed chan struct{}   // room for one: there are fewer
}

// AppendEntriesPipeline starts a pipeline, which lives until its Close or its
// first failure.
func (t *Transport) AppendEntriesPipeline(id raft.ServerID, _ raft.ServerAddress) (raft.AppendPipeline, error) {
	r, err := t.peer(id)
	if err != nil {
		return nil, err
	}
	p := &pipeline{
		transport: t,
		peer:      r,
		yielded:   make(chan raft.AppendFuture, pipelineDepth),
		failed:    make(chan struct{}),
		freed:     make(chan struct{}, 1),
		idle:      time.Now(),
	}
	if !t.start(p.guard) {
		return nil, errTransportClosed
	}
	return p, nil
}

// AppendEntries sends args, waiting while too much is under way. One goroutine
// at a time may call it.
func (p *pipeline) AppendEntries(args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	p.transport.boundAppend(args)
	if p.creeps(args) {
		return nil, errBehind
	}
	defer func() { p.idle = time.Now() }() // to wait for room is not to creep
	f := &appendFuture{args: args, resp: resp, size: appendSize(args), done: make(chan struct{})}
	if err := p.reserve(f); err != nil {
		return nil, err
	}
	p.transport.commits.sent(p.peer.id, args)
	wait := &pendingCall{arrived: func(a callAnswer) { p.arrived(f, a) }}
	id, err := p.transport.postFor(wait, p.peer, kindAppend, laneBulk, appendTimeout, f.size, func(b []byte) []byte {
		return encodeAppend(b, args)
	})
	if err != nil {
		p.fail(err)
		p.transport.commits.answered(p.peer.id, args, resp, err) // it may have ended before sent was told
		return nil, err
	}
	p.mu.Lock()
	f.id = id
	ended := p.err != nil
	p.mu.Unlock()
	if ended {
		p.peer.forget(id)
	}
	return f, nil
}

// creeps reports whether the follower lacks many entries behind those of args and
// gets them because time has passed, not because there are new ones.
func (p *pipeline) creeps(args *raft.AppendEntriesRequest) bool {
	quiet := time.Since(p.idle) >= commitTimeout(p.transport.mesh.cfg.ElectionTimeout)
	last, _ := lastOf(args)
	return quiet && p.transport.local.Durable() > last+pipelineLag
}

// reserve waits until f may be under way, and has it be.
func (p *pipeline) reserve(f *appendFuture) error {
	for {
		p.mu.Lock()
		if p.err != nil {
			defer p.mu.Unlock()
			return p.err
		}
		few := len(p.sent)+len(p.yielded) < pipelineDepth
		if few && (len(p.sent) == 0 || p.bytes+f.size <= pipelineBytes) {
			f.start = time.Now()
			p.sent = append(p.sent, f)
			p.bytes += f.size
			p.mu.Unlock()
			return nil
		}
		p.mu.Unlock()
		select {
		case <-p.freed:
		case <-p.failed:
		case <-time.After(pipelineRoom):
		}
	}
}

// arrived takes the answer to f, and yields what is answered with all before it.
func (p *pipeline) arrived(f *appendFuture, a callAnswer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f.answer = &a
	for len(p.sent) > 0 && p.sent[0].answer != nil {
		p.settle(p.sent[0])
	}
	select {
	case p.freed <- struct{}{}:
	default:
	}
}

// settle yields the oldest append, which is answered, or has the pipeline fail;
// p.mu is held.
func (p *pipeline) settle(f *appendFuture) {
	err := f.answer.err
	if err == nil {
		err = decodeAppendReply(f.answer.payload, f.resp)
	}
	if err != nil {
		p.end(err)
		return
	}
	p.sent[0] = nil // what it carried may go
	p.sent = p.sent[1:]
	p.bytes -= f.size
	p.transport.commits.answered(p.peer.id, f.args, f.resp, nil)
	f.finish(nil)
	p.yielded <- f // has room for all that are under way
	if !f.resp.Success || f.resp.Term > f.args.Term {
		p.end(errRefused)
	}
}

// guard has the pipeline fail that gets no answers, or is left.
func (p *pipeline) guard() {
	timer := time.NewTimer(appendTimeout)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			timer.Reset(p.patience())
		case <-p.failed:
			return
		case <-p.transport.leaving:
			p.fail(errTransportClosed)
			return
		}
	}
}

// patience is how long there may still be no answer.
func (p *pipeline) patience() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.sent) == 0 {
		return appendTimeout
	}
	left := time.Until(p.sent[0].start.Add(appendTimeout))
	if left <= 0 {
		p.end(fmt.Errorf("no answer from %x within %v", p.peer.id, appendTimeout))
	}
	return left
}

// fail ends the pipeline; the first cause stays.
func (p *pipeline) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end(err)
}

// end ends the pipeline and all that is under way; p.mu is held.
func (p *pipeline) end(err error) {
	if p.err != nil {
		return
	}
	p.err = err
	close(p.failed)
	for _, f := range p.sent {
		p.peer.forget(f.id)
		p.transport.commits.answered(p.peer.id, f.args, f.resp, err)
		f.finish(err)
	}
	p.sent = nil
}

// Consumer yields the appends that were answered.
func (p *pipeline) Consumer() <-chan raft.AppendFuture { return p.yielded }

// Close gives up what is under way.
func (p *pipeline) Close() error {
	p.fail(raft.ErrPipelineShutdown)
	return nil
}

// appendFuture is one append of a pipeline.
type appendFuture struct {
	start  time.Time
	args   *raft.AppendEntriesRequest
	resp   *raft.AppendEntriesResponse
	size   int
	id     uint64      // of its frame, 0 until it is sent
	answer *callAnswer // nil: none yet
	done   chan struct{}
	err    error
}

func (f *appendFuture) finish(err error) {
	f.err = err
	close(f.done)
}

// Error waits for the answer, at most five seconds.
func (f *appendFuture) Error() error {
	<-f.done
	return f.err
}

// Start is when the append was sent.
func (f *appendFuture) Start() time.Time { return f.start }

// Request is what was sent.
func (f *appendFuture) Request() *raft.AppendEntriesRequest { return f.args }

// Response is valid once Error has returned nil.
func (f *appendFuture) Response() *raft.AppendEntriesResponse { return f.resp }
