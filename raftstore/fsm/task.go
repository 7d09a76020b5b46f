package fsm

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/conclave-kv/conclave/kv"
)

// A task is a request that is about to be applied. One about keys is decoded
// already.
type task struct {
	request
	method string
	msg    proto.Message // nil: not about keys
	put    pb.PutRequest // msg of a put
}

// next takes some requests of an entry, none at its end, and has the store look
// up together what those about keys will look at. They hold until the next call.
func (m *Machine) next(index uint64, e *entry) []task {
	var keys [len(m.tasks)][]byte
	n, known := 0, 0
	for ; n < len(m.tasks); n++ {
		t := &m.tasks[n]
		var ok bool
		var err error
		if t.request, ok, err = e.next(); err != nil {
			m.fatal(index, err)
		}
		if !ok {
			break
		}
		m.decodeKeys(index, t)
		if key := firstKey(t.msg); len(key) > 0 {
			keys[known] = key
			known++
		}
	}
	if known > 1 {
		m.beginBatch()
		m.batch.Prefetch(keys[:known])
	}
	return m.tasks[:n]
}

// decodeKeys decodes t if it is about keys.
func (m *Machine) decodeKeys(index uint64, t *task) {
	switch t.kind {
	case KindPut:
		if err := decodePut(t.body, &t.put); err != nil {
			m.fatal(index, err)
		}
		t.method, t.msg = pb.KV_Put_FullMethodName, &t.put
		return
	case KindDeleteRange:
		t.method, t.msg = pb.KV_DeleteRange_FullMethodName, &pb.DeleteRangeRequest{}
	case KindTxn:
		t.method, t.msg = pb.KV_Txn_FullMethodName, &pb.TxnRequest{}
	case KindCompact:
		t.method, t.msg = pb.KV_Compact_FullMethodName, &pb.CompactionRequest{}
	default:
		t.method, t.msg = "", nil
		return
	}
	m.decode(index, t.body, t.msg)
}

// firstKey is the key that a request looks for first, as far as it is easily
// told.
func firstKey(msg proto.Message) []byte {
	switch r := msg.(type) {
	case *pb.PutRequest:
		return r.Key
	case *pb.DeleteRangeRequest:
		return r.Key
	case *pb.TxnRequest:
		if len(r.Compare) > 0 {
			return r.Compare[0].Key
		}
		if len(r.Success) > 0 {
			return r.Success[0].GetRequestPut().GetKey()
		}
	}
	return nil
}

// applyKeys applies a request to the key-value store.
func (m *Machine) applyKeys(index uint64, t *task, wanted bool) Result {
	m.beginBatch()
	if err := m.authorize(t.method, &t.request, t.msg); err != nil {
		return Result{Err: err}
	}
	txn, _ := t.msg.(*pb.TxnRequest)
	if err := m.alarms.barred(t.kind, txn); err != nil {
		return Result{Err: err}
	}
	answer := kv.None
	if wanted {
		answer = kv.Lazy
	}
	resp, err := m.perform(t.msg, answer)
	switch {
	case err == nil:
		return Result{Response: resp, Owed: m.batch.Owed()}
	case kv.IsAnswer(err):
		return Result{Err: err}
	default:
		m.fatal(index, err) // the store could not read what it holds
		return Result{}
	}
}

// perform does what was found to be allowed.
func (m *Machine) perform(msg proto.Message, answer kv.Answer) (any, error) {
	switch r := msg.(type) {
	case *pb.PutRequest:
		return m.batch.Put(r, answer)
	case *pb.DeleteRangeRequest:
		return m.batch.DeleteRange(r, answer)
	case *pb.TxnRequest:
		return m.batch.Txn(r, answer)
	default:
		return m.batch.Compact(r.(*pb.CompactionRequest), answer)
	}
}
