package bootstrap

import "context"

// MaxPeers is the largest number of first peers taken from a source. Raft
// clusters have a handful of voters; a longer list is somebody's mistake and
// is refused before every entry is resolved and dialled.
const MaxPeers = 64

// Source is one place that knows who the first peers are.
//
// Lookup asks it once. It is called on one goroutine, never twice at a time,
// and again after an incomplete answer or an error, with the same self. It
// ends when ctx does. It changes nothing anywhere but, for sources with a
// registry, this member's own registration there, which it may repeat.
//
// An answer may be incomplete: it then says in Missing what is not known yet,
// and holds what is known. A complete answer must be the same for every
// member that asks, but for names and for which peer is self: the ids of the
// members, and the cluster's, are computed from it.
//
// An error that waiting cannot mend is made with Refusef; any other is taken
// as passing trouble, and the lookup is repeated.
type Source interface {
	Lookup(ctx context.Context, self Self) (Answer, error)
}

// Self is what the operator stated about this member. An empty field was not
// stated, and the source may supply it.
type Self struct {
	Name       string   // --name
	PeerURLs   []string // --initial-advertise-peer-urls, as ParseURLs returns them
	ClientURLs []string // --advertise-client-urls, as ParseURLs returns them
}

// Peer is one of the first peers, as a source knows it.
type Peer struct {
	Name     string   // a label only; ids never depend on it
	PeerURLs []string // sorted, at least one
}

// Unknown is the value of Answer.Self while this member is not among the peers.
const Unknown = -1

// Answer is what a source knows after one lookup.
type Answer struct {
	// Peers are the first peers, at most MaxPeers, in any order.
	Peers []Peer
	// Self is the index in Peers of this member, or Unknown.
	Self int
	// ClientURLs are this member's client URLs: those stated, else those the
	// source knows, else none.
	ClientURLs []string
	// Token, if not empty, takes the place of --initial-cluster-token (a
	// discovery URL or token does that).
	Token string
	// Missing names what is not known yet, a clause each for the operator to
	// read. An answer with nothing missing and Self known is complete.
	Missing []string
}

// complete reports whether a plan can be made from the answer.
func (a Answer) complete() bool {
	return len(a.Missing) == 0 && a.Self >= 0 && a.Self < len(a.Peers)
}
