package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"

	"github.com/urfave/cli/v2"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/conclave-kv/conclave/daemon"
	"github.com/conclave-kv/conclave/internal/conclavepb"
)

func debugCommand() *cli.Command {
	return &cli.Command{
		Name:  "debug",
		Usage: "Looks into members, for when a cluster is stuck",
		Subcommands: []*cli.Command{{
			Name:  "raft",
			Usage: "Prints how each endpoint sees itself, the log and the other members",
			Description: "Each member answers for itself, without a quorum, and also before it lets clients in.\n" +
				"A member that does not run is looked into by --data-dir; nothing is changed there.",
			Flags: []cli.Flag{
				&cli.BoolFlag{Name: "cluster", Usage: "use all endpoints from the cluster member list"},
				&cli.StringFlag{Name: "data-dir", Usage: "look into this directory of a member that does not run, instead of asking endpoints"},
				&cli.StringFlag{Name: "wal-dir", Usage: "where the log of that member is, if not in its --data-dir"},
			},
			Action: runDebugRaft,
		}},
	}
}

// raftAnswer is what one endpoint, or directory, has to say.
type raftAnswer struct {
	Endpoint string                 `json:"endpoint"`
	Report   *conclavepb.RaftReport `json:"report,omitempty"`
	Error    string                 `json:"error,omitempty"`
}

// runDebugRaft asks all endpoints at the same time, one goroutine each, and
// waits for all of them. Those that do not answer make the exit code 1.
func runDebugRaft(c *cli.Context) error {
	s, err := newSession(c)
	if err != nil {
		return err
	}
	if dir := c.String("data-dir"); dir != "" {
		return s.inspect(dir, c.String("wal-dir"))
	}
	if c.String("wal-dir") != "" {
		return failf(exitBadArgs, "--wal-dir goes with --data-dir; give both or none")
	}
	targets, err := s.targets()
	if err != nil {
		return err
	}
	answers := make([]raftAnswer, len(targets))
	var wg sync.WaitGroup
	for i, ep := range targets {
		wg.Go(func() { answers[i] = s.raftReport(ep) })
	}
	wg.Wait()
	if err := s.print.raftReports(answers); err != nil {
		return err
	}
	for _, a := range answers {
		if a.Error != "" {
			return errSilent
		}
	}
	return nil
}

// inspect looks into the directory of a member that does not run.
func (s *session) inspect(dir, walDir string) error {
	if s.c.Bool("cluster") {
		return failf(exitBadArgs, "--data-dir is for a member that does not run, --cluster for those that do; give one of them")
	}
	r, err := daemon.Inspect(dir, walDir)
	if err != nil {
		return err
	}
	return s.print.raftReports([]raftAnswer{{Endpoint: dir, Report: r}})
}

// raftReport asks one endpoint.
func (s *session) raftReport(endpoint string) raftAnswer {
	r, err := s.askReport(endpoint)
	switch status.Code(err) {
	case codes.OK:
		return raftAnswer{Endpoint: endpoint, Report: r}
	case codes.Unimplemented:
		err = errors.New("it knows no such report: it is not conclave, or an older version")
	case codes.DeadlineExceeded:
		err = fmt.Errorf("no answer within %v: it does not run, or has not opened its log yet (it says in its own log what it waits for)", s.c.Duration("command-timeout"))
	case codes.Unavailable:
		err = errors.New(status.Convert(err).Message())
	}
	return raftAnswer{Endpoint: endpoint, Error: err.Error()}
}

func (s *session) askReport(endpoint string) (*conclavepb.RaftReport, error) {
	cfg, err := s.clientConfig([]string{endpoint})
	if err != nil {
		return nil, err
	}
	s.forReports(cfg, endpoint)
	client, err := clientv3.New(*cfg)
	if err != nil {
		return nil, err
	}
	defer client.Close() //nolint:errcheck // nothing more is asked of it
	ctx, cancel := s.timeout()
	defer cancel()
	return conclavepb.NewDebugClient(client.ActiveConnection()).Raft(ctx, &conclavepb.RaftReportRequest{})
}

// A connection that says that it is for reports only is let in before a member
// is ready: over TLS by an application protocol, else by its first bytes.
const (
	reportProtocol = "conclave-debug/1"
	reportPreface  = "DEBUG * CONCLAVE/1.0\r\n\r\n"
)

func (s *session) forReports(cfg *clientv3.Config, endpoint string) {
	if cfg.TLS != nil && !strings.HasPrefix(endpoint, "http://") {
		cfg.TLS.NextProtos = []string{reportProtocol}
		return
	}
	dial := s.through
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	cfg.DialOptions = append(cfg.DialOptions, dialWith(func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		if _, err := conn.Write([]byte(reportPreface)); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		return conn, nil
	}))
}
