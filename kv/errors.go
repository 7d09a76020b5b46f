package kv

import "errors"

// The errors of requests. None of those that IsAnswer knows leaves a partial write
// behind, and each is the same on every member: they are answers. Any other
// error means that this member cannot tell the state, and has to stop.
var (
	// ErrCompacted: the revision asked for is older than the newest
	// compaction, or a compaction asked for is not newer than it.
	ErrCompacted = errors.New("required revision has been compacted")
	// ErrFutureRevision: the revision asked for does not exist yet.
	ErrFutureRevision = errors.New("required revision is a future revision")
	// ErrKeyNotFound: a put that keeps the old value or lease
	// (ignore_value, ignore_lease) names a key that does not exist.
	ErrKeyNotFound = errors.New("key not found")
	// ErrLeaseNotFound: a put, or a revocation, names a lease that there is not.
	ErrLeaseNotFound = errors.New("requested lease not found")
	// ErrLeaseExists: a lease to be granted has the id of another one.
	ErrLeaseExists = errors.New("lease already exists")
	// ErrTooManyCompares: the compares of a transaction would have to look at
	// more keys than may be while everybody waits.
	ErrTooManyCompares = errors.New("compares of the transaction look at too many keys")
	// ErrNoRoom: an answer takes more memory than its Room has.
	ErrNoRoom = errors.New("no room for the answer")
	// ErrTooLong: an answer is longer than MaxAnswer.
	ErrTooLong = errors.New("answer is larger than a message may be")
	// ErrCorrupt: index and state file contradict each other, or the file
	// cannot be read. The process has to stop.
	ErrCorrupt = errors.New("key-value state is corrupt")
	// ErrClosed: the state file that a view reads from was closed, because
	// another one took its place or the process ends. The newest view has
	// everything that this one had.
	ErrClosed = errors.New("state file was closed")
)

// IsAnswer reports whether err, of a request to a batch or a view, is an answer
// to be given to the client. After another error of a batch its state is
// undefined.
func IsAnswer(err error) bool {
	return errors.Is(err, ErrCompacted) || errors.Is(err, ErrFutureRevision) ||
		errors.Is(err, ErrKeyNotFound) || errors.Is(err, ErrLeaseNotFound) ||
		errors.Is(err, ErrLeaseExists) || errors.Is(err, ErrTooManyCompares)
}
