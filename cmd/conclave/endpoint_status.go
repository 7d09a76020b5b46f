package main

import (
	"fmt"

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
	s, err := newSession(c)
	if err != nil {
		return err
	}
	targets, err := s.targets()
	if err != nil {
		return err
	}
	var list []endpointStatus
	failed := false
	for _, ep := range targets {
		resp, err := s.status(ep)
		if err != nil {
			failed = true
			fmt.Fprintf(c.App.ErrWriter, "Failed to get the status of endpoint %s (%v)\n", ep, err)
			continue
		}
		list = append(list, endpointStatus{Endpoint: ep, Status: resp})
	}
	if err := s.print.endpointStatus(list); err != nil {
		return err
	}
	if failed {
		return errSilent
	}
	return nil
}

func (s *session) status(endpoint string) (*clientv3.StatusResponse, error) {
	client, err := s.connectTo([]string{endpoint})
	if err != nil {
		return nil, err
	}
	defer client.Close() //nolint:errcheck // nothing more is asked of it
	ctx, cancel := s.timeout()
	defer cancel()
	return client.Status(ctx, endpoint)
}
