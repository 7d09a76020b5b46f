//go:build interop

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"
)

// posted is a request to the JSON gateway as real clients send it: curl -d
// says that it sends a form.
type posted struct {
	method string // default POST
	path   string
	header string // "Name: value", more by newline
	body   string
}

// TestGateway_sameAnswersAsEtcd sends the same requests to a real etcd and to
// conclave, whose ids are the same, and compares status, header and body.
func TestGateway_sameAnswersAsEtcd(t *testing.T) {
	const advertise = "http://127.0.0.1:2"
	theirs, ours := startEtcd(t, advertise), startConclave(t, advertise)
	for i, p := range gatewayRequests() {
		want, got := p.send(t, theirs), p.send(t, ours)
		if got != want {
			t.Errorf("step %d: %s\nconclave: %s\netcd:     %s", i, p, got, want)
		}
	}
}

func (p posted) String() string {
	return fmt.Sprintf("%s %s %q %.200q", p.method, p.path, p.header, p.body)
}

// send returns the answer as text, without what tells one run from another.
func (p posted) send(t *testing.T, endpoint string) string {
	t.Helper()
	method := p.method
	if method == "" {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+endpoint+p.path, strings.NewReader(p.body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for line := range strings.Lines(p.header) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		req.Header.Set(name, value)
	}
	client := http.Client{
		Timeout:       20 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Sprintf("%T", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d %s %s %s %v %s", resp.StatusCode, resp.Header.Get("Content-Type"), resp.Header.Get("Grpc-Metadata-Content-Type"),
		resp.Header.Get("Location"), resp.TransferEncoding, constant(body))
}

// volatile are fields of status that two servers need not agree on.
var volatile = regexp.MustCompile(`"(dbSize|dbSizeInUse|dbSizeQuota|raftIndex|raftAppliedIndex)":"[0-9]+"|"(version)":"3\.7\.[0-9]+"`)

// constant is body without what protobuf varies from build to build on
// purpose: blanks behind commas, and the kind of blank in errors.
func constant(body []byte) string {
	var out bytes.Buffer
	for line := range bytes.Lines(body) {
		var compact bytes.Buffer
		if json.Compact(&compact, line) == nil {
			out.Write(compact.Bytes())
		} else {
			out.Write(line)
		}
	}
	return volatile.ReplaceAllString(strings.ReplaceAll(out.String(), "\u00a0", " "), `"$1$2":"?"`)
}

// gatewayRequests are requests in order, good and bad.
func gatewayRequests() []posted {
	const rng, put, txn, del, compaction = "/v3/kv/range", "/v3/kv/put", "/v3/kv/txn", "/v3/kv/deleterange", "/v3/kv/compaction"
	all := []posted{
		{path: put, body: `{"key":"Zm9v","value":"YmFy"}`},
		{path: put, body: `{"key":"Zm9v","value":"YmF6","prev_kv":true}`},
		{path: put, body: `{"key":"Zm9v","value":"YmF6","prevKv":true}`},
		{path: put, body: `{"key":"Zm9v","lease":"7587862094351152132"}`},
		{path: put, body: `{"key":"Zm9v","ignore_value":true,"value":"YQ=="}`},
		{path: put, body: `{"key":"bm9uZQ==","ignore_value":true}`},
		{path: put, body: `{"key":"b-_","value":"-_-_"}`},
		{path: put, body: `{"key":"Zm9v` + "\n" + `"}`},
		{path: put, body: `{"key":"Zm9v","value":"YmFy"} {"key":"eA=="}`},
		{path: put, body: `{"key":"Zm9v","value":"YmFy"} trailing`},
		{path: put, body: `{"key":null,"value":"YmFy"}`},
		{path: put, body: `{"key":"Zm9v","key":"Zm9v"}`},
		{path: put, body: `{"key":"Zm9v","value":12}`},
		{path: put, body: `{"key":"Zm9v","lease":1.5}`},
		{path: put, body: `{"key":"Zm9v","lease":1e0}`},
		{path: put, body: `{"key":"Zm9v","lease":"9223372036854775808"}`},
		{path: put, body: `{"key":"Zm9v","value":"%%%"}`},
		{path: put, body: `{"value":"YmFy"}`},
		{path: put, body: `key=Zm9v&value=YmFy`},
		{path: rng, body: `{"key":"Zm9v"}`},
		{path: rng, body: `{"key":"Zm9v"}`, header: "Content-Type: application/json"},
		{path: rng, body: `{"key":"Zm9v"}`, header: "Content-Type: text/plain"},
		{path: rng, body: `{"key":"Zm9v"}`, header: "Content-Type: application/x-protobuf\nAccept: application/x-protobuf"},
		{path: rng, body: `{"key":"Zm9v"}`, header: "Grpc-Timeout: 5S"},
		{path: rng, body: `{"key":"Zm9v"}`, header: "Grpc-Timeout: soon"},
		{path: rng, body: `{"key":"Zm9v"}`, header: "Grpc-Metadata-Hasleader: true"},
		{path: rng, body: `{"key":"Zm9v"}`, header: "Grpc-Metadata-X-Bin: %%%"},
		{path: rng, body: `{"key":"Zm9v"}`, header: "Grpc-Metadata-Client-Api-Version: 3.7"},
		{path: rng, body: `{"key":"Zm9v"}`, header: "TE: trailers"},
		{path: rng, body: `{"key":"Zm9v"}`, header: "X-HTTP-Method-Override: GET"},
		{path: rng, body: `{"key":"AA==","range_end":"AA=="}`},
		{path: rng, body: `{"key":"AA==","rangeEnd":"AA==","sort_order":"DESCEND","sort_target":"MOD"}`},
		{path: rng, body: `{"key":"AA==","range_end":"AA==","sort_order":2,"sort_target":3,"limit":1}`},
		{path: rng, body: `{"key":"AA==","range_end":"AA==","limit":"1","keys_only":true,"unknown_field":{"a":[1]}}`},
		{path: rng, body: `{"key":"AA==","range_end":"AA==","count_only":true,"serializable":true}`},
		{path: rng, body: `{"key":"AA==","range_end":"AA==","sort_order":"SIDEWAYS"}`},
		{path: rng, body: `{"key":"AA==","range_end":"AA==","sort_order":17}`},
		{path: rng, body: `{"key":"Zm9v","revision":99}`},
		{path: rng, body: `{"key":"Zm9v","revision":-1}`},
		{path: rng, body: `{"key":"bm9uZQ=="}`},
		{path: rng, body: `{}`},
		{path: rng, body: ``},
		{path: rng, body: `null`},
		{path: rng, body: `[]`},
		{path: rng, body: `"foo"`},
		{path: rng, body: `{`},
		{path: rng, body: `{"key":`},
		{path: rng, body: "\x00\xff\xfe"},
		{path: rng, body: `{"key":"Zm9v"` + strings.Repeat(" ", 100000) + `}`},
		{path: rng, body: strings.Repeat(`{"a":`, 20000)},
		{path: rng, body: `{"a":` + strings.Repeat(`[`, 9000) + strings.Repeat(`]`, 9000) + `}`},
		{path: del, body: `{"key":"Zm9v","prev_kv":true}`},
		{path: del, body: `{}`},
		{path: txn, body: `{"compare":[{"key":"Zm9v","target":"VERSION","version":"0"}],"success":[{"request_put":{"key":"Zm9v","value":"YQ=="}}],"failure":[{"request_range":{"key":"Zm9v"}}]}`},
		{path: txn, body: `{"compare":[{"key":"Zm9v","result":"EQUAL","target":"CREATE","createRevision":"0"}],"success":[{"requestPut":{"key":"Zm9v"}}],"failure":[{"requestRange":{"key":"Zm9v"}},{"requestDeleteRange":{"key":"Zm9v"}}]}`},
		{path: txn, body: `{"compare":[{"key":"Zm9v","target":0,"version":0,"mod_revision":1}]}`},
		{path: txn, body: `{"success":[{"request_txn":{"success":[{"request_put":{"key":"bg==","value":"bg=="}}]}}]}`},
		{path: txn, body: `{"success":[{"request_put":{"key":"ZA=="}},{"request_put":{"key":"ZA=="}}]}`},
		{path: txn, body: `{"success":[{}]}`},
		{path: txn, body: `{"success":[` + strings.Repeat(`{"request_range":{"key":"ZA=="}},`, 128) + `{"request_range":{"key":"ZA=="}}]}`},
		{path: txn, body: `{}`},
		{path: compaction, body: `{"revision":"3","physical":true}`},
		{path: compaction, body: `{"revision":3}`},
		{path: compaction, body: `{"revision":"1000"}`},
		{path: rng, body: `{"key":"Zm9v","revision":"2"}`},
		{path: put, body: `{"key":"YmlnYmln","value":"` + strings.Repeat("QUJD", (1<<20)/3) + `"}`},
		{path: put, body: `{"key":"YmlnYmln","value":"` + strings.Repeat("QUJD", (3<<19)/3) + `"}`},
		{path: rng, body: `{"key":"YmlnYmln"}`},

		{path: "/v3/cluster/member/list", body: `{}`},
		{path: "/v3/cluster/member/list", body: `{"linearizable":true}`},
		{path: "/v3/cluster/member/add", body: `{"peerURLs":[]}`},
		{path: "/v3/cluster/member/add", body: `{"peerURLs":["nonsense"]}`},
		{path: "/v3/cluster/member/remove", body: `{"ID":"1"}`},
		{path: "/v3/cluster/member/remove", body: `{"ID":"-1"}`},
		{path: "/v3/cluster/member/update", body: `{"ID":"1","peerURLs":["http://127.0.0.1:1"]}`},
		{path: "/v3/cluster/member/promote", body: `{"ID":"1"}`},
		{path: "/v3/maintenance/status", body: `{}`},
		{path: "/v3/maintenance/alarm", body: `{"action":"GET"}`},
		{path: "/v3/maintenance/transfer-leadership", body: `{"targetID":"1"}`},

		{path: "/v3/maintenance/alarm", body: `{"action":"ACTIVATE","alarm":"CORRUPT","memberID":"1"}`},
		{path: "/v3/maintenance/alarm", body: `{"action":"DEACTIVATE","alarm":"CORRUPT","memberID":"1"}`},
		{path: "/v3/maintenance/defragment", body: `{}`},
		{path: "/v3/maintenance/hashkv", body: `{}`},
		{path: "/v3/maintenance/hashkv", body: `{"revision":"99"}`},
		{path: "/v3/maintenance/downgrade", body: `{"action":"VALIDATE","version":"nonsense"}`},

		{path: "/v3/kv/rangestream", body: `{"key":"Zm9v"}`},
		{path: "/v3/kv/nonsense", body: `{}`},
		{path: "/v3/kv/range/", body: `{}`},
		{path: "/v3//kv/range", body: `{}`},
		{path: "/v3/./kv/range", body: `{}`},
		{path: "/v3/kv/range:verb", body: `{}`},
		{path: "/v3/kv/%72ange", body: `{"key":"Zm9v"}`},
		{path: "/v3/kv/range?key=Zm9v", body: `{}`},
		{path: "/v3/", body: `{}`},
		{path: "/v3", body: `{}`},
		{path: "/v3alpha/kv/range", body: `{"key":"Zm9v"}`},
		{path: "/v3beta/kv/range", body: `{"key":"Zm9v"}`},
		{path: "/v3beta/kv/nonsense", body: `{"key":"Zm9v"}`},
		{path: "/v3beta", body: `{}`},
		{path: "/v2/keys/foo", body: ``},
		{path: "/", body: ``},
	}
	for _, method := range []string{"GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "NONSENSE"} {
		all = append(all, posted{method: method, path: rng, body: `{"key":"Zm9v"}`}, posted{method: method, path: "/v3/none"}, posted{method: method, path: "/none"})
	}
	return all
}
