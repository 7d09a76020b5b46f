package raftstore

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/conclave-kv/conclave/internal/conclavepb"
)

// farBehind is how many entries that are agreed may wait to be applied before a
// report calls it trouble.
const farBehind = 1000

// troubles says in words what is wrong, the worst first.
func troubles(r *conclavepb.RaftReport, peers []PeerStatus, election time.Duration) []string {
	var out []string
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if r.Role == roleRemoved {
		say("this member was removed from the cluster: delete its data directory, or add it again under a new id")
	}
	if r.Disk.StuckSeconds > 0 && r.Disk.StuckSeconds >= election.Seconds()/stuckShare {
		say("disk stuck: a write to the log has been under way for %s", seconds(r.Disk.StuckSeconds))
	}
	voters, missing := voterTroubles(r, peers)
	switch {
	case r.Role == roleRemoved:
	case r.Role == roleJoining:
		say("no entry of the log has come yet: this member waits for the leader of the cluster it was added to%s", unreachable(missing))
	case r.Leader == "":
		out = append(out, noLeader(r, voters, missing))
	case r.Leader != r.MemberId && r.ContactSeconds > election.Seconds():
		say("leader %s has not been heard of for %s", r.Leader, seconds(r.ContactSeconds))
	case len(missing) > 0:
		say("%d of %d voters unreachable: %s", len(missing), voters, strings.Join(missing, ", "))
	}
	if r.AgreedMembership != nil {
		say("a change of the membership is in the log and not agreed yet")
	}
	if r.Install.GetReceivingFrom() != "" {
		say("log behind: receiving the state of %s, %d of %d MiB", r.Install.ReceivingFrom, r.Install.ReceivingBytes>>20, r.Install.TotalBytes>>20)
	}
	if r.CommitIndex > r.AppliedIndex+farBehind {
		say("%d agreed entries are not applied yet", r.CommitIndex-r.AppliedIndex)
	}
	return out
}

// noLeader says why there is none, as far as this member can know.
func noLeader(r *conclavepb.RaftReport, voters int, missing []string) string {
	since := "no leader for " + seconds(r.LeaderSeconds)
	switch {
	case voters-len(missing) <= voters/2:
		return fmt.Sprintf("%s: %d of %d voters unreachable: %s", since, len(missing), voters, strings.Join(missing, ", "))
	case r.Role == roleLearner || r.Role == rolePending:
		return fmt.Sprintf("%s, and this member has no vote%s", since, unreachable(missing))
	default:
		return fmt.Sprintf("%s, although a majority is connected: an election is under way in term %d%s; ask the others too", since, r.Term, unreachable(missing))
	}
}

func unreachable(missing []string) string {
	if len(missing) == 0 {
		return ""
	}
	return "; unreachable: " + strings.Join(missing, ", ")
}

// voterTroubles counts the voters, and describes those that this member has no
// connection with.
func voterTroubles(r *conclavepb.RaftReport, peers []PeerStatus) (voters int, missing []string) {
	known := map[string]PeerStatus{}
	for _, p := range peers {
		known[hexID(p.ID)] = p
	}
	for _, s := range r.Membership.GetServers() {
		if s.Suffrage != suffrageVoter {
			continue
		}
		voters++
		p := known[s.Id]
		if s.Id == r.MemberId || p.Inbound || p.Outbound {
			continue
		}
		who := s.Name
		if who == "" {
			who = s.Id
		}
		missing = append(missing, fmt.Sprintf("%s (%s)", who, peerTrouble(p.LastError)))
	}
	return voters, missing
}

// peerTrouble is the reason for which a peer is not connected, in few words.
func peerTrouble(err error) string {
	for _, known := range []struct {
		is   error
		text string
	}{
		{syscall.ECONNREFUSED, "connection refused"},
		{ErrOtherCluster, "wrong cluster"},
		{ErrRemoved, "says this member was removed"},
		{ErrDuplicate, "another process runs under this member's id"},
		{ErrNotMember, "does not know this member"},
		{syscall.EHOSTUNREACH, "no route to host"},
		{syscall.ENETUNREACH, "network unreachable"},
	} {
		if errors.Is(err, known.is) {
			return known.text
		}
	}
	if err == nil {
		return "not connected yet"
	}
	return err.Error()
}

// seconds rounds for people.
func seconds(s float64) string {
	d := time.Duration(s * float64(time.Second))
	if d < time.Minute {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}
