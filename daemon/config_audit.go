package daemon

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/conclave-kv/conclave/audit"
	"github.com/conclave-kv/conclave/internal/logging"
)

// minAnchorInterval keeps anchors, which are entries of the log, few.
const minAnchorInterval = 100 * time.Millisecond

// audited reports whether there is an audit log.
func (c Config) audited() bool { return c.AuditLog != "" && c.AuditLevel != audit.None.String() }

// auditRotation is how the audit log's file is rotated.
func (c Config) auditRotation() (*logging.Rotation, error) {
	return logging.ParseRotationOf("--audit-rotation-config-json", c.AuditLogRotation)
}

func (c Config) validateAudit() error {
	if _, err := audit.ParseLevel(c.AuditLevel); err != nil {
		return err
	}
	if _, err := c.auditRotation(); err != nil {
		return err
	}
	switch {
	case c.AuditAnchorInterval < minAnchorInterval:
		return fmt.Errorf("--audit-anchor-interval %v is too short; use %v or more", c.AuditAnchorInterval, minAnchorInterval)
	case c.AuditLog == "":
		if c.AuditFailClosed {
			return errors.New("--audit-fail-closed needs --audit-log: add it with a file, -, or syslog")
		}
		return nil
	case c.AuditLog == audit.Stdout && slices.Contains(c.LogOutputs, "stdout"):
		return fmt.Errorf("--audit-log %s and --log-outputs stdout would mix their lines: send one of them elsewhere", c.AuditLog)
	case slices.Contains(c.LogOutputs, c.AuditLog) && audit.IsFile(c.AuditLog):
		return fmt.Errorf("--audit-log %q is also in --log-outputs: give each a file of its own", c.AuditLog)
	case audit.IsFile(c.AuditLog):
		if _, err := os.Stat(filepath.Dir(c.AuditLog)); err != nil {
			return fmt.Errorf("--audit-log %q: %w; make the directory, for this process to write to", c.AuditLog, err)
		}
	}
	return nil
}
