package main

import (
	"errors"
	"fmt"
)

// Exit codes of client commands. They are etcdctl's.
const (
	exitOK            = 0
	exitError         = 1
	exitBadConnection = 2
	exitInvalidInput  = 3 // a transaction that cannot be read
	exitBadFeature    = 4 // a valid flag with a value that is not supported
	exitInterrupted   = 5 // the server ended what goes on until it is stopped, or a snapshot was not saved
	exitBadArgs       = 128

	// exitLost is conclave's own: a lock was lost while its command ran.
	// sysexits(3) has the number for what may work at another time.
	exitLost = 75

	// exitUsage is what Go programs, etcd among them, return for a flag that
	// is unknown or has a bad value.
	exitUsage = 2
)

// exitErr is an error that asks for an exit code other than exitError.
type exitErr struct {
	code int
	err  error
}

func (e *exitErr) Error() string { return e.err.Error() }
func (e *exitErr) Unwrap() error { return e.err }

// withCode gives err an exit code; a nil err stays nil.
func withCode(code int, err error) error {
	if err == nil {
		return nil
	}
	return &exitErr{code: code, err: err}
}

// failf is a formatted error with an exit code.
func failf(code int, format string, args ...any) error {
	return &exitErr{code: code, err: fmt.Errorf(format, args...)}
}

// errSilent ends a command that has already said what is wrong.
var errSilent = errors.New("already reported")

// exitCode returns the exit code err asks for.
func exitCode(err error) int {
	if err == nil {
		return exitOK
	}
	if e, ok := errors.AsType[*exitErr](err); ok {
		return e.code
	}
	return exitError
}
