package fsm

import (
	"github.com/conclave-kv/conclave/auth"
	"github.com/conclave-kv/conclave/kv"
	"github.com/conclave-kv/conclave/pki/ledger"
)

// View is everything agreed up to one log index, immutable: keys, rights,
// certificate ledger, members and alarms belong together. Readers take it without a lock and keep
// it as long as they like.
type View struct {
	KV      *kv.View
	Auth    *auth.View
	Ledger  *ledger.View
	Members *Members
	Alarms  *Alarms
	// Downgrade is one that was begun, zero if none was.
	Downgrade Downgrade
	// Anchors are what the members' audit logs have to hold.
	Anchors *Anchors
	// ClusterVersion is empty until it was agreed.
	ClusterVersion string
	// Level is the feature level in force: kinds above it are not proposed.
	Level uint32
	// Applied and Term are those of the newest entry contained.
	Applied, Term uint64
}

// Result answers one request of a batch.
type Result struct {
	// Response is the etcd response of the request, nil for conclave's own
	// kinds. Of its header only the revision is set.
	Response any
	// Owed is what Response lacks, nil if nothing. Who gets it has to pay or drop
	// it.
	Owed *kv.Owed
	// Err is an error of the engine that was asked.
	Err error
}

// Sink is told what was applied. It is called from the goroutine that applies,
// must not block, and sees the View in which the results are.
type Sink interface {
	// Wants reports whether this member waits for the results of a batch;
	// where nobody does, responses need not be built.
	Wants(batch uint64) bool
	// LeasesChanged tells what became of leases, before the results of the
	// requests that did it are delivered. The slice stays as it is.
	LeasesChanged([]kv.LeaseChange)
	// Deliver hands over the results of a batch, in the order of its requests,
	// in a slice that is valid until it returns.
	// They are nil when the entry had ended up in a term it was not meant for
	// and so was not applied; the batch then never is, in that attempt.
	Deliver(batch, term uint64, results []Result)
	// Opened tells that a leader's term begins: entries of earlier terms that
	// were not applied by now never will be.
	Opened(term uint64)
	// Published ends a batch of entries.
	Published(*View)
	// Installed tells that the state was replaced by one that may hold
	// anything up to its index: whether a batch that was proposed before the
	// call is in it, nobody says. Applying goes on when it returns.
	Installed(*View)
}
