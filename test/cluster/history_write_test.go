package cluster_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// historyKeys are few, so that writes meet.
var historyKeys = []string{"h/a0", "h/a1", "h/a2", "h/a3", "h/b0", "h/b1", "h/b2", "h/b3"}

// write is one operation of a transaction.
type write struct {
	key     string
	deletes bool
	padding int // of the value, in bytes
}

// transaction is what a writer asked for. Its puts carry its name.
type transaction struct {
	writes   []write
	revision int64 // named by the answer; 0: there was none
}

// writerSet is the writers of a history, and what they asked for.
type writerSet struct {
	h     *history
	stop  context.CancelFunc
	wait  sync.WaitGroup
	avoid atomic.Int64 // member that is not written through

	mu    sync.Mutex
	named map[string]*transaction
	acked int
	open  time.Time     // until when a transaction that got no answer may still happen
	news  chan struct{} // closed when acked grows
	count int
}

func startWriters(h *history, seed uint64) *writerSet {
	ctx, stop := context.WithCancel(h.ctx)
	s := &writerSet{h: h, stop: stop, named: map[string]*transaction{}, news: make(chan struct{})}
	s.avoid.Store(nobody)
	for w := range historyWriters {
		rng := rand.New(rand.NewPCG(seed, uint64(10+w)))
		s.wait.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				_, _ = s.commit(h.ctx, s.through(rng), s.name(fmt.Sprint("w", w)), someWrites(rng)) // without an answer it may have happened
				time.Sleep(2 * time.Millisecond)                                                    // leaves the machine to the members
			}
		})
	}
	return s
}

// nobody is avoided.
const nobody = -1

// through chooses a member to write through.
func (s *writerSet) through(rng *rand.Rand) *clientv3.Client {
	i := rng.IntN(len(s.h.members))
	if int64(i) == s.avoid.Load() {
		i = (i + 1) % len(s.h.members)
	}
	return s.h.members[i]
}

// name makes a name that no transaction has.
func (s *writerSet) name(of string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count++
	return fmt.Sprintf("%s.%d.%d", of, s.h.first, s.count)
}

// someWrites are one put at least, and no key twice.
func someWrites(rng *rand.Rand) (all []write) {
	large := rng.IntN(300) == 0 // so that answers are parted
	for i, k := range rng.Perm(len(historyKeys))[:1+rng.IntN(4)] {
		w := write{key: historyKeys[k], deletes: i > 0 && rng.IntN(3) == 0, padding: rng.IntN(1000)}
		if large {
			w.padding = 300 << 10
		}
		all = append(all, w)
	}
	return all
}

// valueOf is a value from which its transaction's name can be read, and whether
// it is whole.
func valueOf(name string, padding int) string {
	return fmt.Sprintf("%s %d ", name, padding) + strings.Repeat(".", padding)
}

// nameOf is the name in a value, "" if that was tampered with.
func nameOf(value []byte) string {
	var name string
	var padding int
	text := string(value)
	if _, err := fmt.Sscanf(text[:min(len(text), 100)], "%s %d ", &name, &padding); err != nil || text != valueOf(name, padding) {
		return ""
	}
	return name
}

// commit sends a transaction, once.
func (s *writerSet) commit(ctx context.Context, c *clientv3.Client, name string, writes []write) (revision int64, err error) {
	t := &transaction{writes: writes}
	s.mu.Lock()
	s.named[name] = t
	s.mu.Unlock()
	var ops []clientv3.Op
	for _, w := range writes {
		if w.deletes {
			ops = append(ops, clientv3.OpDelete(w.key))
		} else {
			ops = append(ops, clientv3.OpPut(w.key, valueOf(name, w.padding)))
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	resp, err := c.Txn(ctx).Then(ops...).Commit()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.open = time.Now().Add(requestTimeout)
		return 0, err
	}
	t.revision = resp.Header.Revision
	s.acked++
	close(s.news)
	s.news = make(chan struct{})
	return t.revision, nil
}

// more waits until n more transactions were acknowledged.
func (s *writerSet) more(n int) {
	s.h.t.Helper()
	s.mu.Lock()
	want := s.acked + n
	s.mu.Unlock()
	limit := time.After(outageOfWriters)
	for {
		s.mu.Lock()
		acked, news := s.acked, s.news
		s.mu.Unlock()
		if acked >= want {
			return
		}
		select {
		case <-news:
		case <-limit:
			s.h.t.Fatalf("%d transactions of %d were acknowledged in %v", acked+n-want, n, outageOfWriters)
		}
	}
}

// outageOfWriters is how long some transactions may take, with what happens to
// the members.
const outageOfWriters = 30 * time.Second

// end stops the writers.
func (s *writerSet) end() {
	s.stop()
	s.wait.Wait()
}

// requestTimeout is for how long a member tries what it was asked, and more.
const requestTimeout = 8 * time.Second

// settle waits until nothing is under way that got no answer.
func (s *writerSet) settle() {
	s.mu.Lock()
	left := time.Until(s.open)
	s.mu.Unlock()
	time.Sleep(left)
}
