package api

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/conclave-kv/conclave/kv"
)

// The numbers of fields of etcdserverpb.WatchResponse.
const (
	fieldHeader  protowire.Number = 1
	fieldWatchID protowire.Number = 2
	fieldEvents  protowire.Number = 11
)

// eventsResponse is a pb.WatchResponse of events that are encoded already. The
// store has them as they travel, for all who watch; to decode them and encode
// them for each was a quarter of what it took to send an event.
type eventsResponse struct {
	header *pb.ResponseHeader
	id     int64
	events []*kv.Event
}

// codec is gRPC's own, but for these.
type codec struct{ encoding.CodecV2 }

// Marshal returns buffers that belong to the caller, and no part of the store.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	r, ok := v.(*eventsResponse)
	if !ok {
		return c.CodecV2.Marshal(v)
	}
	header := proto.Size(r.header)
	size := protowire.SizeTag(fieldHeader) + protowire.SizeBytes(header)
	if r.id != 0 {
		size += protowire.SizeTag(fieldWatchID) + protowire.SizeVarint(uint64(r.id))
	}
	for _, e := range r.events {
		size += e.FieldSize(fieldEvents)
	}
	if mem.IsBelowBufferPoolingThreshold(size) {
		b, err := r.append(make([]byte, 0, size), header)
		return mem.BufferSlice{mem.SliceBuffer(b)}, err
	}
	room := eventBuffers.Get(size)
	if _, err := r.append((*room)[:0], header); err != nil {
		eventBuffers.Put(room)
		return nil, err
	}
	return mem.BufferSlice{mem.NewBuffer(room, eventBuffers)}, nil
}

// eventBuffers has buffers of each power of two from 1 KiB to 1 MiB. gRPC's own pool
// has none between 32 KiB and 1 MiB, which it fills with zeros each time: a tenth
// of what it took to send events to watches that are behind.
var eventBuffers = newEventBuffers()

func newEventBuffers() mem.BufferPool {
	var exponents []uint8
	for e := uint8(10); e <= 20; e++ {
		exponents = append(exponents, e)
	}
	pool, err := mem.NewBinaryTieredBufferPool(exponents...)
	if err != nil {
		panic(err) // no exponent is too large
	}
	return pool
}

// append encodes r, whose header takes so many bytes.
func (r *eventsResponse) append(b []byte, header int) ([]byte, error) {
	b = protowire.AppendTag(b, fieldHeader, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(header))
	b, err := proto.MarshalOptions{UseCachedSize: true}.MarshalAppend(b, r.header)
	if r.id != 0 {
		b = protowire.AppendTag(b, fieldWatchID, protowire.VarintType)
		b = protowire.AppendVarint(b, uint64(r.id))
	}
	for _, e := range r.events {
		b = e.AppendField(b, fieldEvents)
	}
	return b, err
}
