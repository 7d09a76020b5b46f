package ledger

import "errors"

// ErrRejected is wrapped by the answer to a command that every member refuses
// alike: nothing changed, and who proposed it is told.
var ErrRejected = errors.New("refused by the certificate ledger")

// ErrUnknownCommand is wrapped by the answer to bytes this version cannot read
// as a command. Members of a newer version may have applied them, so the caller
// must stop the process.
var ErrUnknownCommand = errors.New("command of the certificate ledger is not known to this version")

// errCorrupt means that a bucket does not hold what Write put into it.
var errCorrupt = errors.New("certificate ledger in the state file is damaged")
