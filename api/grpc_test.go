package api

import (
	"context"
	"net"
	"sync"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// recorder keeps what a connection received.
type recorder struct {
	net.Conn
	mu  sync.Mutex
	got []byte
}

func (r *recorder) Read(b []byte) (int, error) {
	n, err := r.Conn.Read(b)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = append(r.got, b[:n]...)
	return n, err
}

// pings counts the PING frames received that are not answers (RFC 9113, 4.1, 6.7).
func (r *recorder) pings() (frames, pings int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	const header, typePing, ack = 9, 6, 1
	for rest := r.got; len(rest) >= header; frames++ {
		length := int(rest[0])<<16 | int(rest[1])<<8 | int(rest[2])
		if rest[3] == typePing && rest[4]&ack == 0 {
			pings++
		}
		rest = rest[min(len(rest), header+length):]
	}
	return frames, pings
}

// A window that gRPC sizes by itself costs a ping for nearly every request.
func TestGRPC_requestsCostNoPings(t *testing.T) {
	f := start(t, "http", func(*Options) {})
	var r *recorder
	conn, err := grpc.NewClient("passthrough:///"+f.addr(),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			c, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
			r = &recorder{Conn: c}
			return r, err
		}))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const puts = 20
	for range puts {
		if _, err := pb.NewKVClient(conn).Put(call(t), &pb.PutRequest{Key: []byte("k"), Value: make([]byte, 1000)}); err != nil {
			t.Fatal(err)
		}
	}
	frames, pings := r.pings()
	if frames < 3*puts { // HEADERS, DATA and HEADERS of each answer
		t.Fatalf("received %d frames, want at least %d", frames, 3*puts)
	}
	if pings != 0 {
		t.Errorf("%d puts brought %d pings", puts, pings)
	}
}
