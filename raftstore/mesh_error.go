package raftstore

import (
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/conclave-kv/conclave/internal/conclavepb"
)

var (
	// ErrUnreachable: no connection to that member; nothing was sent. It
	// wraps why, if that is known.
	ErrUnreachable = errors.New("raftstore: member is not connected")
	// ErrConnectionLost: the connection ended before the answer came. Unknown
	// outcome.
	ErrConnectionLost = errors.New("raftstore: connection to member was lost")
	// ErrBusy: the bound on calls in flight to that member is reached;
	// nothing was sent.
	ErrBusy = errors.New("raftstore: too many calls to member in flight")
	// ErrOtherCluster: the address leads to a member of another cluster.
	ErrOtherCluster = errors.New("raftstore: member of another cluster")
	// ErrRefused: one side refused to open a session. See RefusedError.
	ErrRefused = errors.New("raftstore: session refused")
	// ErrNotMember: the id is not in the member table of the refusing side, or
	// not yet. It is tried again soon.
	ErrNotMember = errors.New("raftstore: not a member of the cluster")
	// ErrDuplicate: another process runs under the same member id.
	ErrDuplicate = errors.New("raftstore: two processes run under one member id")
	// ErrMeshClosed: the mesh is closed. Unknown outcome for calls under way.
	ErrMeshClosed = errors.New("raftstore: mesh is closed")
)

// RefusedError says why a session was not opened, and on which side. It
// matches ErrRefused, and ErrOtherCluster, ErrRemoved, ErrNotMember or
// ErrDuplicate where that is the reason.
type RefusedError struct {
	// ByPeer is true when the other member refused.
	ByPeer bool
	// Text is one line for people.
	Text string
	code conclavepb.PeerRefusal_Code
}

func (e *RefusedError) Error() string {
	if e.ByPeer {
		return "refused by the peer: " + e.Text
	}
	return "refused: " + e.Text
}

// Is matches the sentinels.
func (e *RefusedError) Is(target error) bool {
	return target == ErrRefused || target == refusalReasons[e.code]
}

// refusalReasons are the codes that a caller can tell apart.
var refusalReasons = map[conclavepb.PeerRefusal_Code]error{
	conclavepb.PeerRefusal_OTHER_CLUSTER: ErrOtherCluster,
	conclavepb.PeerRefusal_REMOVED:       ErrRemoved,
	conclavepb.PeerRefusal_NOT_MEMBER:    ErrNotMember,
	conclavepb.PeerRefusal_DUPLICATE:     ErrDuplicate,
}

// passing reports whether a refusal by a peer may be over soon by itself.
func (e *RefusedError) passing() bool {
	switch e.code {
	case conclavepb.PeerRefusal_CLOSING, conclavepb.PeerRefusal_NOT_MEMBER, conclavepb.PeerRefusal_DUPLICATE:
		return true
	}
	return false
}

func refuse(code conclavepb.PeerRefusal_Code, format string, args ...any) *RefusedError {
	return &RefusedError{Text: fmt.Sprintf(format, args...), code: code}
}

// Codes of a CallError that the mesh itself gives. A handler may use any
// other.
const (
	// CodeFailed: the handler returned an error without a code.
	CodeFailed uint32 = 1<<32 - 1 - iota
	// CodeNoHandler: nobody answers that kind there (yet); nothing was done.
	CodeNoHandler
	// CodeBusy: the member handles too many calls of ours; nothing was done.
	CodeBusy
	// CodeClosed: the handling end is shutting down.
	CodeClosed
)

// CallError is the error a handler on another member returned. Handlers may
// return one to choose its code.
type CallError struct {
	Code uint32
	Text string
}

func (e *CallError) Error() string { return e.Text }

// asCallError is what err looks like from the other side.
func asCallError(err error) *CallError {
	var call *CallError
	if errors.As(err, &call) {
		return call
	}
	return &CallError{Code: CodeFailed, Text: err.Error()}
}

// sameTrouble is the part of err that stays equal over retries: the ephemeral
// port in a socket error does not.
func sameTrouble(err error) string {
	if err == nil {
		return ""
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil {
		return op.Op + ": " + op.Err.Error()
	}
	return err.Error()
}

// connectionEnd words the usual ends of a connection.
func connectionEnd(err error) error {
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("closed by the peer")
	default:
		return err
	}
}
