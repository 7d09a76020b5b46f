package raftstore

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	// maxCalls bounds the calls to one peer that wait for an answer, and the
	// calls of one peer that are handled at a time.
	maxCalls = 1024
	// longestCall bounds a call whose context has no deadline.
	longestCall = 30 * time.Second
)

// pendingCall is a request that waits for its answer. Exactly one is put into
// answer, or given to arrived, which must not block.
type pendingCall struct {
	answer  chan callAnswer // has room
	arrived func(callAnswer)
	call    bool // counts towards maxCalls
}

func (p *pendingCall) put(a callAnswer) {
	if p.arrived != nil {
		p.arrived(a)
		return
	}
	p.answer <- a
}

type callAnswer struct {
	payload []byte
	err     error
}

// Call asks a peer and returns its answer. ErrUnreachable, ErrBusy and
// ErrTooLarge are definite: nothing was sent. A *CallError is what the handler
// there answered. After ErrConnectionLost, ErrMeshClosed or the end of ctx the
// outcome is unknown. Without a deadline in ctx it waits 30 seconds.
func (m *Mesh) Call(ctx context.Context, peer uint64, kind Kind, payload []byte) ([]byte, error) {
	r := m.known(peer)
	if r == nil {
		return nil, fmt.Errorf("%w: %x is not a peer", ErrUnreachable, peer)
	}
	answer := make(chan callAnswer, 1)
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(longestCall)
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline)
		defer cancel()
	}
	id, f, err := r.request(kind, payload, time.Until(deadline), answer)
	if err != nil {
		return nil, err
	}
	if err := r.send(ctx, laneFor(len(payload)), f); err != nil {
		r.forget(id)
		return nil, unsent(err)
	}
	select {
	case a := <-answer:
		return a.payload, a.err
	case <-ctx.Done():
		r.forget(id)
		return nil, ctx.Err()
	case <-m.ctx.Done():
		r.forget(id)
		return nil, ErrMeshClosed
	}
}

// ask asks a peer without waiting for anything, not even for room in its queue.
// The answer, or why there is none, is put into answers, which must have room
// for it. Whoever does not wait any longer calls forget. Errors as those of Call
// that are definite.
func (m *Mesh) ask(peer uint64, kind Kind, payload []byte, limit time.Duration, answers chan callAnswer) (forget func(), err error) {
	r := m.known(peer)
	if r == nil {
		return nil, fmt.Errorf("%w: %x is not a peer", ErrUnreachable, peer)
	}
	id, f, err := r.request(kind, payload, limit, answers)
	if err != nil {
		return nil, err
	}
	if !r.trySend(laneFor(len(payload)), f) {
		r.forget(id)
		return nil, r.unreachable()
	}
	return func() { r.forget(id) }, nil
}

// request makes the frame of a call whose answer goes to answer.
func (r *remote) request(kind Kind, payload []byte, limit time.Duration, answer chan callAnswer) (id uint64, f *outFrame, err error) {
	id = r.mesh.lastID.Add(1)
	if len(payload) > maxPayload {
		return id, nil, ErrTooLarge
	}
	if err := r.expect(id, &pendingCall{answer: answer, call: true}); err != nil {
		return id, nil, err
	}
	f = newOutFrame(frameRequest, id, kind, limit, len(payload))
	f.b = append(f.b, payload...)
	if err := f.seal(); err != nil {
		r.forget(id)
		return id, nil, err
	}
	return id, f, nil
}

// unsent words the end of a wait for room in the queue, which is definite.
func unsent(err error) error {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return fmt.Errorf("%w: its connection takes nothing: %w", ErrUnreachable, err)
	}
	return err
}

// expect makes room for the answer to request id.
func (r *remote) expect(id uint64, p *pendingCall) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p.call && r.calls >= maxCalls {
		return fmt.Errorf("%w: %s", ErrBusy, r.text)
	}
	r.pending[id] = p
	if p.call {
		r.calls++
	}
	return nil
}

