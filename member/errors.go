package member

import (
	"errors"

	"github.com/conclave-kv/conclave/auth/token"
	"github.com/conclave-kv/conclave/raftstore/fsm"
)

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
	// ErrNoSpace: a member's quota is reached or its disk is nearly full, and so
	// nothing may be added. The request has no effect.
	ErrNoSpace = fsm.ErrNoSpace
	// ErrCorruptCluster: members were found to disagree, and so keys may not be
	// changed. The request has no effect.
	ErrCorruptCluster = fsm.ErrCorruptCluster
	// ErrDowngradeFormat: a version is not of the form 3.6 or 3.6.0.
	ErrDowngradeFormat = errors.New("wrong downgrade target version format")
	// ErrDowngradeTarget: the version is not the one before the cluster's.
	ErrDowngradeTarget = errors.New("invalid downgrade target version")
	// ErrDowngradeInProgress: a downgrade was begun already.
	ErrDowngradeInProgress = fsm.ErrDowngradeInProgress
	// ErrNoVersion: the cluster version is not decided yet.
	ErrNoVersion = errors.New("cluster version not found during downgrade")
	// ErrTooManyAlarms: no more are kept.
	ErrTooManyAlarms = fsm.ErrTooManyAlarms
	// ErrMemberNotFound: no member has that id.
	ErrMemberNotFound = errors.New("member not found")
	// ErrMemberExists: a member with the new one's id is there already.
	ErrMemberExists = errors.New("member ID already exist")
	// ErrPeerURLExists: another member has one of the peer URLs.
	ErrPeerURLExists = errors.New("peer URLs already exist")
	// ErrTooManyLearners: --max-learners is reached.
	ErrTooManyLearners = errors.New("too many learner members in cluster")
	// ErrNotLearner: only a learner can be promoted.
	ErrNotLearner = errors.New("can only promote a learner member")
	// ErrLearnerNotReady: the learner does not run or is too far behind.
	ErrLearnerNotReady = errors.New("can only promote a learner member which is in sync with leader")
	// ErrNotEnoughStarted: after the change too few members would have started.
	ErrNotEnoughStarted = errors.New("re-configuration failed due to not enough started members")
	// ErrUnhealthy: too few members have been connected for long enough.
	ErrUnhealthy = errors.New("unhealthy cluster")
	// ErrNotLeader: only the leader can do it, and this member is none.
	ErrNotLeader = errors.New("not leader")
	// ErrBadTransferee: the member has no vote, is unreachable, or lacks entries,
	// and so cannot take over leadership.
	ErrBadTransferee = errors.New("bad leader transferee")
	// ErrTransferTimeout: leadership was not handed over in time.
	ErrTransferTimeout = errors.New("request timed out, leader transfer took too long")
	// ErrNotCapable: the cluster version is not decided yet, or not all members
	// understand what is asked for.
	ErrNotCapable = errors.New("not capable")
	// ErrLeaseTooLong: a TTL is beyond what a lease may have.
	ErrLeaseTooLong = errors.New("too large lease TTL")
	// ErrPasswordTooLong: a password has more than 72 bytes.
	ErrPasswordTooLong = token.ErrPasswordTooLong
	// ErrPasswordTooShort: a password has fewer bytes than --auth-min-password-length.
	ErrPasswordTooShort = errors.New("password is shorter than --auth-min-password-length allows")
	// ErrLoginsSlowed: too many logins of the user from there have failed.
	ErrLoginsSlowed = token.ErrSlowed
	// ErrLoginsBusy: too many passwords are being checked.
	ErrLoginsBusy = token.ErrBusy
	// ErrTooManySnapshots: as many snapshots of this member are being read as may
	// be at once.
	ErrTooManySnapshots = errors.New("too many snapshots of this member are being read")
)
