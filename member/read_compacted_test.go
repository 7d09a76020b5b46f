package member

import (
	"bytes"
	"errors"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/conclave-kv/conclave/kv"
	"github.com/conclave-kv/conclave/raftstore/fsm"
)

// A read of the newest state is not told that it was compacted, however much
// happens between the moment it takes its view and the one it reads the file.
func TestRead_newestWhileCompacted(t *testing.T) {
	f := startCluster(t, 1)[0]
	key, value := []byte("k"), bytes.Repeat([]byte("v"), 64<<10) // not kept in memory
	put := func() {
		t.Helper()
		if _, err := f.Put(limited(t), &pb.PutRequest{Key: key, Value: value}); err != nil {
			t.Fatal(err)
		}
	}
	put()
	tries := 0
	meanwhile := func() {
		if tries++; tries > 1 {
			return
		}
		put()
		if _, err := f.Compact(limited(t), &pb.CompactionRequest{Revision: f.View().KV.Rev(), Physical: true}); err != nil {
			t.Fatal(err)
		}
	}
	for name, ask := range map[string]func(v *fsm.View, room *kv.Room) (*pb.RangeResponse, error){
		"get": func(v *fsm.View, room *kv.Room) (*pb.RangeResponse, error) {
			return v.KV.RangeWithin(&pb.RangeRequest{Key: key}, room)
		},
		"list": func(v *fsm.View, room *kv.Room) (*pb.RangeResponse, error) {
			return v.KV.RangeWithin(&pb.RangeRequest{Key: key, RangeEnd: []byte("k\x00")}, room)
		},
		"txn": func(v *fsm.View, room *kv.Room) (*pb.RangeResponse, error) {
			op := &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: key}}}
			r, err := v.KV.ReadTxn(&pb.TxnRequest{Success: []*pb.RequestOp{op}}, room)
			if err != nil {
				return nil, err
			}
			return r.Responses[0].GetResponseRange(), nil
		},
	} {
		tries = 0
		resp, err := readWithin(limited(t), f.Member, func(v *fsm.View, room *kv.Room) (*pb.RangeResponse, error) {
			meanwhile()
			return ask(v, room)
		})
		if err != nil || len(resp.Kvs) != 1 || !bytes.Equal(resp.Kvs[0].Value, value) {
			t.Errorf("%s: %d keys, %v", name, len(resp.GetKvs()), err)
		}
	}
	// Nor is a stream before its first part.
	tries = 0
	scan := kv.NewScan(&pb.RangeRequest{Key: key, RangeEnd: []byte("k\x00")}, 1)
	resp, err := read(f.Member, func(v *fsm.View) (resp *pb.RangeResponse, err error) {
		meanwhile()
		resp, _, err = scan.Next(v.KV)
		return resp, err
	})
	if err != nil || len(resp.Kvs) != 1 {
		t.Errorf("stream: %v", err)
	}
	// What asks for a revision that is gone is still told so.
	tries = 0
	old := f.View().KV.Rev()
	_, err = readWithin(limited(t), f.Member, func(v *fsm.View, room *kv.Room) (*pb.RangeResponse, error) {
		meanwhile()
		return v.KV.RangeWithin(&pb.RangeRequest{Key: key, Revision: old}, room)
	})
	if !errors.Is(err, kv.ErrCompacted) {
		t.Errorf("a revision that was compacted: %v", err)
	}
}
