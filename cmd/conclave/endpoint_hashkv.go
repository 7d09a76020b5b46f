package main

import (
	"context"

	"github.com/urfave/cli/v2"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// endpointHashKV is the hash of one endpoint's keys. Its JSON form is etcdctl's.
type endpointHashKV struct {
	Endpoint string                   `json:"Endpoint"`
	HashKV   *clientv3.HashKVResponse `json:"HashKV"`
}

// runEndpointHashKV asks the endpoints one after the other. Those that do not
// answer are named on the error stream, and the last one's error ends the
// command.
func runEndpointHashKV(c *cli.Context) error {
	s, targets, err := newVisit(c)
	if err != nil {
		return err
	}
	var list []endpointHashKV
	failed := askEach(s, targets, "hash", func(ctx context.Context, client *clientv3.Client, ep string) (*clientv3.HashKVResponse, error) {
		return client.HashKV(ctx, ep, c.Int64("rev"))
	}, func(ep string, resp *clientv3.HashKVResponse) {
		list = append(list, endpointHashKV{Endpoint: ep, HashKV: resp})
	})
	if err := s.print.endpointHashKV(list); err != nil {
		return err
	}
	return failed
}
