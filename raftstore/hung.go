package raftstore

import (
	"google.golang.org/protobuf/proto"

	"github.com/conclave-kv/conclave/internal/conclavepb"
)

// hungShare of the election timeout is how long a write to the log of a leader
// may take before it says so to the others, which then do not wait until its
// silence is long enough.
const hungShare = 2

// tellHung tells the voters that the disk of this leader hangs. Whoever does not
// hear it waits for silence.
func (n *Node) tellHung(lead Leadership) {
	ids := voters(n.configuration())
	answers := make(chan callAnswer, len(ids)) // nobody looks at them
	for _, id := range ids {
		if id == n.cfg.Self {
			continue
		}
		if forget, err := n.cfg.Mesh.ask(id, KindHung, confirmation(lead.Term), n.cfg.ElectionTimeout, answers); err == nil {
			forget()
		}
	}
}

// answerHung takes note that the leader cannot write, which makes its place
// vacant.
func (n *Node) answerHung(from uint64, payload []byte) ([]byte, bool) {
	var told conclavepb.Confirm
	lead := n.leadership()
	if proto.Unmarshal(payload, &told) == nil && lead.Leader == from && lead.Term == told.Term {
		n.hung.Store(&lead)
		n.leaders.stir()
	}
	return confirmation(n.Term()), true
}
