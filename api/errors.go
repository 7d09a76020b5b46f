package api

import (
	"context"
	"errors"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/conclave-kv/conclave/audit"
	"github.com/conclave-kv/conclave/auth"
	"github.com/conclave-kv/conclave/kv"
	"github.com/conclave-kv/conclave/member"
)

// errTooManyRequests travels as code Unknown: etcd's server never made a gRPC
// status of it, and clients know errors by their text alone.
var errTooManyRequests = status.Error(codes.Unknown, "etcdserver: too many requests")

// Two more that travel as Unknown: etcd's table gives the first as a client's
// error, which is no status, and has no row for the second.
var (
	errNotEnoughStarted = status.Error(codes.Unknown, rpctypes.ErrMemberNotEnoughStarted.Error())
	errTransferTimeout  = status.Error(codes.Unknown, "etcdserver: request timed out, leader transfer took too long")
)

// errTooManySnapshots has no counterpart: etcd streams to whoever asks.
var errTooManySnapshots = status.Error(codes.ResourceExhausted, "etcdserver: too many snapshots of this member are being read; wait until one has ended, or ask another member")

// errAnswerTooLong is gRPC's, which says how long the message is: conclave does
// not make it first.
var errAnswerTooLong = status.Errorf(codes.ResourceExhausted, "grpc: trying to send message larger than max (%d)", kv.MaxAnswer)

// errClientAPIVersion refuses a `client-api-version` that is not UTF-8.
var errClientAPIVersion = rpctypes.ErrGRPCInvalidClientAPIVersion

