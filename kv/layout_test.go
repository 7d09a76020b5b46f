package kv

import (
	"fmt"
	"testing"

	"go.etcd.io/bbolt"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// dump returns the records of a bucket as hex, in order.
func dump(t *testing.T, db *bbolt.DB, bucket string) (lines []string) {
	t.Helper()
	err := db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte(bucket)).ForEach(func(k, v []byte) error {
			lines = append(lines, fmt.Sprintf("%x=%x", k, v))
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func TestChanges_fileHasEtcdsLayout(t *testing.T) {
	f := newFixture(t, Options{})
	f.put("a", "1")
	f.batch(func(b *Batch) {
		_, err := b.Txn(&pb.TxnRequest{Success: []*pb.RequestOp{
			{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("b"), Value: []byte("22")}}},
			{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte("a")}}},
		}}, Full)
		if err != nil {
			t.Fatal(err)
		}
	})
	f.compact(2)
	f.settle()
	want := []string{
		"0000000000000002" + "5f" + "0000000000000000" + "=0a0161" + "1002" + "1802" + "2001" + "2a0131",
		"0000000000000003" + "5f" + "0000000000000000" + "=0a0162" + "1003" + "1803" + "2001" + "2a023232",
		"0000000000000003" + "5f" + "0000000000000001" + "74" + "=0a0161",
	}
	if got := dump(t, f.db, "key"); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("key bucket\n%v\nwant\n%v", got, want)
	}
	mark := "=0000000000000002" + "5f" + "0000000000000000"
	wantMeta := []string{fmt.Sprintf("%x", "finishedCompactRev") + mark, fmt.Sprintf("%x", "scheduledCompactRev") + mark}
	if got := dump(t, f.db, "meta"); fmt.Sprint(got) != fmt.Sprint(wantMeta) {
		t.Errorf("meta bucket\n%v\nwant\n%v", got, wantMeta)
	}
}

func TestOpen_refusesWhatIsNoRecord(t *testing.T) {
	for name, kv := range map[string][2]string{
		"short key":     {"x", ""},
		"no separator":  {"12345678-12345678", ""},
		"foreign mark":  {"\x00\x00\x00\x00\x00\x00\x00\x02_\x00\x00\x00\x00\x00\x00\x00\x00x", ""},
		"broken record": {"\x00\x00\x00\x00\x00\x00\x00\x02_\x00\x00\x00\x00\x00\x00\x00\x00", "\x0a\x05k"},
	} {
		t.Run(name, func(t *testing.T) {
			db, err := bbolt.Open(t.TempDir()+"/db", 0o600, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			err = db.Update(func(tx *bbolt.Tx) error {
				b, err := tx.CreateBucket(bucketKey)
				if err != nil {
					return err
				}
				if err := b.Put([]byte(kv[0]), []byte(kv[1])); err != nil {
					return err
				}
				_, err = Open(db, tx, Options{})
				return err
			})
			if err == nil {
				t.Error("opened")
			} else {
				t.Log(err)
			}
		})
	}
}

// etcdutl's --bump-revision writes an empty record at the raised revision.
func TestOpen_revisionRaisedByRestore(t *testing.T) {
	f := newFixture(t, Options{})
	f.put("a", "1")
	f.flushAll()
	err := f.db.Update(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketKey).Put(appendRevKey(nil, revision{main: 1002}), nil)
	})
	if err != nil {
		t.Fatal(err)
	}
	f.open()
	if rev := f.s.View().Rev(); rev != 1002 {
		t.Errorf("revision %d", rev)
	}
	v := f.put("a", "2")
	resp, err := v.Range(&pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}})
	if err != nil || resp.Count != 1 || resp.Kvs[0].Version != 2 || resp.Kvs[0].ModRevision != 1003 {
		t.Errorf("%v, %v", resp, err)
	}
}
