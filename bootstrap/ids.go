package bootstrap

import (
	"crypto/sha1"
	"encoding/binary"
	"slices"
	"strings"
)

// MemberID gives the id etcd computes for a member of the bootstrap set: the
// first 8 bytes, big endian, of SHA-1 over the sorted peer URLs, joined
// without a separator and followed by the cluster token. Names play no part,
// which is why members that call each other differently still agree.
//
// For a member added later etcd uses, in the token's place, the decimal unix
// seconds of the addition.
//
// SHA-1 names members here; nothing is secured by it.
func MemberID(peerURLs []string, token string) uint64 {
	sorted := slices.Sorted(slices.Values(peerURLs))
	sum := sha1.Sum([]byte(strings.Join(sorted, "") + token))
	return binary.BigEndian.Uint64(sum[:8])
}

// ClusterID gives the id etcd computes for a cluster from the ids of its
// bootstrap set, in whatever order: the first 8 bytes, big endian, of SHA-1
// over the sorted ids, 8 bytes big endian each. It never changes afterwards,
// whoever joins or leaves.
func ClusterID(ids []uint64) uint64 {
	sorted := slices.Sorted(slices.Values(ids))
	text := make([]byte, 0, 8*len(sorted))
	for _, id := range sorted {
		text = binary.BigEndian.AppendUint64(text, id)
	}
	sum := sha1.Sum(text)
	return binary.BigEndian.Uint64(sum[:8])
}
