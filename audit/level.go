package audit

import "fmt"

// Level says which requests are recorded.
type Level uint8

// The levels of --audit-level, each with those before it.
const (
	// None records nothing.
	None Level = iota
	// Denied records what somebody asked for and may not, and failed logins.
	Denied
	// Writes records what changes something: keys, leases, users and roles, members,
	// alarms, files.
	Writes
	// All records every request.
	All
)

var levels = [...]string{"none", "denied", "writes", "all"}

// ParseLevel reads the value of --audit-level.
func ParseLevel(s string) (Level, error) {
	for l, name := range levels {
		if s == name {
			return Level(l), nil
		}
	}
	return None, fmt.Errorf("--audit-level %q: unknown level; use none, denied, writes or all", s)
}

// String is the level as --audit-level takes it.
func (l Level) String() string { return levels[l] }
