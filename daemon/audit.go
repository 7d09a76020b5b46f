package daemon

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/conclave-kv/conclave/audit"
	"github.com/conclave-kv/conclave/internal/version"
)

// lastAnchor bounds how long the stop of a member waits for the others to remember
// the end of its audit log.
const lastAnchor = 2 * time.Second

// openAudit goes on with the audit log. The member is there, to remember its head;
// clients come later.
func (d *Daemon) openAudit(context.Context) error {
	if !d.cfg.audited() {
		return nil
	}
	level, err := audit.ParseLevel(d.cfg.AuditLevel)
	if err != nil {
		return err
	}
	rotation, err := d.cfg.auditRotation()
	if err != nil {
		return err
	}
	seq, hash := d.member.AuditHead()
	d.audit, err = audit.Open(audit.Options{
		Output: d.cfg.AuditLog, Rotation: *rotation, Level: level, FailClosed: d.cfg.AuditFailClosed,
		Member: d.id.MemberID, Version: version.Conclave,
		Anchored:    audit.Head{Seq: seq, Hash: hash},
		Anchor:      func(ctx context.Context, h audit.Head) error { return d.member.AnchorAudit(ctx, h.Seq, h.Hash) },
		AnchorEvery: d.cfg.AuditAnchorInterval,
		Log:         d.log,
	})
	if err != nil {
		return err
	}
	d.registerAudit()
	d.onClose(d.closing("audit log", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), lastAnchor)
		defer cancel()
		return d.audit.Close(ctx)
	}))
	d.log.Info().Str("output", d.cfg.AuditLog).Str("records", level.String()).Bool("fail-closed", d.cfg.AuditFailClosed).Msg("what clients ask for is recorded")
	return nil
}

// registerAudit has the metrics tell how the audit log does.
func (d *Daemon) registerAudit() {
	count := func(name, help string, of func(audit.Stats) uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return float64(of(d.audit.Stats())) })
	}
	gauge := func(name, help string, of func(audit.Stats) uint64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return float64(of(d.audit.Stats())) })
	}
	d.registry.MustRegister(
		count("conclave_audit_records_total", "Records written to the audit log.", func(s audit.Stats) uint64 { return s.Written }),
		count("conclave_audit_dropped_total", "Records that are missing from the audit log, for want of room or because it could not be written.", func(s audit.Stats) uint64 { return s.Dropped }),
		count("conclave_audit_write_failures_total", "Writes to the audit log that failed.", func(s audit.Stats) uint64 { return s.Failures }),
		gauge("conclave_audit_queue_records", "Records that wait to be written.", func(s audit.Stats) uint64 { return uint64(s.Waiting) }),
		gauge("conclave_audit_anchored_record", "The newest record of this member's audit log that the cluster remembers.", func(s audit.Stats) uint64 { return s.Anchored }),
	)
}
