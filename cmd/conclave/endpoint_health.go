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
	s, targets, err := newVisit(c)
	if err != nil {
		return err
	}
	configs := make([]*clientv3.Config, len(targets))
	for i, ep := range targets {
		if configs[i], err = s.clientConfig([]string{ep}); err != nil {
			return err
		}
	}
	results := make([]endpointHealth, len(targets))
	var wg sync.WaitGroup
	for i, cfg := range configs {
		wg.Go(func() { results[i] = s.health(cfg, targets[i]) })
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

// health reads a key, which takes a quorum, and then the alarms. Making the
// client logs in, so that it may fail for one endpoint and not for the others.
func (s *session) health(cfg *clientv3.Config, endpoint string) endpointHealth {
	client, err := clientv3.New(*cfg)
	if err != nil {
		return endpointHealth{Endpoint: endpoint, Error: err.Error()}
	}
	defer client.Close() //nolint:errcheck // nothing more is asked of it
	ctx, cancel := s.timeout()
	defer cancel()
	start := time.Now()
	_, err = client.Get(ctx, "health")
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