// errorTable is the only translation from conclave's errors to the gRPC errors
// etcd publishes. Clients classify by exact text and retry by code, so both
// are contract. A test fails when an exported error of kv or member has no row.
var errorTable = []struct {
	err  error // as errors.Is finds it
	grpc error // as the client sees it
}{
	{member.ErrNoLeader, rpctypes.ErrGRPCNoLeader},
	{member.ErrLeaderChanged, rpctypes.ErrGRPCLeaderChanged},
	{member.ErrStopped, rpctypes.ErrGRPCStopped},
	{member.ErrTimeout, rpctypes.ErrGRPCTimeout},
	{member.ErrTimeoutLeaderFail, rpctypes.ErrGRPCTimeoutDueToLeaderFail},
	{member.ErrTimeoutConnLost, rpctypes.ErrGRPCTimeoutDueToConnectionLost},
	{member.ErrTimeoutApply, rpctypes.ErrGRPCTimeoutWaitAppliedIndex},
	{member.ErrRequestTooLarge, rpctypes.ErrGRPCRequestTooLarge},
	{member.ErrTooManyRequests, errTooManyRequests},
	{member.ErrNoSpace, rpctypes.ErrGRPCNoSpace},
	{member.ErrCorruptCluster, rpctypes.ErrGRPCCorrupt},
	{member.ErrTooManyAlarms, status.Error(codes.ResourceExhausted, "etcdserver: "+member.ErrTooManyAlarms.Error())},
	{member.ErrDowngradeFormat, rpctypes.ErrGRPCWrongDowngradeVersionFormat},
	{member.ErrDowngradeTarget, rpctypes.ErrGRPCInvalidDowngradeTargetVersion},
	{member.ErrDowngradeInProgress, rpctypes.ErrGRPCDowngradeInProcess},
	{member.ErrNoVersion, rpctypes.ErrGRPCClusterVersionUnavailable},
	{member.ErrMemberNotFound, rpctypes.ErrGRPCMemberNotFound},
	{member.ErrNotCapable, rpctypes.ErrGRPCNotCapable},
	{member.ErrMemberExists, rpctypes.ErrGRPCMemberExist},
	{member.ErrPeerURLExists, rpctypes.ErrGRPCPeerURLExist},
	{member.ErrTooManyLearners, rpctypes.ErrGRPCTooManyLearners},
	{member.ErrNotLearner, rpctypes.ErrGRPCMemberNotLearner},
	{member.ErrLearnerNotReady, rpctypes.ErrGRPCLearnerNotReady},
	{member.ErrNotEnoughStarted, errNotEnoughStarted},
	{member.ErrUnhealthy, rpctypes.ErrGRPCUnhealthy},
	{member.ErrNotLeader, rpctypes.ErrGRPCNotLeader},
	{member.ErrBadTransferee, rpctypes.ErrGRPCBadLeaderTransferee},
	{member.ErrTransferTimeout, errTransferTimeout},
	{member.ErrTooManySnapshots, errTooManySnapshots},
	{member.ErrLeaseTooLong, rpctypes.ErrGRPCLeaseTTLTooLarge},

	{auth.ErrUserEmpty, rpctypes.ErrGRPCUserEmpty},
	{auth.ErrRoleEmpty, rpctypes.ErrGRPCRoleEmpty},
	{auth.ErrNameTooLong, status.Error(codes.InvalidArgument, "etcdserver: "+auth.ErrNameTooLong.Error())},
	{auth.ErrUserExists, rpctypes.ErrGRPCUserAlreadyExist},
	{auth.ErrUserNotFound, rpctypes.ErrGRPCUserNotFound},
	{auth.ErrRoleExists, rpctypes.ErrGRPCRoleAlreadyExist},
	{auth.ErrRoleNotFound, rpctypes.ErrGRPCRoleNotFound},
	{auth.ErrRoleNotGranted, rpctypes.ErrGRPCRoleNotGranted},
	{auth.ErrPermissionNotGiven, rpctypes.ErrGRPCPermissionNotGiven},
	{auth.ErrPermissionNotGranted, rpctypes.ErrGRPCPermissionNotGranted},
	{auth.ErrInvalidManagement, rpctypes.ErrGRPCInvalidAuthMgmt},
	{auth.ErrRootUserMissing, rpctypes.ErrGRPCRootUserNotExist},
	{auth.ErrRootRoleMissing, rpctypes.ErrGRPCRootRoleNotExist},
	{auth.ErrNotEnabled, rpctypes.ErrGRPCAuthNotEnabled},
	{auth.ErrFailed, rpctypes.ErrGRPCAuthFailed},
	{auth.ErrNoPassword, status.Error(codes.Unknown, auth.ErrNoPassword.Error())},
	{auth.ErrInvalidToken, rpctypes.ErrGRPCInvalidAuthToken},
	{auth.ErrOldRevision, rpctypes.ErrGRPCAuthOldRevision},
	{auth.ErrPermissionDenied, rpctypes.ErrGRPCPermissionDenied},
	{member.ErrPasswordTooLong, status.Error(codes.InvalidArgument, "etcdserver: "+member.ErrPasswordTooLong.Error())},
	{member.ErrPasswordTooShort, status.Error(codes.InvalidArgument, "etcdserver: "+member.ErrPasswordTooShort.Error())},
	{member.ErrLoginsSlowed, status.Error(codes.ResourceExhausted, "etcdserver: "+member.ErrLoginsSlowed.Error())},
	{member.ErrLoginsBusy, status.Error(codes.ResourceExhausted, "etcdserver: "+member.ErrLoginsBusy.Error())},

	{audit.ErrUnavailable, status.Error(codes.Unavailable, "etcdserver: "+audit.ErrUnavailable.Error())},

	{kv.ErrCompacted, rpctypes.ErrGRPCCompacted},
	{kv.ErrFutureRevision, rpctypes.ErrGRPCFutureRev},
	{kv.ErrKeyNotFound, rpctypes.ErrGRPCKeyNotFound},
	{kv.ErrLeaseNotFound, rpctypes.ErrGRPCLeaseNotFound},
	{kv.ErrLeaseExists, rpctypes.ErrGRPCLeaseExist},
	{kv.ErrTooManyCompares, rpctypes.ErrGRPCTooManyOps},
	{kv.ErrNoRoom, errTooManyRequests}, // the member tries again and says so itself
	{kv.ErrTooLong, errAnswerTooLong},
	{kv.ErrCorrupt, rpctypes.ErrGRPCCorrupt},
	// These two are told in a response of the stream, as text.
	{kv.ErrDuplicateWatch, status.Error(codes.Unknown, "mvcc: "+kv.ErrDuplicateWatch.Error())},
	{kv.ErrEmptyRange, status.Error(codes.Unknown, "mvcc: "+kv.ErrEmptyRange.Error())},
	{kv.ErrClosed, rpctypes.ErrGRPCStopped}, // only at the end of the process: see member.Range
}

// toGRPC translates an error of the Backend. A gRPC status passes as it is; a
// context error becomes Canceled or DeadlineExceeded with Go's text, as etcd
// sends it; an error without a row becomes Unknown with its own text.
func toGRPC(err error) error {
	if err == nil {
		return nil
	}
	for i := range errorTable {
		if errors.Is(err, errorTable[i].err) {
			return errorTable[i].grpc
		}
	}
	for _, c := range []error{context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, c) {
			return status.FromContextError(c).Err()
		}
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	return status.Error(codes.Unknown, err.Error())
}
