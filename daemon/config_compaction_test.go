package daemon

import (
	"strings"
	"testing"
	"time"

	"github.com/conclave-kv/conclave/member"
)

// The retention is taken in etcd's forms, and an hour where none is given.
func TestConfig_compaction(t *testing.T) {
	for _, e := range []struct {
		mode, retention string
		want            member.Compaction
		refusal         string
	}{
		{"", "", member.Compaction{Period: time.Hour}, ""},
		{"periodic", "", member.Compaction{Period: time.Hour}, ""},
		{"periodic", "0", member.Compaction{}, ""},
		{"periodic", "0s", member.Compaction{}, ""},
		{"periodic", "24", member.Compaction{Period: 24 * time.Hour}, ""},
		{"periodic", "30m", member.Compaction{Period: 30 * time.Minute}, ""},
		{"revision", "0", member.Compaction{}, ""},
		{"revision", "1000", member.Compaction{Revisions: 1000}, ""},
		{"revision", "", member.Compaction{}, `"1h" is no number of revisions`},
		{"revision", "1h", member.Compaction{}, `"1h" is no number of revisions`},
		{"revision", "-1", member.Compaction{}, "must not be negative"},
		{"periodic", "-1", member.Compaction{}, "must not be negative"},
		{"periodic", "-1h", member.Compaction{}, "a period is"},
		{"periodic", "1ns", member.Compaction{}, "a period is"},
		{"periodic", "9999999999", member.Compaction{}, "--auto-compaction-retention"},
		{"periodic", "soon", member.Compaction{}, "a number of hours"},
		{"weekly", "1", member.Compaction{}, `--auto-compaction-mode "weekly"`},
	} {
		c := NewConfig()
		c.AutoCompactionMode, c.AutoCompactionRetention = e.mode, e.retention
		got, err := c.compaction()
		if valid := c.Validate(); (valid == nil) != (err == nil) {
			t.Errorf("%s %s: Validate says %v, compaction %v", e.mode, e.retention, valid, err)
		}
		if e.refusal == "" && err != nil || e.refusal != "" && (err == nil || !strings.Contains(err.Error(), e.refusal)) || got != e.want {
			t.Errorf("%s %q: %+v, %v", e.mode, e.retention, got, err)
		}
	}
}

// A negative retention had etcd compact what it had just written.
func TestGHSApm3m32r37mfh_negativeRetention(t *testing.T) {
	for mode, values := range map[string][]string{"periodic": {"-1", "-1h", "-1ns", "-9223372036854775808"}, "revision": {"-1", "-9223372036854775808"}} {
		for _, value := range values {
			c := NewConfig()
			c.AutoCompactionMode, c.AutoCompactionRetention = mode, value
			if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "--auto-compaction-retention") {
				t.Errorf("%s %s: %v", mode, value, err)
			}
		}
	}
}
