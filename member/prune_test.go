package member

import (
	"fmt"
	"testing"
	"time"

	"github.com/conclave-kv/conclave/kv"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// figures are the sums and counts that a member tells.
func (f *fixture) figures(t *testing.T) map[string]float64 {
	t.Helper()
	families, err := f.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, family := range families {
		for _, m := range family.Metric {
			out[family.GetName()] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
			if h := m.GetHistogram(); h != nil {
				out[family.GetName()+"_sum"], out[family.GetName()+"_count"] = h.GetSampleSum(), float64(h.GetSampleCount())
			}
		}
	}
	return out
}

// History is removed at the pace that was asked for: a batch, then a pause.
func TestMember_prunesAtAPace(t *testing.T) {
	f := newFixtures(t, 1)[0]
	const sleep = 50 * time.Millisecond
	f.cfg.CompactionSleep, f.cfg.CompactionBatch = sleep, kv.DefaultPruneStep
	f.begin(t)
	const keys = 2000
	for round := range 2 {
		for first := 0; first < keys; first += 100 {
			txn := &pb.TxnRequest{}
			for i := range 100 {
				put := &pb.PutRequest{Key: fmt.Appendf(nil, "%06d", first+i), Value: fmt.Append(nil, round)}
				txn.Success = append(txn.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: put}})
			}
			if _, err := f.Txn(limited(t), txn); err != nil {
				t.Fatal(err)
			}
		}
	}
	start := time.Now()
	if _, err := f.Compact(limited(t), &pb.CompactionRequest{Revision: f.View().KV.Rev(), Physical: true}); err != nil {
		t.Fatal(err)
	}
	// The first step is taken with the compaction, the second at once.
	if took, least := time.Since(start), (keys/kv.DefaultPruneStep-1)*sleep; took < least {
		t.Errorf("it took %v, less than the pauses, %v", took, least)
	}
	const name = "etcd_debugging_mvcc_db_compaction_"
	var got map[string]float64
	eventuallyTrue(t, "the end is counted", func() bool {
		got = f.figures(t)
		return got[name+"total_duration_milliseconds_count"] == 1
	})
	if got[name+"keys_total"] != keys || got[name+"last"] < float64(start.Unix()) || got[name+"pause_duration_milliseconds_count"] < 1 ||
		got["etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds_count"] < keys/kv.DefaultPruneStep-1 {
		t.Errorf("counted: %v", got)
	}
}
