package api

import (
	"io"
	"net/http"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/metadata"
)

// What clients call their version stays in the metrics until the end of the process,
// and is counted before anybody knows who they are: a long one must not.
func TestMetrics_longAPIVersions(t *testing.T) {
	f := start(t, "http", nil)
	c := pb.NewKVClient(f.dialPlain(t))
	for i := range 8 {
		version := strings.Repeat("x", 512<<10) + string(rune('a'+i))
		ctx := metadata.AppendToOutgoingContext(call(t), rpctypes.MetadataClientAPIVersionKey, version)
		_, err := c.Range(ctx, &pb.RangeRequest{Key: []byte("k")})
		must(t, err)
	}
	resp, err := http.Get(f.metrics[0].JoinPath("/metrics").String())
	must(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	must(t, err)
	if len(body) > 1<<20 {
		t.Errorf("the metrics have %d bytes", len(body))
	}
	if !strings.Contains(string(body), `etcd_server_client_requests_total{client_api_version="unknown",type="unary"} 8`) {
		t.Error("the calls are not counted as of an unknown version")
	}
}
