package api

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// What etcd's RangeStream does not do. A client that is told so uses Range.
var (
	errStreamSorted   = status.Error(codes.Unimplemented, "RangeStream does not support custom sort orders")
	errStreamFiltered = status.Error(codes.Unimplemented, "RangeStream does not support revision filters")
)

// RangeStream answers a range in parts, the last of which alone has header,
// more and count.
func (s *kvService) RangeStream(r *pb.RangeRequest, stream grpc.ServerStreamingServer[pb.RangeStreamResponse]) error {
	if err := checkRangeStream(r); err != nil {
		return err
	}
	return s.backend.RangeStream(stream.Context(), r, func(part *pb.RangeResponse) error {
		return stream.Send(&pb.RangeStreamResponse{RangeResponse: part})
	})
}

// checkRangeStream refuses more than etcd does in one case: a target other than
// the key without an order, which means ascending. etcd sorts each part by
// itself and then goes on behind the part's last key, which loses keys.
func checkRangeStream(r *pb.RangeRequest) error {
	if err := checkRange(r); err != nil {
		return err
	}
	if r.GetSortTarget() != pb.RangeRequest_KEY || r.GetSortOrder() == pb.RangeRequest_DESCEND {
		return errStreamSorted
	}
	if r.GetMinModRevision() != 0 || r.GetMaxModRevision() != 0 || r.GetMinCreateRevision() != 0 || r.GetMaxCreateRevision() != 0 {
		return errStreamFiltered
	}
	return nil
}
