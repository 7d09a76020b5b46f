package main

import (
	"fmt"
	"strings"

	"github.com/conclave-kv/conclave/bootstrap/dnssrv"
)

// findEndpoints fills in the endpoints: those of --discovery-srv, else those
// of --endpoints. What DNS names is also dialled through the same resolver, so
// that --discovery-srv-server decides about addresses too.
func (s *session) findEndpoints() error {
	domain, server := s.c.String("discovery-srv"), s.c.String("discovery-srv-server")
	if domain == "" {
		if server != "" {
			return failf(exitBadArgs, "--discovery-srv-server %q needs --discovery-srv: add it with the domain that holds the records", server)
		}
		for _, ep := range s.c.StringSlice("endpoints") {
			if ep = strings.TrimSpace(ep); ep == "" {
				return failf(exitBadArgs, "--endpoints holds an empty endpoint: write host:port, as in 127.0.0.1:2379")
			}
			s.endpoints = append(s.endpoints, ep)
		}
		return nil
	}
	resolver, err := dnssrv.NewResolver(dnssrv.ResolverOptions{Server: server})
	if err != nil {
		return withCode(exitBadArgs, err)
	}
	ctx, cancel := s.timeout()
	defer cancel()
	found, err := dnssrv.ClientEndpoints(ctx, resolver, domain, s.c.String("discovery-srv-name"))
	if err != nil {
		return err
	}
	s.endpoints = found.TLS
	s.through = resolver.DialContext
	if len(s.endpoints) > 0 {
		// Records with and without TLS are never mixed: one forged plain
		// record would be enough to read along.
		return nil
	}
	// Who gives certificates means TLS: the default, which is etcdctl's, would send
	// everything in the clear at the word of a DNS answer.
	means := s.c.String("cacert") != "" || s.c.String("cert") != "" || s.c.String("key") != ""
	if s.c.Bool("insecure-discovery") && (!means || s.c.IsSet("insecure-discovery")) {
		s.endpoints = found.Plain
		return nil
	}
	for _, ep := range found.Plain {
		fmt.Fprintf(s.c.App.ErrWriter, "ignoring discovered insecure endpoint %q\n", ep)
	}
	return fmt.Errorf("--discovery-srv %s has only endpoints without TLS: publish _etcd-client-ssl._tcp.%s, or allow them with --insecure-discovery=true", domain, domain)
}
