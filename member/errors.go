package member

import "errors"

// The errors a request can end with; api maps each to etcd's published gRPC
// error. "Unknown outcome" means that the request may or may not take effect.
var (
	// ErrNoLeader: the member knows no leader; nothing was proposed.
	ErrNoLeader = errors.New("no leader")
	// ErrLeaderChanged: leadership moved while a read was being confirmed.
	ErrLeaderChanged = errors.New("leader changed")
	// ErrStopped: the member is shutting down. Unknown outcome for writes.
	ErrStopped = errors.New("member stopped")
	// ErrTimeout: the request was not answered in time. Unknown outcome.
	ErrTimeout = errors.New("request timed out")
	// ErrTimeoutLeaderFail: as ErrTimeout, and a leader failed meanwhile.
	ErrTimeoutLeaderFail = errors.New("request timed out, possibly due to previous leader failure")
	// ErrTimeoutConnLost: as ErrTimeout, and the connection to the leader was
	// lost meanwhile.
	ErrTimeoutConnLost = errors.New("request timed out, possibly due to connection lost")
	// ErrTimeoutApply: a read waited too long for this member's own state.
	ErrTimeoutApply = errors.New("request timed out, waiting for the applied index took too long")
	// ErrRequestTooLarge: the request exceeds --max-request-bytes.
	ErrRequestTooLarge = errors.New("request is too large")
	// ErrTooManyRequests: the bound on requests in flight is reached; nothing
	// was proposed.
	ErrTooManyRequests = errors.New("too many requests")
	// ErrMemberNotFound: no member has that id.
	ErrMemberNotFound = errors.New("member not found")
	// ErrNotCapable: the cluster version is not decided yet.
	ErrNotCapable = errors.New("not capable")
)
