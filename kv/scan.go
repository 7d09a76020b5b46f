package kv

import (
	"math"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// Bounds of the parts of a Scan.
const (
	// firstPart is how many keys the first part has, as etcd's.
	firstPart = 10
	// loadStep is how many records are read before it is looked at how long
	// they are: so much more than asked for may be in memory for a moment.
	loadStep = 16
)

// A Scan reads a long range in parts, each from the view that is newest then,
// all at the revision of the first. Between parts it holds nothing of the store,
// however long its reader takes; but that revision may be compacted meanwhile.
// All parts merged, as by proto.Merge, are what View.Range answers to the same
// request at the first view. Used by one goroutine.
type Scan struct {
	key, end     []byte
	at           int64 // revision that is read
	rev          int64 // newest revision at the first part
	left         int64 // of the request's limit
	sent         int64
	part, target int // keys of the next part, bytes that one should have
	begun        bool
	keysOnly     bool
	countOnly    bool
}

// NewScan begins the answer to a request in the order of keys, without minimum
// and maximum revisions. Parts grow or shrink towards target, in bytes; none is
// longer than twice that and one record.
func NewScan(r *pb.RangeRequest, target int) *Scan {
	left := r.Limit
	if left <= 0 {
		left = math.MaxInt64
	}
	return &Scan{
		key: r.Key, end: r.RangeEnd, at: r.Revision, left: left, part: firstPart, target: max(target, 1),
		keysOnly: r.KeysOnly, countOnly: r.CountOnly,
	}
}

// Next reads the next part from v, which is as new as the last one's view or
// newer. The last part alone, also of an empty result, has header, more and
// count. Errors: as of View.Range; ErrCompacted also between parts.
func (c *Scan) Next(v *View) (resp *pb.RangeResponse, last bool, err error) {
	at, err := v.readRev(c.at)
	if err != nil {
		return nil, false, err
	}
	sp := spanOf(c.key, c.end)
	if c.countOnly {
		c.begin(v, at)
		return c.finish(&pb.RangeResponse{}, int64(v.count(sp, at))), true, nil
	}
	hits, more := v.firstHits(sp, at, int(min(int64(c.part), c.left)))
	resp = &pb.RangeResponse{}
	if resp.Kvs, err = v.loadFirst(hits, at, !c.keysOnly, 2*c.target); err != nil {
		return nil, false, err // nothing was given of a first part: it may be read at a newer view
	}
	c.begin(v, at)
	more = more || len(resp.Kvs) < len(hits)
	c.advance(resp)
	if more && c.left > 0 {
		return resp, false, nil
	}
	rest := 0
	if resp.More = more; more {
		rest = v.count(spanOf(c.key, c.end), at)
	}
	return c.finish(resp, c.sent+int64(rest)), true, nil
}

// begin notes what the first part is read at, when there is one.
func (c *Scan) begin(v *View, at int64) {
	if !c.begun {
		c.begun, c.at, c.rev = true, at, v.rev
	}
}

func (c *Scan) finish(resp *pb.RangeResponse, count int64) *pb.RangeResponse {
	resp.Header, resp.Count = &pb.ResponseHeader{Revision: c.rev}, count
	return resp
}

// advance goes on behind a part, and chooses the length of the next one.
func (c *Scan) advance(part *pb.RangeResponse) {
	n := len(part.Kvs)
	if n == 0 {
		return
	}
	size := 0
	for _, kv := range part.Kvs {
		size += kvSize(kv)
	}
	c.key = append(append(make([]byte, 0, len(part.Kvs[n-1].Key)+1), part.Kvs[n-1].Key...), 0)
	c.sent += int64(n)
	c.left -= int64(n)
	switch {
	case size < c.target/2:
		c.part = min(2*c.part, math.MaxInt32)
	case size > c.target*2:
		c.part = max(c.part/2, 1)
	}
}

// kvSize is the length of kv's encoding.
func kvSize(kv *mvccpb.KeyValue) int {
	r := record{
		key: kv.Key, value: kv.Value, lease: kv.Lease,
		create: kv.CreateRevision, mod: kv.ModRevision, version: kv.Version,
	}
	return r.size()
}

// firstHits returns the first n keys of sp that live at revision at, and
// whether there are more.
func (s *state) firstHits(sp span, at int64, n int) (hits []hit, more bool) {
	hits = make([]hit, 0, min(n, chunkRecords))
	s.seek(sp, at, func(h hit) bool {
		if len(hits) == n {
			more = true
			return false
		}
		hits = append(hits, h)
		return true
	})
	return hits, more
}

// loadFirst returns the records of the first hits, as many as it takes to have
// size bytes.
func (s *state) loadFirst(hits []hit, at int64, values bool, size int) ([]*mvccpb.KeyValue, error) {
	kvs := make([]*mvccpb.KeyValue, 0, len(hits))
	for got := 0; len(hits) > 0 && got < size; {
		n := min(loadStep, len(hits))
		part, err := s.loadAll(hits[:n], at, values)
		if err != nil {
			return nil, err
		}
		for i := 0; i < n && got < size; i++ {
			if !values {
				part[i].Value, part[i].Lease = nil, 0 // as View.Range does
			}
			kvs = append(kvs, part[i])
			got += kvSize(part[i])
		}
		hits = hits[n:]
	}
	return kvs, nil
}
