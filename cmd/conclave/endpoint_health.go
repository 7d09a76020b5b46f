package main

import (
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v2"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// endpointHealth is how one endpoint is. Its JSON form is etcdctl's.
type endpointHealth struct {
	Endpoint string `json:"endpoint"`
	Health   bool   `json:"health"`
	Took     string `json:"took"`
	Error    string `json:"error,omitempty"`
}

// runEndpointHealth asks all endpoints at the same time, one goroutine each,
// and waits for all of them.
func runEndpointHealth(c *cli.Context) error {
	s, err := newSession(c)
	if err != nil {
		return err
	}
	targets, err := s.targets()
	if err != nil {
		return err
	}
	clients := make([]*clientv3.Client, len(targets))
	for i, ep := range targets {
		if clients[i], err = s.connectTo([]string{ep}); err != nil {
			return err
		}
		defer clients[i].Close() //nolint:errcheck // the process ends next
	}
	results := make([]endpointHealth, len(targets))
	var wg sync.WaitGroup
	for i, client := range clients {
		wg.Go(func() { results[i] = s.health(client, targets[i]) })
	}
	wg.Wait()
	if err := s.print.endpointHealth(results); err != nil {
		return err
	}
	for _, r := range results {
		if r.Error != "" {
			return errors.New("unhealthy cluster")
		}
	}
	return nil
}

// health reads a key, which takes a quorum, and then the alarms.
func (s *session) health(client *clientv3.Client, endpoint string) endpointHealth {
	ctx, cancel := s.timeout()
	defer cancel()
	start := time.Now()
	_, err := client.Get(ctx, "health")
	h := endpointHealth{Endpoint: endpoint, Took: time.Since(start).String()}
	if err != nil && !errors.Is(err, rpctypes.ErrPermissionDenied) {
		h.Error = err.Error()
		return h
	}
	resp, err := client.AlarmList(ctx)
	switch {
	case err != nil:
		h.Error = "Unable to fetch the alarm list"
	case len(resp.Alarms) > 0:
		h.Error = "Active Alarm(s): " + alarmNames(resp.Alarms)
	default:
		h.Health = true
	}
	return h
}

func alarmNames(alarms []*pb.AlarmMember) string {
	var b strings.Builder
	for _, a := range alarms {
		switch a.GetAlarm() {
		case pb.AlarmType_NOSPACE, pb.AlarmType_CORRUPT:
			b.WriteString(a.GetAlarm().String() + " ")
		default:
			b.WriteString("UNKNOWN ")
		}
	}
	return b.String()
}
