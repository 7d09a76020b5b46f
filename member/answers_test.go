package member

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/conclave-kv/conclave/kv"
)

// inTenParts is an answer that takes n bytes in ten parts.
func inTenParts(n int64) func(*kv.Room) error {
	return func(room *kv.Room) error {
		for range 10 {
			if !room.Take(n / 10) {
				return kv.ErrNoRoom
			}
		}
		return nil
	}
}

func TestAnswers_waitForEachOther(t *testing.T) {
	const limit = 10 << 20
	m := &Member{cfg: Config{RequestTimeout: time.Minute}, answers: newAnswers(limit), ctx: t.Context()}
	get := func(ctx context.Context, n int64) (*Answer, error) {
		ctx, a := WithAnswer(ctx)
		return a, answerWithin(ctx, m, inTenParts(n))
	}
	first, err := get(t.Context(), 7<<20)
	if err != nil || first.Bytes() != 7<<20/10*10 {
		t.Fatalf("the first took %d, %v", first.Bytes(), err)
	}
	short, err := get(t.Context(), shortAnswer/2)
	if err != nil {
		t.Fatalf("a short one: %v", err)
	}
	short.Sent()
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if a, err := get(gone, 7<<20); !errors.Is(err, context.Canceled) || a.Bytes() != 0 {
		t.Errorf("one whose client has gone took %d, %v", a.Bytes(), err)
	}
	m.cfg.RequestTimeout = time.Millisecond
	if a, err := get(t.Context(), 7<<20); !errors.Is(err, ErrTooManyRequests) || a.Bytes() != 0 {
		t.Errorf("one that waited too long took %d, %v", a.Bytes(), err)
	}
	m.cfg.RequestTimeout = time.Minute
	var huge *Answer
	done := make(chan error)
	go func() {
		var err error
		huge, err = get(t.Context(), 30<<20) // more than there is: it waits for all of it
		done <- err
	}()
	for len(m.answers.long) == 0 {
		time.Sleep(time.Millisecond)
	}
	first.Shrink(100)
	select {
	case err := <-done:
		t.Fatalf("a huge one did not wait: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	first.Sent()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	huge.Sent()
	if n := m.answers.now(); n != 0 {
		t.Errorf("%d bytes are left", n)
	}
}

// Clients that read a lot at once, also in transactions and as old values, get all
// of it, one after the other where it does not fit.
func TestAnswers_manyLongOnes(t *testing.T) {
	m := startCluster(t, 1)[0]
	const limit, size, keys = 16 << 20, 100 << 10, 50 // 10 MiB an answer while it is built
	m.answers.limit = limit
	for i := range keys {
		if _, err := m.Put(limited(t), &pb.PutRequest{Key: fmt.Appendf(nil, "p%03d", i), Value: make([]byte, size)}); err != nil {
			t.Fatal(err)
		}
	}
	all := &pb.RangeRequest{Key: []byte("p"), RangeEnd: []byte("q")}
	allOp := &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: all}}
	calls := []func(context.Context) (int, error){
		func(ctx context.Context) (int, error) {
			resp, err := m.Range(ctx, all)
			return len(resp.GetKvs()), err
		},
		func(ctx context.Context) (int, error) {
			resp, err := m.Txn(ctx, &pb.TxnRequest{Success: []*pb.RequestOp{allOp}})
			return len(resp.GetResponses()[0].GetResponseRange().GetKvs()), err
		},
		func(ctx context.Context) (int, error) {
			resp, err := m.Txn(ctx, &pb.TxnRequest{Success: []*pb.RequestOp{putOp(&pb.PutRequest{Key: []byte("x")}), allOp}})
			return len(resp.GetResponses()[1].GetResponseRange().GetKvs()), err
		},
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	most := int64(0)
	for i := range 12 {
		wg.Go(func() {
			ctx, a := WithAnswer(limited(t))
			n, err := calls[i%len(calls)](ctx)
			if err != nil || n != keys || a.Bytes() < keys*size {
				t.Errorf("%d keys in %d bytes, %v", n, a.Bytes(), err)
			}
			mu.Lock()
			most = max(most, m.answers.now())
			mu.Unlock()
			a.Sent()
		})
	}
	wg.Wait()
	if slack := int64(12 * shortAnswer); most > limit+slack || most < keys*size {
		t.Errorf("answers took %d bytes at once, at most %d may be", most, limit+slack)
	}
	if n := m.answers.now(); n != 0 {
		t.Errorf("%d bytes are left", n)
	}
}

// A write that was applied is never answered as one that was not proposed, also
// where there is no room for what it reads.
func TestAnswers_writeWithoutRoomIsNotRefused(t *testing.T) {
	f := newFixtures(t, 1)[0]
	f.cfg.RequestTimeout = time.Second
	f.answers.limit = 8 << 20
	f.begin(t)
	for _, k := range []string{"p1", "p2", "p3", "p4"} {
		if _, err := f.Put(limited(t), &pb.PutRequest{Key: []byte(k), Value: make([]byte, 900<<10)}); err != nil {
			t.Fatal(err)
		}
	}
	// Clients who do not read hold all that there is.
	ctx, held := WithAnswer(limited(t))
	held.of = f.answers
	if err := held.reserve(ctx, f.answers.limit); err != nil {
		t.Fatal(err)
	}
	defer held.Sent()

	ctx, _ = WithAnswer(limited(t))
	_, err := f.Txn(ctx, &pb.TxnRequest{Success: []*pb.RequestOp{
		putOp(&pb.PutRequest{Key: []byte("x"), Value: []byte("applied")}),
		{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte("p"), RangeEnd: []byte("q")}}},
	}})
	if err == nil {
		t.Fatal("there was room")
	}
	read, rerr := f.Range(limited(t), &pb.RangeRequest{Key: []byte("x")})
	if rerr != nil {
		t.Fatal(rerr)
	}
	if read.Count == 1 && errors.Is(err, ErrTooManyRequests) {
		t.Errorf("%q, which says that nothing was proposed, for a transaction that was applied", err)
	}
}
