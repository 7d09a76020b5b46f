package main

import (
	"context"

	"github.com/urfave/cli/v2"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// endpointStatus is what one endpoint says of itself. Its JSON form is
// etcdctl's.
type endpointStatus struct {
	Endpoint string                   `json:"Endpoint"`
	Status   *clientv3.StatusResponse `json:"Status"`
}

// runEndpointStatus asks the endpoints one after the other. Those that do not
// answer are named on the error stream and make the exit code 1.
func runEndpointStatus(c *cli.Context) error {
	s, targets, err := newVisit(c)
	if err != nil {
		return err
	}
	var list []endpointStatus
	failed := askEach(s, targets, "status", func(ctx context.Context, client *clientv3.Client, ep string) (*clientv3.StatusResponse, error) {
		return client.Status(ctx, ep)
	}, func(ep string, resp *clientv3.StatusResponse) {
		list = append(list, endpointStatus{Endpoint: ep, Status: resp})
	})
	if err := s.print.endpointStatus(list); err != nil {
		return err
	}
	if failed != nil {
		return errSilent
	}
	return nil
}
