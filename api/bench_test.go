package api

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/rs/zerolog"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
)

// emptyBackend answers a put with nothing, so that only the door is measured.
type emptyBackend struct{ *fakeBackend }

func (emptyBackend) Put(context.Context, *pb.PutRequest) (*pb.PutResponse, error) {
	return &pb.PutResponse{Header: &pb.ResponseHeader{ClusterId: 1, MemberId: 7, Revision: 2, RaftTerm: 2}}, nil
}

// plainKV is the same without any of this package.
type plainKV struct {
	pb.UnimplementedKVServer
	emptyBackend
}

func (k plainKV) Put(ctx context.Context, r *pb.PutRequest) (*pb.PutResponse, error) {
	return k.emptyBackend.Put(ctx, r)
}
func (plainKV) Range(context.Context, *pb.RangeRequest) (*pb.RangeResponse, error) { return nil, nil }
func (plainKV) DeleteRange(context.Context, *pb.DeleteRangeRequest) (*pb.DeleteRangeResponse, error) {
	return nil, nil
}
func (plainKV) Txn(context.Context, *pb.TxnRequest) (*pb.TxnResponse, error) { return nil, nil }
func (plainKV) Compact(context.Context, *pb.CompactionRequest) (*pb.CompactionResponse, error) {
	return nil, nil
}

func plainServer(b *testing.B) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(b, err)
	g := grpc.NewServer()
	pb.RegisterKVServer(g, plainKV{emptyBackend: emptyBackend{newFakeBackend()}})
	go func() { _ = g.Serve(ln) }()
	b.Cleanup(g.Stop)
	return "http://" + ln.Addr().String()
}

// BenchmarkPut compares an empty put through etcd's client against this
// package's server and against a bare gRPC server, over conns connections
// shared by the workers. cpu-µs/op is client and server together.
func BenchmarkPut(b *testing.B) {
	for _, conns := range []int{1, 100} {
		for _, kind := range []string{"bare", "http", "https"} {
			b.Run(fmt.Sprintf("%s/conns=%d", kind, conns), func(b *testing.B) {
				var clients []*clientv3.Client
				if kind == "bare" {
					addr := plainServer(b)
					for range conns {
						c, err := clientv3.New(clientv3.Config{Endpoints: []string{addr}, Logger: zap.NewNop()})
						must(b, err)
						b.Cleanup(func() { _ = c.Close() })
						clients = append(clients, c)
					}
				} else {
					f := start(b, kind, func(o *Options) {
						o.Backend = emptyBackend{newFakeBackend()}
						o.Log = zerolog.Nop()
					})
					for range conns {
						clients = append(clients, f.etcd(b, f.urls[0]))
					}
				}
				putInParallel(b, clients, 200)
			})
		}
	}
}

func putInParallel(b *testing.B, clients []*clientv3.Client, workers int) {
	ctx := b.Context()
	for _, c := range clients {
		_, err := c.Put(ctx, "k", "v")
		must(b, err)
	}
	var left atomic.Int64
	left.Store(int64(b.N))
	var wg sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	before := cpuSeconds(b)
	for w := range workers {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if _, err := clients[w%len(clients)].Put(ctx, "key", "value"); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric((cpuSeconds(b)-before)*1e6/float64(b.N), "cpu-µs/op")
}

func cpuSeconds(b *testing.B) float64 {
	var u syscall.Rusage
	must(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}
