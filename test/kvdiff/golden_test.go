package kvdiff

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/conclave-kv/conclave/kv"
)

var goldenFile = flag.String("golden", "", "write the requests of goldenSeed, and etcd's revisions and hashes, to `FILE`")

// goldenSeed is the seed that -golden writes: its keys are enough for ranges
// and few enough to be compacted.
const goldenSeed = 4

// A goldenLine is one request, the newest revision after it, and the hashes
// compared then: revision, hash, compact revision.
type goldenLine struct {
	Hashes   [][3]int64      `json:"hashes,omitempty"`
	Op       string          `json:"op"`
	Request  json.RawMessage `json:"request"`
	Revision int64           `json:"revision"`
}

func newGoldenLine(req proto.Message, rev int64) (goldenLine, error) {
	text, err := sorted(req)
	l := goldenLine{Request: text, Revision: rev}
	switch req.(type) {
	case *pb.PutRequest:
		l.Op = "put"
	case *pb.DeleteRangeRequest:
		l.Op = "delete"
	case *pb.TxnRequest:
		l.Op = "txn"
	case *pb.CompactionRequest:
		l.Op = "compact"
	default:
		return l, fmt.Errorf("no name for a %T", req)
	}
	return l, err
}

// sorted is the message as JSON in one form only: protojson's spacing is random.
func sorted(m proto.Message) ([]byte, error) {
	text, err := protojson.Marshal(m)
	if err != nil {
		return nil, err
	}
	var fields map[string]any
	if err := json.Unmarshal(text, &fields); err != nil {
		return nil, err
	}
	return json.Marshal(fields)
}

func (l *goldenLine) add(h kv.Hash) {
	l.Hashes = append(l.Hashes, [3]int64{h.Revision, int64(h.Sum), h.CompactRev})
}

func writeGolden(path string, lines []goldenLine) error {
	var out []byte
	for _, l := range lines {
		line, err := json.Marshal(l)
		if err != nil {
			return err
		}
		out = append(append(out, line...), '\n')
	}
	return os.WriteFile(path, out, 0o644)
}
