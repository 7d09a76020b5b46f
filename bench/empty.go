package main

import (
	"context"
	"flag"
	"fmt"
	"net"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// emptyServer answers every request with empty responses: what is left is
// the cost of gRPC, of the client and of the machine.
type emptyServer struct {
	pb.UnimplementedKVServer
	pb.UnimplementedLeaseServer
}

func (emptyServer) Put(context.Context, *pb.PutRequest) (*pb.PutResponse, error) {
	return &pb.PutResponse{}, nil
}

func (emptyServer) Range(context.Context, *pb.RangeRequest) (*pb.RangeResponse, error) {
	return &pb.RangeResponse{}, nil
}

func (emptyServer) Txn(context.Context, *pb.TxnRequest) (*pb.TxnResponse, error) {
	return &pb.TxnResponse{}, nil
}

func (emptyServer) LeaseGrant(_ context.Context, r *pb.LeaseGrantRequest) (*pb.LeaseGrantResponse, error) {
	return &pb.LeaseGrantResponse{ID: 1, TTL: r.TTL}, nil
}

func (emptyServer) LeaseRevoke(context.Context, *pb.LeaseRevokeRequest) (*pb.LeaseRevokeResponse, error) {
	return &pb.LeaseRevokeResponse{}, nil
}

// LeaseKeepAlive answers with a TTL, which stands for a lease that there is.
func (emptyServer) LeaseKeepAlive(stream pb.Lease_LeaseKeepAliveServer) error {
	for {
		r, err := stream.Recv()
		if err != nil {
			return err
		}
		if err := stream.Send(&pb.LeaseKeepAliveResponse{ID: r.ID, TTL: leaseTTL}); err != nil {
			return err
		}
	}
}

// runEmptyServer serves until the context ends.
func runEmptyServer(ctx context.Context, args []string) error {
	set := flag.NewFlagSet("bench empty-server", flag.ContinueOnError)
	listen := set.String("listen", "", "address to serve on")
	ca := set.String("ca", "", "CA of clients; empty: plaintext")
	cert := set.String("cert", "", "certificate")
	key := set.String("key", "", "its key")
	if err := set.Parse(args); err != nil {
		return err
	}
	c, err := loadCerts(*ca, *cert, *key)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		return fmt.Errorf("-listen %q: %w", *listen, err)
	}
	var options []grpc.ServerOption
	if c != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(c.tls)))
	}
	server := grpc.NewServer(options...)
	pb.RegisterKVServer(server, emptyServer{})
	pb.RegisterLeaseServer(server, emptyServer{})
	stop := context.AfterFunc(ctx, server.Stop)
	defer stop()
	return server.Serve(listener)
}