// take removes the request; nil if it is gone already.
func (r *remote) take(id uint64) *pendingCall {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.pending[id]
	if p != nil {
		delete(r.pending, id)
		if p.call {
			r.calls--
		}
	}
	return p
}

func (r *remote) forget(id uint64) { r.take(id) }

// failPending fails all that waits; r.mu is held, which who waits may want.
func (r *remote) failPending() {
	lost := callAnswer{err: fmt.Errorf("%w: %s", ErrConnectionLost, r.text)}
	for _, p := range r.pending {
		if p.arrived != nil {
			go p.arrived(lost)
			continue
		}
		p.answer <- lost
	}
	clear(r.pending)
	r.calls = 0
}

// answered hands a response to whoever waits for it, if anybody still does.
func (r *remote) answered(f frame) {
	p := r.take(f.id)
	if p == nil {
		return
	}
	if f.typ == frameFailure {
		p.put(callAnswer{err: &CallError{Code: uint32(f.kind), Text: string(f.payload)}})
		return
	}
	p.put(callAnswer{payload: f.payload})
}

// handle has a call of the peer answered.
func (r *remote) handle(f frame) {
	h, quick := r.mesh.handler(f.kind)
	if quick != nil {
		if answer, ok := quick(r.id, f.payload); ok {
			if out := response(f.id, answer); f.typ == frameRequest && out != nil {
				r.trySend(laneUrgent, out)
			}
			return
		}
	}
	if h == nil {
		r.refuseRequest(f, CodeNoHandler, fmt.Sprintf("nobody answers calls of kind %d here", f.kind))
		return
	}
	if r.handling.Add(1) > maxCalls {
		r.handling.Add(-1)
		r.refuseRequest(f, CodeBusy, "too many calls are being handled")
		return
	}
	r.mesh.wg.Go(func() {
		defer r.handling.Add(-1)
		wait := f.wait
		if wait == 0 {
			wait = longestCall
		}
		ctx, cancel := context.WithTimeout(r.mesh.ctx, wait)
		defer cancel()
		payload, err := h(ctx, r.id, f.payload)
		if f.typ == frameRequest {
			r.answer(f.id, payload, err)
		}
	})
}

// refuseRequest answers at once, from a goroutine that must not wait.
func (r *remote) refuseRequest(f frame, code uint32, text string) {
	r.unheard.Inc()
	if f.typ != frameRequest {
		return
	}
	if out := failure(f.id, &CallError{Code: code, Text: text}); out != nil {
		r.trySend(laneUrgent, out)
	}
}

// answer sends the answer to a request, waiting for room as long as one write
// may take. An answer that cannot be sent is dropped: the asker learns of the
// lost connection, or its deadline passes.
func (r *remote) answer(id uint64, payload []byte, err error) {
	if err == nil && len(payload) > maxPayload {
		err = ErrTooLarge
	}
	var f *outFrame
	if err != nil {
		f = failure(id, asCallError(err))
	} else {
		f = response(id, payload)
	}
	r.sendAnswer(laneFor(len(payload)), f)
}

func (r *remote) sendAnswer(l laneID, f *outFrame) {
	if f == nil {
		return
	}
	ctx, cancel := context.WithTimeout(r.mesh.ctx, r.mesh.limits.write)
	defer cancel()
	_ = r.send(ctx, l, f)
}

// response is nil for a payload that is too large.
func response(id uint64, payload []byte) *outFrame {
	f := newOutFrame(frameResponse, id, 0, 0, len(payload))
	f.b = append(f.b, payload...)
	if f.seal() != nil {
		return nil
	}
	return f
}

// failureText bounds the text of an error that travels, in bytes.
const failureText = 4 << 10

func failure(id uint64, e *CallError) *outFrame {
	text := e.Text[:min(len(e.Text), failureText)]
	f := newOutFrame(frameFailure, id, Kind(e.Code), 0, len(text))
	f.b = append(f.b, text...)
	if f.seal() != nil {
		return nil
	}
	return f
}
