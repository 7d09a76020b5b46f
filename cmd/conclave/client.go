package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/urfave/cli/v2"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/grpclog"
)

// session is what one client command works with: how to connect, and how to
// print.
type session struct {
	c         *cli.Context
	spec      clientv3.ConfigSpec // without endpoints
	endpoints []string
	through   dialer // nil: the system's resolver
	print     printer
}

// newSession reads the global flags and the environment. It connects to
// nothing except, with --discovery-srv, to a DNS server.
func newSession(c *cli.Context) (*session, error) {
	if err := applyEnv(c); err != nil {
		return nil, err
	}
	setClientLog(c)
	s := &session{c: c, spec: clientv3.ConfigSpec{
		DialTimeout:        c.Duration("dial-timeout"),
		KeepAliveTime:      c.Duration("keepalive-time"),
		KeepAliveTimeout:   c.Duration("keepalive-timeout"),
		MaxCallSendMsgSize: c.Int("max-request-bytes"),
		MaxCallRecvMsgSize: c.Int("max-recv-bytes"),
	}}
	var err error
	if s.spec.Secure, err = secureConfig(c); err != nil {
		return nil, err
	}
	if s.spec.Auth, err = authConfig(c); err != nil {
		return nil, err
	}
	if s.print, err = newPrinter(c.String("write-out"), c.Bool("hex"), c.App.Writer, c.App.ErrWriter); err != nil {
		return nil, err
	}
	return s, s.findEndpoints()
}

// setClientLog keeps grpc to its errors unless --debug is given.
func setClientLog(c *cli.Context) {
	w := c.App.ErrWriter
	if c.Bool("debug") {
		grpclog.SetLoggerV2(grpclog.NewLoggerV2WithVerbosity(w, w, w, 4))
		return
	}
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(discard{}, discard{}, w))
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// secureConfig reads the TLS flags. An empty value given on purpose is refused,
// since it is usually a variable that was not set.
func secureConfig(c *cli.Context) (*clientv3.SecureConfig, error) {
	for _, name := range []string{"cert", "key", "cacert"} {
		if c.IsSet(name) && c.String(name) == "" {
			return nil, failf(exitBadArgs, "empty string is passed to --%s option", name)
		}
	}
	secure := &clientv3.SecureConfig{
		Cert:               c.String("cert"),
		Key:                c.String("key"),
		Cacert:             c.String("cacert"),
		InsecureTransport:  c.Bool("insecure-transport"),
		InsecureSkipVerify: c.Bool("insecure-skip-tls-verify"),
	}
	if !c.Bool("insecure-discovery") {
		secure.ServerName = c.String("discovery-srv")
	}
	return secure, nil
}

// authConfig reads who the caller is; nil is nobody.
func authConfig(c *cli.Context) (*clientv3.AuthConfig, error) {
	g := globals(c)
	user, password, token := g.String("user"), g.String("password"), g.String("auth-jwt-token")
	switch {
	case token != "":
		return &clientv3.AuthConfig{Token: token}, nil
	case user == "":
		return nil, nil
	case password != "":
		return &clientv3.AuthConfig{Username: user, Password: password}, nil
	}
	if name, pass, ok := strings.Cut(user, ":"); ok {
		return &clientv3.AuthConfig{Username: name, Password: pass}, nil
	}
	pass, err := askPassword(c)
	if err != nil {
		return nil, err
	}
	return &clientv3.AuthConfig{Username: user, Password: pass}, nil
}

// connect returns a client for the session's endpoints. The caller closes it.
func (s *session) connect() (*clientv3.Client, error) {
	return s.connectTo(s.endpoints)
}

// connectTo returns a client for other endpoints. Connecting itself happens
// with the first call.
func (s *session) connectTo(endpoints []string) (*clientv3.Client, error) {
	cfg, err := s.clientConfig(endpoints)
	if err != nil {
		return nil, err
	}
	client, err := clientv3.New(*cfg)
	if err != nil {
		return nil, withCode(exitBadConnection, err)
	}
	return client, nil
}

func (s *session) clientConfig(endpoints []string) (*clientv3.Config, error) {
	spec := s.spec
	spec.Endpoints = endpoints
	cfg, err := clientv3.NewClientConfig(&spec, nil)
	if err != nil {
		return nil, withCode(exitBadArgs, tlsHint(&spec, err))
	}
	if !s.c.Bool("debug") {
		cfg.Logger = zap.NewNop() // it would tell each refusal before the line that does
	}
	// A proxy variable meant for the web must not lead the way to a cluster.
	cfg.DialOptions = []grpc.DialOption{grpc.WithNoProxy()}
	if s.through != nil {
		cfg.DialOptions = append(cfg.DialOptions, dialWith(s.through))
	}
	return cfg, nil
}

// tlsHint names the flag whose file could not be used.
func tlsHint(spec *clientv3.ConfigSpec, err error) error {
	if p, ok := errors.AsType[*os.PathError](err); ok {
		for flag, path := range map[string]string{"cert": spec.Secure.Cert, "key": spec.Secure.Key, "cacert": spec.Secure.Cacert} {
			if path == p.Path {
				return fmt.Errorf("--%s: %w", flag, err)
			}
		}
	}
	return err
}

// timeout returns a context that ends after --command-timeout.
func (s *session) timeout() (context.Context, context.CancelFunc) {
	return context.WithTimeout(s.c.Context, s.c.Duration("command-timeout"))
}

// dialer is how a resolver other than the system's connects.
type dialer func(ctx context.Context, network, address string) (net.Conn, error)

// dialWith has grpc connect with dial.
func dialWith(dial dialer) grpc.DialOption {
	return grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
		return dial(ctx, "tcp", address)
	})
}

// withClient opens a session, connects, and calls do with a context that ends
// after --command-timeout.
func withClient(c *cli.Context, do func(context.Context, *session, *clientv3.Client) error) error {
	s, err := newSession(c)
	if err != nil {
		return err
	}
	client, err := s.connect()
	if err != nil {
		return err
	}
	defer client.Close() //nolint:errcheck // the process ends next
	ctx, cancel := s.timeout()
	defer cancel()
	return do(ctx, s, client)
}
