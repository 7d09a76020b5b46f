package audit

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"math/big"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestRecord_asLine(t *testing.T) {
	c := chain{member: "abc"}
	r := put("foo")
	r.Certificate = &x509.Certificate{
		Subject: pkix.Name{CommonName: "al\"ice"}, SerialNumber: big.NewInt(255), URIs: []*url.URL{{Scheme: "conclave", Host: "d", Path: "/user/alice"}},
	}
	r.Remote, r.JSON, r.AuthOff, r.Error = &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 7}, true, true, "bad\nthing"
	r.Facts = []Fact{{"lease", int64(5)}, {"urls", []string{"http://a", "http://b"}}, {"n", 3}, {"ok", true}}
	line := string(c.record(nil, r))
	want := `{"seq":1,"time":"1970-01-01T00:00:01.000000Z","member":"abc","user":"alice","proof":"token","auth":"off",` +
		`"certificate_cn":"al\"ice","certificate_uri":"conclave://d/user/alice","certificate_serial":"ff","remote":"10.0.0.1:7","via":"json",` +
		`"rpc":"/etcdserverpb.KV/Put","key":"Zm9v","lease":5,"urls":["http://a","http://b"],"n":3,"ok":true,"revision":7,"decision":"allowed",` +
		`"code":"OK","error":"bad\nthing","latency_ms":1.5,"prev":"` + strings.Repeat("0", 64) + `","hash":"`
	if !strings.HasPrefix(line, want) {
		t.Errorf("got  %s\nwant %s", line, want)
	}
	if !json.Valid([]byte(line)) || strings.Count(line, "\n") != 1 {
		t.Errorf("not one line of JSON: %s", line)
	}
}

// However much a request names, its record is bounded, and says what it leaves out.
func TestRecord_bounded(t *testing.T) {
	long := strings.Repeat("k", 10*maxKey)
	r := put(long)
	r.End, r.User, r.Error = []byte(long), strings.Repeat("\xff", 1<<20), strings.Repeat("e", 1<<20)
	for range 3 * maxOps {
		r.Ops = append(r.Ops, Op{Kind: "put", In: "then", Key: []byte(long), End: []byte(long)})
	}
	r.clip()
	c := chain{member: "abc"}
	line := c.record(nil, r)
	if len(line) >= lookBack || len(line) >= maxLine {
		t.Errorf("the line has %d bytes", len(line))
	}
	var got struct {
		Key      []byte     `json:"key"`
		KeyBytes int        `json:"key_bytes"`
		EndBytes int        `json:"range_end_bytes"`
		Ops      []struct{} `json:"ops"`
		More     int        `json:"more_ops"`
	}
	if err := json.Unmarshal(line, &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Key) != maxKey || got.KeyBytes != len(long) || got.EndBytes != len(long) || len(got.Ops) != maxOps || got.More != 2*maxOps {
		t.Errorf("%d bytes of key of %d, end %d, %d operations and %d more", len(got.Key), got.KeyBytes, got.EndBytes, len(got.Ops), got.More)
	}
	if w := r.weight(); w > 1<<21 {
		t.Errorf("it keeps %d bytes", w)
	}
}

func TestParseLevel_words(t *testing.T) {
	for _, l := range []Level{None, Denied, Writes, All} {
		if got, err := ParseLevel(l.String()); err != nil || got != l {
			t.Errorf("%s: %v, %v", l, got, err)
		}
	}
	if _, err := ParseLevel("some"); err == nil || !strings.Contains(err.Error(), `--audit-level "some"`) {
		t.Errorf("%v", err)
	}
}

// A clock far from now does no harm to the form.
func TestRecord_strangeTime(t *testing.T) {
	c := chain{member: "abc"}
	r := put("k")
	r.Time = time.Time{}
	if line := c.record(nil, r); !json.Valid(line) {
		t.Errorf("%s", line)
	}
}
