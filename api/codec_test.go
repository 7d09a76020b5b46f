package api

import (
	"bytes"
	"fmt"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/encoding"
	grpcproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/protobuf/proto"

	"github.com/conclave-kv/conclave/kv"
)

// Events that are encoded once make the very bytes that protobuf makes of a
// response with them.
func TestCodec_sameBytesAsProtobuf(t *testing.T) {
	c := codec{encoding.GetCodecV2(grpcproto.Name)}
	keys := newKeyBackend(t)
	s := keys.NewWatchStream()
	defer s.Close()
	_, err := s.Create(0, kv.Watch{Key: []byte{0}, End: []byte{0}})
	must(t, err)
	for i := range 40 {
		must(t, keys.apply(func(b *kv.Batch) error {
			for j := range i%4 + 1 {
				key := fmt.Appendf(nil, "k%d", (i+j)%7)
				if i%5 == 4 {
					if _, err := b.DeleteRange(&pb.DeleteRangeRequest{Key: key}, kv.None); err != nil {
						return err
					}
					continue
				}
				if _, err := b.Put(&pb.PutRequest{Key: key, Value: make([]byte, i*i*i)}, kv.None); err != nil {
					return err
				}
			}
			return nil
		}))
		for {
			u, ok, err := s.Next()
			must(t, err)
			if !ok {
				break
			}
			for _, id := range []int64{0, 1, 1 << 40, -1} {
				want := &pb.WatchResponse{Header: keys.Header(u.Rev), WatchId: id}
				for _, e := range u.Events {
					want.Events = append(want.Events, e.Proto())
				}
				got, err := c.Marshal(&eventsResponse{header: keys.Header(u.Rev), id: id, events: u.Events})
				must(t, err)
				plain, err := proto.MarshalOptions{Deterministic: true}.Marshal(want)
				must(t, err)
				if !bytes.Equal(got.Materialize(), plain) {
					t.Fatalf("revision %d, id %d: %x, want %x", u.Rev, id, got.Materialize(), plain)
				}
				got.Free()
			}
		}
	}
}
