package main

import (
	"time"

	"github.com/conclave-kv/conclave/daemon"
	"github.com/conclave-kv/conclave/internal/logging"
)

// auditFlags are conclave's own.
func auditFlags() []serverFlag {
	return []serverFlag{
		textFlag("audit-log", "where requests of clients are recorded: a file, - (stdout) or syslog (default: nowhere)", func(c *daemon.Config) *string { return &c.AuditLog }),
		textFlag("audit-level", "none, denied, writes or all (default: writes)", func(c *daemon.Config) *string { return &c.AuditLevel }),
		boolFlag("audit-fail-closed", "refuse requests that cannot be recorded", func(c *daemon.Config) *bool { return &c.AuditFailClosed }),
		textFlag("audit-rotation-config-json", "when, and how many old files are kept (default: "+logging.DefaultRotation+")", func(c *daemon.Config) *string { return &c.AuditLogRotation }),
		durationFlag("audit-anchor-interval", "pause between anchors of the audit log in the cluster (default: 1m)", func(c *daemon.Config) *time.Duration { return &c.AuditAnchorInterval }),
	}
}
