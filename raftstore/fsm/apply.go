package fsm

import (
	"errors"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/conclave-kv/conclave/internal/conclavepb"
	"github.com/conclave-kv/conclave/kv"
	"github.com/conclave-kv/conclave/pki/ledger"
)

// Configure applies an agreed membership.
func (m *Machine) Configure(index, term uint64, conf *conclavepb.Configuration) {
	m.begin()
	m.at = position{index: index, term: term, confIndex: index, conf: conf}
	m.members = m.members.configure(conf)
	m.changed.members = m.members
}

// Command applies one agreed entry. The Machine may keep parts of data.
func (m *Machine) Command(index, term uint64, data []byte) {
	m.begin()
	m.at.index, m.at.term = index, term
	e, err := decodeEntry(data)
	if err != nil {
		m.fatal(index, err)
	}
	wanted := m.sink.Wants(e.batch)
	if e.term != term {
		if wanted {
			m.deliveries = append(m.deliveries, delivery{batch: e.batch, term: e.term, skipped: true})
		}
		return
	}
	first := len(m.results)
	for {
		req, ok, err := e.next()
		if err != nil {
			m.fatal(index, err)
		}
		if !ok {
			break
		}
		result := m.apply(index, req, wanted)
		if wanted {
			m.results = append(m.results, result)
		}
	}
	if wanted {
		m.deliveries = append(m.deliveries, delivery{batch: e.batch, term: e.term, first: first, end: len(m.results)})
	}
}

// apply is the one switch over what a request may ask for.
func (m *Machine) apply(index uint64, req request, wanted bool) Result {
	switch req.kind {
	case KindPut, KindDeleteRange, KindTxn, KindCompact:
		return m.applyKeys(index, req, wanted)
	case KindLeaseGrant, KindLeaseRevoke, KindLeaseClock, KindLeaseExpire:
		return m.applyLeases(index, req)
	case KindTermOpen:
		m.opened = m.at.term
	case KindAttributes:
		var a conclavepb.Attributes
		m.decode(index, req.body, &a)
		m.members = m.members.publish(&a)
		m.changed.members = m.members
	case KindClusterVersion:
		var v conclavepb.ClusterVersion
		m.decode(index, req.body, &v)
		m.clusterVersion, m.changed.clusterVersion = v.Version, v.Version
	case KindFeatureLevel:
		return m.applyLevel(index, req.body)
	case KindAuditAnchor:
		return m.applyAnchor(index, req.body)
	case KindDowngrade:
		return m.applyDowngrade(index, &req)
	case KindAlarm, KindOwnAlarm:
		return m.applyAlarm(index, &req)
	case KindTokenIssue, KindTokenRenew:
		return m.applyToken(index, req)
	case KindLedger:
		m.changed.other += len(req.body)
		_, err := m.ledger.Apply(req.body)
		if err != nil && !errors.Is(err, ledger.ErrRejected) {
			m.fatal(index, err)
		}
		return Result{Err: err}
	default:
		if op, ok := authOps[req.kind]; ok {
			return op(m, index, &req)
		}
		m.log.Panic().Uint64("index", index).Uint8("kind", uint8(req.kind)).Msg("log entry asks for what this version does not know")
	}
	return Result{}
}

// applyKeys applies a request to the key-value store.
func (m *Machine) applyKeys(index uint64, req request, wanted bool) Result {
	m.beginBatch()
	var method string
	var msg proto.Message
	var txn *pb.TxnRequest
	switch req.kind {
	case KindPut:
		if err := decodePut(req.body, &m.put); err != nil {
			m.fatal(index, err)
		}
		method, msg = pb.KV_Put_FullMethodName, &m.put
	case KindDeleteRange:
		method, msg = pb.KV_DeleteRange_FullMethodName, &pb.DeleteRangeRequest{}
		m.decode(index, req.body, msg)
	case KindTxn:
		txn = &pb.TxnRequest{}
		method, msg = pb.KV_Txn_FullMethodName, txn
		m.decode(index, req.body, msg)
	default:
		method, msg = pb.KV_Compact_FullMethodName, &pb.CompactionRequest{}
		m.decode(index, req.body, msg)
	}
	if err := m.authorize(method, &req, msg); err != nil {
		return Result{Err: err}
	}
	if err := m.alarms.barred(req.kind, txn); err != nil {
		return Result{Err: err}
	}
	answer := kv.None
	if wanted {
		answer = kv.Lazy
	}
	resp, err := m.perform(msg, answer)
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

// beginBatch begins to change keys or leases, if that was not begun.
func (m *Machine) beginBatch() {
	if m.batch == nil {
		m.batch = m.file.Load().keys.NewBatch()
	}
}

// decode reads a body that a member of this cluster encoded.
func (m *Machine) decode(index uint64, body []byte, msg proto.Message) {
	if err := proto.Unmarshal(body, msg); err != nil {
		m.fatal(index, err)
	}
}

// fatal stops the process: below the log there is no maybe.
func (m *Machine) fatal(index uint64, err error) {
	m.log.Panic().Err(err).Uint64("index", index).Msg("log entry cannot be applied")
}
