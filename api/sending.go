package api

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"github.com/conclave-kv/conclave/member"
)

// countedAnswer is from how many bytes on an answer is accounted for until its
// client has taken it.
const countedAnswer = 64 << 10

// sending knows the answers to ranges whose memory is accounted for, between
// their handler and the moment when gRPC has sent them, which is when it gives
// their buffer back. It is the server's codec for that.
type sending struct {
	encoding.CodecV2
	mu   sync.Mutex
	held map[any]*member.Answer // by message
	some atomic.Int32           // len(held)
}

// newSending makes the codec out of one that encodes what is not accounted for.
func newSending(c encoding.CodecV2) *sending {
	return &sending{CodecV2: c, held: make(map[any]*member.Answer)}
}

// within runs a call whose answer may be long, and has it accounted for until it
// is sent, a JSON one until its client has it all; with no s, which is for answers
// that are not, not at all.
func within[T proto.Message](ctx context.Context, s *sending, call func(context.Context) (T, error)) (T, error) {
	if s == nil {
		return call(ctx)
	}
	ctx, a := member.WithAnswer(ctx)
	resp, err := call(ctx)
	if err != nil || a.Bytes() < countedAnswer {
		a.Sent()
		return resp, err
	}
	if c := callerOf(ctx); c != nil { // what it is sent is another form, made of this one
		c.atEnd(a.Sent)
		return resp, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held[resp] = a
	s.some.Add(1)
	return resp, nil
}

func (s *sending) take(v any) *member.Answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.held[v]
	if a != nil {
		delete(s.held, v)
		s.some.Add(-1)
	}
	return a
}

// Marshal is of every message the server sends.
func (s *sending) Marshal(v any) (mem.BufferSlice, error) {
	if s.some.Load() == 0 {
		return s.CodecV2.Marshal(v)
	}
	switch v.(type) {
	case *pb.RangeResponse, *pb.TxnResponse, *pb.DeleteRangeResponse:
	default:
		return s.CodecV2.Marshal(v)
	}
	a := s.take(v)
	if a == nil {
		return s.CodecV2.Marshal(v)
	}
	buf, err := proto.Marshal(v.(proto.Message))
	if err != nil {
		a.Sent()
		return nil, err
	}
	if a.Shrink(int64(len(buf))); mem.IsBelowBufferPoolingThreshold(cap(buf)) { // gRPC would not give it back
		a.Sent()
		return mem.BufferSlice{mem.SliceBuffer(buf)}, nil
	}
	r := &release{sent: a.Sent}
	// gRPC forgets the buffers of a connection that ends without giving them back.
	runtime.AddCleanup(&buf, (*release).once, r)
	return mem.BufferSlice{mem.NewBuffer(&buf, r)}, nil
}

// release is the pool that a buffer is given back to.
type release struct {
	sent func()
	done sync.Once
}

func (r *release) once()           { r.done.Do(r.sent) }
func (r *release) Put(*[]byte)     { r.once() }
func (r *release) Get(int) *[]byte { panic("api: nothing is taken from this pool") }

// long reports whether the answer to a range may be long.
func long(r *pb.RangeRequest) bool { return len(r.GetRangeEnd()) > 0 && !r.GetCountOnly() }

// longDelete reports whether the answer to a deletion may be long.
func longDelete(r *pb.DeleteRangeRequest) bool { return len(r.GetRangeEnd()) > 0 && r.GetPrevKv() }

// longTxn reports whether the answer to a transaction may be long: it reads
// several keys, from one range or from many.
func longTxn(r *pb.TxnRequest) bool {
	for _, list := range [][]*pb.RequestOp{r.GetSuccess(), r.GetFailure()} {
		for _, op := range list {
			q := op.GetRequestRange()
			if long(q) || longDelete(op.GetRequestDeleteRange()) || op.GetRequestTxn() != nil ||
				q != nil && len(list) > shortTxn {
				return true
			}
		}
	}
	return false
}

// shortTxn is how many operations a transaction has whose single keys are not
// counted.
const shortTxn = 8
