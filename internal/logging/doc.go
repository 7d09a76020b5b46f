// Package logging builds the one logger of a process.
//
// Lines carry the keys of etcd's own log (level, ts, caller, msg, error), so
// that whatever reads etcd's log reads conclave's. JSON is one object per
// line; console is the same content separated by tabs. Everybody else is
// handed a zerolog.Logger and never builds one.
//
// The package must not know what is logged or by whom. File is for other lines that
// are to be rotated in the same way. A line is written by the goroutine that logs it. A file that is rotated has a goroutine that removes and
// compresses old files, which ends with the Close of Output or File.
package logging
