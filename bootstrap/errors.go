package bootstrap

import (
	"errors"
	"fmt"
)

var (
	// ErrRefused marks what waiting cannot mend: a malformed list, this
	// member listed twice, plaintext records while TLS is on. Resolve returns
	// it at once.
	ErrRefused = errors.New("first peers refused")

	// ErrTimeout means that --discovery-timeout passed before the first peers
	// were known; the text says what was still missing.
	ErrTimeout = errors.New("first peers not known in time")
)

// marked is an error whose text stands for itself and which also counts as
// one of the sentinels above.
type marked struct {
	err  error
	mark error
}

func (m *marked) Error() string        { return m.err.Error() }
func (m *marked) Unwrap() error        { return m.err }
func (m *marked) Is(target error) bool { return target == m.mark }

// Refusef makes an error that counts as ErrRefused and whose text is the
// formatted text alone: one line for the operator, naming the flag, the value
// seen, and what to do. %w works as in fmt.Errorf.
func Refusef(format string, args ...any) error {
	return &marked{err: fmt.Errorf(format, args...), mark: ErrRefused}
}
