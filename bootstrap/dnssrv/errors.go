package dnssrv

import (
	"context"
	"errors"
	"fmt"
	"net"
)

var (
	// ErrNotFound: a server said, with authority, that the name or the record
	// does not exist.
	ErrNotFound = errors.New("no such name")

	// ErrUnavailable: no server gave a usable answer; asking again may help.
	ErrUnavailable = errors.New("no usable answer from any DNS server")
)

// LookupError is a lookup that gave no records. It unwraps to ErrNotFound or
// ErrUnavailable.
type LookupError struct {
	Name   string // what was asked for, without the trailing dot
	Reason string // a clause naming the server and its answer
	Err    error
}

func (e *LookupError) Error() string {
	return fmt.Sprintf("lookup %s: %s", e.Name, e.Reason)
}

func (e *LookupError) Unwrap() error { return e.Err }

// reason gives the part of a lookup's error behind the name.
func reason(err error) string {
	var lookup *LookupError
	if errors.As(err, &lookup) {
		return lookup.Reason
	}
	return err.Error()
}

// brief cuts a network error down to what happened: addresses and operation
// are named by the text around it.
func brief(err error) string {
	var timeout net.Error
	switch {
	case errors.Is(err, context.Canceled):
		return "canceled"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "no answer in time"
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil {
		return op.Err.Error()
	}
	return err.Error()
}
