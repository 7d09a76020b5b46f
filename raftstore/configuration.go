package raftstore

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/raft"

	"github.com/conclave-kv/conclave/internal/conclavepb"
)

// pendingMark follows the URLs of a server that was added as a voter. Until the
// server has its vote, it tells it from a learner. '#' occurs in no peer URL,
// which have no fragment.
const pendingMark = "#pending"

// serverID is the form of a member id that raft sees, as server id and as
// address: 16 lower-case hexadecimal digits.
func serverID(id uint64) raft.ServerID {
	return raft.ServerID(fmt.Sprintf("%016x", id))
}

// memberID is the inverse of serverID.
func memberID(id string) (uint64, error) {
	n, err := strconv.ParseUint(id, 16, 64)
	if err != nil || len(id) != 16 {
		return 0, fmt.Errorf("raftstore: %q is not a member id", id)
	}
	return n, nil
}

// encodeConfiguration gives the raft form of a membership. The servers are
// sorted by id, so that every member writes the same first entry.
func encodeConfiguration(conf *conclavepb.Configuration) raft.Configuration {
	servers := slices.Clone(conf.Servers)
	slices.SortFunc(servers, func(a, b *conclavepb.Server) int {
		return strings.Compare(string(serverID(a.Id)), string(serverID(b.Id)))
	})
	var out raft.Configuration
	for _, s := range servers {
		suffrage := raft.Voter
		if s.Learner || s.Pending {
			suffrage = raft.Nonvoter
		}
		address := strings.Join(s.PeerUrls, ",")
		if s.Pending {
			address += pendingMark
		}
		out.Servers = append(out.Servers, raft.Server{
			Suffrage: suffrage,
			ID:       serverID(s.Id),
			Address:  raft.ServerAddress(address),
		})
	}
	return out
}

// decodeConfiguration is the inverse of encodeConfiguration. It fails only for
// an entry that this package did not write.
func decodeConfiguration(conf raft.Configuration) (*conclavepb.Configuration, error) {
	out := &conclavepb.Configuration{}
	for _, s := range conf.Servers {
		id, err := memberID(string(s.ID))
		if err != nil {
			return nil, err
		}
		urls, marked := strings.CutSuffix(string(s.Address), pendingMark)
		pending := marked && s.Suffrage != raft.Voter
		out.Servers = append(out.Servers, &conclavepb.Server{
			Id:       id,
			PeerUrls: strings.Split(urls, ","),
			Pending:  pending,
			Learner:  s.Suffrage != raft.Voter && !pending,
		})
	}
	return out, nil
}

// voters returns the ids that have a vote.
func voters(conf raft.Configuration) []uint64 {
	var out []uint64
	for _, s := range conf.Servers {
		if id, err := memberID(string(s.ID)); err == nil && s.Suffrage == raft.Voter {
			out = append(out, id)
		}
	}
	return out
}

// peerURLs returns the address book of a configuration, without self.
func peerURLs(conf raft.Configuration, self uint64) map[uint64][]string {
	out := make(map[uint64][]string, len(conf.Servers))
	decoded, err := decodeConfiguration(conf)
	if err != nil {
		return out
	}
	for _, s := range decoded.Servers {
		if s.Id != self {
			out[s.Id] = s.PeerUrls
		}
	}
	return out
}
