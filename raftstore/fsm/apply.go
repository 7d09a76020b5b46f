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
	case KindDowngrade:
		return m.applyDowngrade(index, req.body)
	case KindAlarm, KindOwnAlarm:
		return m.applyAlarm(index, req.body, req.kind == KindOwnAlarm)
	case KindLedger:
		m.changed.other += len(req.body)
		_, err := m.ledger.Apply(req.body)
		if err != nil && !errors.Is(err, ledger.ErrRejected) {
			m.fatal(index, err)
		}
		return Result{Err: err}
	default:
		m.log.Panic().Uint64("index", index).Uint8("kind", uint8(req.kind)).Msg("log entry asks for what this version does not know")
	}
	return Result{}
}

// applyKeys applies a request to the key-value store.
func (m *Machine) applyKeys(index uint64, req request, wanted bool) Result {
	var txn *pb.TxnRequest
	if req.kind == KindTxn {
		txn = &pb.TxnRequest{}
		m.decode(index, req.body, txn)
	}
	if err := m.alarms.barred(req.kind, txn); err != nil {
		return Result{Err: err}
	}
	if m.batch == nil {
		m.batch = m.file.Load().keys.NewBatch()
	}
	answer := kv.None
	if wanted {
		answer = kv.Lazy
	}
	var resp any
	var err error
	switch req.kind {
	case KindPut:
		if err := decodePut(req.body, &m.put); err != nil {
			m.fatal(index, err)
		}
		resp, err = m.batch.Put(&m.put, answer)
	case KindDeleteRange:
		var r pb.DeleteRangeRequest
		m.decode(index, req.body, &r)
		resp, err = m.batch.DeleteRange(&r, answer)
	case KindTxn:
		resp, err = m.batch.Txn(txn, answer)
	default:
		var r pb.CompactionRequest
		m.decode(index, req.body, &r)
		resp, err = m.batch.Compact(&r, answer)
	}
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
