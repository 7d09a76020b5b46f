package main

import (
	"fmt"

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
	s, err := newSession(c)
	if err != nil {
		return err
	}
	targets, err := s.targets()
	if err != nil {
		return err
	}
	var list []endpointHashKV
	var failed error
	for _, ep := range targets {
		resp, err := s.hashKV(ep, c.Int64("rev"))
		if err != nil {
			failed = err
			fmt.Fprintf(c.App.ErrWriter, "Failed to get the hash of endpoint %s (%v)\n", ep, err)
			continue
		}
		list = append(list, endpointHashKV{Endpoint: ep, HashKV: resp})
	}
	if err := s.print.endpointHashKV(list); err != nil {
		return err
	}
	return failed
}

func (s *session) hashKV(endpoint string, rev int64) (*clientv3.HashKVResponse, error) {
	client, err := s.connectTo([]string{endpoint})
	if err != nil {
		return nil, err
	}
	defer client.Close() //nolint:errcheck // nothing more is asked of it
	ctx, cancel := s.timeout()
	defer cancel()
	return client.HashKV(ctx, endpoint, rev)
}
