package main

import (
	"bytes"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func TestBytesText_units(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 9: "9 B", 10: "10 B", 999: "999 B", 1000: "1.0 kB", 16384: "16 kB", 20480: "20 kB", 9949: "9.9 kB",
		9950: "10 kB", 2147483648: "2.1 GB", 8589934592: "8.6 GB", -1: "18 EB",
	} {
		if got := bytesText(n); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
}

func TestTable_shape(t *testing.T) {
	var out bytes.Buffer
	if err := writeTable(&out, []string{"endpoint", "is ok"}, [][]string{{"a", "true"}, {"http://ä", "x"}}); err != nil {
		t.Fatal(err)
	}
	want := `┌──────────┬───────┐
│ ENDPOINT │ IS OK │
├──────────┼───────┤
│        a │  true │
│ http://ä │     x │
└──────────┴───────┘
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}

// A server that reports no file size must not stop the client.
func TestStatusRows_sizeZero(t *testing.T) {
	rows := statusRows([]endpointStatus{{Endpoint: "e", Status: (*clientv3.StatusResponse)(&pb.StatusResponse{})}})
	if got := rows[0][6]; got != "0%" {
		t.Errorf("percentage not in use: got %s, want 0%%", got)
	}
}

func TestSimplePrinter_alarm(t *testing.T) {
	var out bytes.Buffer
	p, err := newPrinter("simple", false, &out, &out)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.alarm((*clientv3.AlarmResponse)(&pb.AlarmResponse{
		Alarms: []*pb.AlarmMember{{MemberID: 7, Alarm: pb.AlarmType_NOSPACE}},
	})); err != nil {
		t.Fatal(err)
	}
	if want := "memberID:7 alarm:NOSPACE\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

func TestJSONPrinter_nestedTxn(t *testing.T) {
	var out bytes.Buffer
	p, err := newPrinter("json", false, &out, &out)
	if err != nil {
		t.Fatal(err)
	}
	inner := &pb.TxnResponse{Succeeded: true, Responses: []*pb.ResponseOp{
		{Response: &pb.ResponseOp_ResponsePut{ResponsePut: &pb.PutResponse{}}},
	}}
	outer := &clientv3.TxnResponse{Responses: []*pb.ResponseOp{{Response: &pb.ResponseOp_ResponseTxn{ResponseTxn: inner}}, {}}}
	if err := p.txn(outer); err != nil {
		t.Fatal(err)
	}
	want := `{"responses":[{"Response":{"response_txn":{"succeeded":true,"responses":[{"Response":{"response_put":{}}}]}}},{"Response":{}}]}` + "\n"
	if out.String() != want {
		t.Errorf("got %s, want %s", out.String(), want)
	}
}
