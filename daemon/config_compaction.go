package daemon

import (
	"fmt"
	"strconv"
	"time"

	"github.com/conclave-kv/conclave/member"
)

// The values of Config.AutoCompactionMode.
const (
	compactPeriodic = "periodic"
	compactRevision = "revision"
)

// defaultRetention is what history is kept where nobody says otherwise. etcd
// keeps all, until it is full.
const defaultRetention = "1h"

// Bounds of a period. Below the first etcd would note revisions more often than
// there are; above the second nobody waits for the first compaction.
const (
	minRetention = 10 * time.Millisecond
	maxRetention = 10 * 365 * 24 * time.Hour
)

// compaction is how much history is kept, in etcd's forms: a plain number is
// hours, or of revisions; a duration is a period.
func (c Config) compaction() (keep member.Compaction, err error) {
	mode, text := orDefault(c.AutoCompactionMode, compactPeriodic), orDefault(c.AutoCompactionRetention, defaultRetention)
	number, isNumber := strconv.ParseInt(text, 10, 64)
	switch {
	case mode != compactPeriodic && mode != compactRevision:
		return keep, fmt.Errorf("--auto-compaction-mode %q: use periodic or revision", mode)
	case isNumber == nil && number < 0:
		return keep, fmt.Errorf("--auto-compaction-retention %q must not be negative; 0 turns compaction off", text)
	case mode == compactRevision && isNumber != nil:
		return keep, fmt.Errorf("--auto-compaction-retention %q is no number of revisions, which --auto-compaction-mode revision keeps: write one, as in 10000, or 0 to turn compaction off", text)
	case mode == compactRevision:
		return member.Compaction{Revisions: number}, nil
	case isNumber == nil:
		text += "h"
	}
	period, err := time.ParseDuration(text)
	if err != nil {
		return keep, fmt.Errorf("--auto-compaction-retention %q: write a number of hours, or a duration as in 30m; 0 turns compaction off", c.AutoCompactionRetention)
	}
	if period != 0 && (period < minRetention || period > maxRetention) {
		return keep, fmt.Errorf("--auto-compaction-retention %q: a period is %v to %v long; 0 turns compaction off", c.AutoCompactionRetention, minRetention, maxRetention)
	}
	return member.Compaction{Period: period}, nil
}

func (c Config) validateCompaction() error {
	if c.CompactionSleepInterval < 0 {
		return fmt.Errorf("--compaction-sleep-interval %v must not be negative; 0 leaves it to the member", c.CompactionSleepInterval)
	}
	_, err := c.compaction()
	return err
}
