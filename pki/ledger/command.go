package ledger

import (
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	pb "github.com/conclave-kv/conclave/internal/conclavepb"
)

// Create is the command that makes g the running generation.
func Create(g *pb.Generation) ([]byte, error) {
	return encode(&pb.LedgerCommand{Kind: &pb.LedgerCommand_CreateGeneration{
		CreateGeneration: &pb.CreateGeneration{Generation: g},
	}})
}

// Certify is the command that notes the latest certificate of a member and
// what was issued with it. now is in seconds since 1970.
func Certify(m *pb.CertifiedMember, issued []*pb.Issued, now int64) ([]byte, error) {
	return encode(&pb.LedgerCommand{Now: now, Kind: &pb.LedgerCommand_CertifyMember{
		CertifyMember: &pb.CertifyMember{Member: m, Issued: issued},
	}})
}

// Record is the command that adds to the inventory. now is in seconds since
// 1970.
func Record(issued []*pb.Issued, now int64) ([]byte, error) {
	return encode(&pb.LedgerCommand{Now: now, Kind: &pb.LedgerCommand_RecordIssued{
		RecordIssued: &pb.RecordIssued{Issued: issued},
	}})
}

func encode(c *pb.LedgerCommand) ([]byte, error) {
	b, err := proto.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encode a ledger command: %w", err)
	}
	return b, nil
}

// decode reads a command. Fields this version does not know make it unknown as
// a whole: they could change what the known ones mean.
func decode(b []byte) (*pb.LedgerCommand, error) {
	c := new(pb.LedgerCommand)
	if err := proto.Unmarshal(b, c); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnknownCommand, err)
	}
	if c.Kind == nil || hasUnknown(c.ProtoReflect()) {
		return nil, fmt.Errorf("%w: kind or field of a newer version", ErrUnknownCommand)
	}
	return c, nil
}

// hasUnknown reports whether m or a message in it has fields that are not in
// this version's schema. The depth is the schema's own.
func hasUnknown(m protoreflect.Message) bool {
	if len(m.GetUnknown()) > 0 {
		return true
	}
	found := false
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.Message() == nil:
		case f.IsList():
			for i := range v.List().Len() {
				found = found || hasUnknown(v.List().Get(i).Message())
			}
		default:
			found = hasUnknown(v.Message())
		}
		return !found
	})
	return found
}
