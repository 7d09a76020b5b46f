package raftstore

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/hashicorp/raft"
)

// What clients store may look like frames of the log. A write that was torn in
// its middle is still one.
func TestLogCheck_tornInDataLikeFrames(t *testing.T) {
	codec := &entryCodec{}
	codec.synced.Store(1<<50 - 1)
	later := encoded(t, codec, &raft.Log{Index: 1 << 50, Term: 1, Data: []byte("x")})
	frame := binary.LittleEndian.AppendUint32([]byte{1, 0, 0, 0}, uint32(len(later)))
	frame = append(frame, later...)
	frame = append(frame, bytes.Repeat([]byte{9}, -len(frame)&7)...)
	for name, pattern := range map[string][]byte{
		"numbers":     {3, 0, 0, 0, 7, 1, 4, 1}, // two of 32 bits, like a commit frame
		"a log entry": frame,
	} {
		t.Run(name, func(t *testing.T) {
			for shift := range 8 {
				rng := rand.New(rand.NewPCG(11, 11))
				batch := noise(rng, 4, 4, 4*sector)
				data := append(bytes.Repeat([]byte{5}, shift), bytes.Repeat(pattern, 4*sector/len(pattern)+1)...)
				copy(batch[0].Data, data)
				s := tearLog(t, [][]*raft.Log{noise(rng, 1, 3, 100)}, batch)
				for at := (s.from/sector + 1) * sector; at < len(bytes.TrimRight(s.after, "\x00")); at += sector {
					torn := bytes.Clone(s.before)
					copy(torn, s.after[:at])
					s.check(t, torn, "the beginning of the batch")
				}
			}
		})
	}
}
