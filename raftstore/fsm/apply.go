package fsm

import (
	"errors"

	"google.golang.org/protobuf/proto"

	"github.com/conclave-kv/conclave/internal/conclavepb"
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
		tasks := m.next(index, &e)
		if len(tasks) == 0 {
			break
		}
		for i := range tasks {
			result := m.apply(index, &tasks[i], wanted)
			if wanted {
				m.results = append(m.results, result)
			}
		}
		clear(tasks) // requests may be large
	}
	if wanted {
		m.deliveries = append(m.deliveries, delivery{batch: e.batch, term: e.term, first: first, end: len(m.results)})
	}
}

// apply is the one switch over what a request may ask for.
func (m *Machine) apply(index uint64, t *task, wanted bool) Result {
	req := &t.request
	switch req.kind {
	case KindPut, KindDeleteRange, KindTxn, KindCompact:
		return m.applyKeys(index, t, wanted)
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
		return m.applyDowngrade(index, req)
	case KindAlarm, KindOwnAlarm:
		return m.applyAlarm(index, req)
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
			return op(m, index, req)
		}
		m.log.Panic().Uint64("index", index).Uint8("kind", uint8(req.kind)).Msg("log entry asks for what this version does not know")
	}
	return Result{}
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
