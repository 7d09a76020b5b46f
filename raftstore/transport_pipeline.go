package raftstore

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

const (
	// pipelineDepth bounds the appends of one pipeline without an answer.
	pipelineDepth = 64
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
// them in order as they are answered.
//
// A pipeline that fails yields nothing more and refuses the next append: raft
// takes any yielded append for a sign of life, and one that failed is none.
type pipeline struct {
	transport *Transport
	peer      *remote
	inflight  chan *appendFuture
	answered  chan raft.AppendFuture
	failed    chan struct{}
	idle      time.Time // since when no append is being sent

	mu    sync.Mutex
	err   error
	bytes int
	freed chan struct{} // room for one: bytes have been freed
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
		inflight:  make(chan *appendFuture, pipelineDepth),
		answered:  make(chan raft.AppendFuture, pipelineDepth),
		failed:    make(chan struct{}),
		freed:     make(chan struct{}, 1),
		idle:      time.Now(),
	}
	if !t.start(p.collect) {
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
	f := &appendFuture{start: time.Now(), args: args, resp: resp, size: appendSize(args), done: make(chan struct{})}
	if err := p.reserve(f.size); err != nil {
		return nil, err
	}
	p.transport.commits.sent(p.peer.id, args)
	var err error
	f.id, f.pending, err = p.transport.post(p.peer, kindAppend, laneBulk, appendTimeout, f.size, func(b []byte) []byte {
		return encodeAppend(b, args)
	})
	if err != nil {
		p.transport.commits.answered(p.peer.id, args, resp, err)
		p.fail(err)
		return nil, err
	}
	select {
	case p.inflight <- f:
	case <-p.failed:
		p.peer.forget(f.id)
		return nil, p.cause()
	}
	if err := p.cause(); err != nil { // it may have failed just before
		p.drain(err)
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

// reserve waits until size more bytes may be under way.
func (p *pipeline) reserve(size int) error {
	for {
		p.mu.Lock()
		if p.err != nil {
			defer p.mu.Unlock()
			return p.err
		}
		if p.bytes == 0 || p.bytes+size <= pipelineBytes {
			p.bytes += size
			p.mu.Unlock()
			return nil
		}
		p.mu.Unlock()
		select {
		case <-p.freed:
		case <-p.failed:
		}
	}
}

func (p *pipeline) free(size int) {
	p.mu.Lock()
	p.bytes -= size
	p.mu.Unlock()
	select {
	case p.freed <- struct{}{}:
	default:
	}
}

// collect yields answered appends in the order of their sending.
func (p *pipeline) collect() {
	timer := time.NewTimer(appendTimeout)
	defer timer.Stop()
	for {
		select {
		case f := <-p.inflight:
			timer.Reset(time.Until(f.start.Add(appendTimeout)))
			err := p.settle(f, timer.C)
			f.finish(err)
			if err != nil {
				p.fail(err)
				return
			}
			p.free(f.size)
			select {
			case p.answered <- f:
			case <-p.failed:
				return
			}
			if !f.resp.Success || f.resp.Term > f.args.Term {
				p.fail(errRefused)
				return
			}
		case <-p.failed:
			return
		case <-p.transport.leaving:
			p.fail(errTransportClosed)
			return
		}
	}
}

// settle waits for the answer to f.
func (p *pipeline) settle(f *appendFuture, timeout <-chan time.Time) error {
	var err error
	select {
	case a := <-f.pending.answer:
		if err = a.err; err == nil {
			err = decodeAppendReply(a.payload, f.resp)
		}
	case <-timeout:
		err = fmt.Errorf("no answer from %x within %v", p.peer.id, appendTimeout)
	case <-p.failed:
		err = p.cause()
	case <-p.transport.leaving:
		err = errTransportClosed
	}
	if err != nil {
		p.peer.forget(f.id)
	}
	p.transport.commits.answered(p.peer.id, f.args, f.resp, err)
	return err
}

// fail ends the pipeline; the first cause stays.
func (p *pipeline) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return
	}
	p.err = err
	close(p.failed)
	p.drain(err)
}

// drain ends the futures that collect will not take any more.
func (p *pipeline) drain(err error) {
	for {
		select {
		case f := <-p.inflight:
			p.peer.forget(f.id)
			f.finish(err)
		default:
			return
		}
	}
}

func (p *pipeline) cause() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// Consumer yields the appends that were answered.
func (p *pipeline) Consumer() <-chan raft.AppendFuture { return p.answered }

// Close gives up what is under way.
func (p *pipeline) Close() error {
	p.fail(raft.ErrPipelineShutdown)
	return nil
}

// appendFuture is one append of a pipeline.
type appendFuture struct {
	start   time.Time
	args    *raft.AppendEntriesRequest
	resp    *raft.AppendEntriesResponse
	size    int
	id      uint64
	pending *pendingCall
	done    chan struct{}
	err     error
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
