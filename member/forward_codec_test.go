package member

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/conclave-kv/conclave/internal/conclavepb"
)

// What is encoded by hand is what protobuf decodes, and the other way round.
func TestForward_isTheMessage(t *testing.T) {
	for _, want := range []forward{
		{term: 1, batch: 2, entry: []byte("entry")},
		{term: 1 << 40, batch: 1<<64 - 1, entry: bytes.Repeat([]byte("e"), 100_000)},
	} {
		msg := append(appendForward(nil, want.term, want.batch, len(want.entry)), want.entry...)
		var m conclavepb.Forward
		if err := proto.Unmarshal(msg, &m); err != nil {
			t.Fatal(err)
		}
		if m.Term != want.term || m.Batch != want.batch || !bytes.Equal(m.Payload, want.entry) {
			t.Errorf("protobuf decodes term %d, batch %d, %d bytes; want %d, %d, %d", m.Term, m.Batch, len(m.Payload), want.term, want.batch, len(want.entry))
		}
		encoded, err := proto.Marshal(&m)
		if err != nil {
			t.Fatal(err)
		}
		unknown := protowire.AppendString(protowire.AppendTag(nil, 99, protowire.BytesType), "later")
		for _, b := range [][]byte{msg, encoded, append(unknown, encoded...)} {
			got, err := decodeForward(b)
			if err != nil || got.term != want.term || got.batch != want.batch || !bytes.Equal(got.entry, want.entry) {
				t.Errorf("decoded term %d, batch %d, %d bytes, error %v", got.term, got.batch, len(got.entry), err)
			}
		}
	}
}

func TestDecodeForward_refusesWhatIsCut(t *testing.T) {
	msg := append(appendForward(nil, 7, 8, 5), "entry"...)
	for n := 1; n < len(msg); n++ {
		f, err := decodeForward(msg[:n])
		if err == nil && len(f.entry) > 0 {
			t.Errorf("a message cut at %d of %d bytes has an entry of %d", n, len(msg), len(f.entry))
		}
	}
	if _, err := decodeForward(bytes.Repeat([]byte{0xff}, 20)); err == nil {
		t.Error("garbage is decoded")
	}
}
