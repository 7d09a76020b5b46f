package api

import (
	"context"
	"errors"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/conclave-kv/conclave/internal/conclavepb"
)

// A client that only asks for reports says so when it connects, because others
// are not let in before the member is ready: with TLS it offers debugProtocol
// (ALPN), without it sends debugPreface before anything else. Whoever shows
// neither waits as if nobody had accepted the connection, so that clients with
// several endpoints go to another member.
const (
	debugProtocol = "conclave-debug/1"
	debugPreface  = "DEBUG * CONCLAVE/1.0\r\n\r\n" // as long as HTTP/2's
)

var errNotReady = status.Error(codes.Unavailable, "etcdserver: member is not ready; only reports are given (conclave debug raft)")

// debugService is conclave's own Debug service. Until there are rules of login,
// whoever may connect may ask.
type debugService struct {
	conclavepb.UnimplementedDebugServer
	backend Backend
	ready   <-chan struct{} // nil: at once
}

// Raft reports on this member's part in agreeing.
func (s *debugService) Raft(context.Context, *conclavepb.RaftReportRequest) (*conclavepb.RaftReport, error) {
	r := s.backend.RaftReport()
	if r.Ready = isReady(s.ready); !r.Ready {
		r.Troubles = append(r.Troubles, "this member is not ready: clients are not let in")
	}
	return r, nil
}

func isReady(ready <-chan struct{}) bool {
	if ready == nil {
		return true
	}
	select {
	case <-ready:
		return true
	default:
		return false
	}
}

// errShut: the door was closed before the member was ready.
var errShut = errors.New("the member stops")

// admit returns when the client that showed what it speaks is let in: at once
// if it is there for reports, else when the member is ready.
func (d *door) admit(c *conn, protocols []string) error {
	if isReady(d.ready) || slices.Contains(protocols, debugProtocol) {
		return nil
	}
	select {
	case <-d.ready:
		return c.SetDeadline(time.Now().Add(d.timeout)) // its time begins now
	case <-d.ended:
		return errShut
	}
}
