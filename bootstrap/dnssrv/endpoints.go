package dnssrv

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
)

// Endpoints are the client URLs a domain publishes, in the records' order.
type Endpoints struct {
	TLS   []string // https://host:port, from _etcd-client-ssl._tcp
	Plain []string // http://host:port, from _etcd-client._tcp
}

// ClientEndpoints looks up where clients of domain connect; name is
// --discovery-srv-name or empty. It fails only when neither kind of record is
// found. Whether plaintext endpoints may be used is for the caller to decide:
// with etcdctl's --insecure-discovery=false they are dropped.
func ClientEndpoints(ctx context.Context, r *Resolver, domain, name string) (Endpoints, error) {
	if err := checkDomain(domain, name); err != nil {
		return Endpoints{}, err
	}
	var found Endpoints
	var errTLS, errPlain error
	found.TLS, errTLS = endpoints(ctx, r, domain, serviceFor("etcd-client", true, name), "https")
	found.Plain, errPlain = endpoints(ctx, r, domain, serviceFor("etcd-client", false, name), "http")
	if errTLS == nil || errPlain == nil {
		return found, nil
	}
	if errors.Is(errTLS, ErrNotFound) && errors.Is(errPlain, ErrNotFound) {
		return Endpoints{}, fmt.Errorf("--discovery-srv %s has no client records: %w, and %w", domain, errTLS, errPlain)
	}
	return Endpoints{}, fmt.Errorf("--discovery-srv %s: %w, and %w", domain, errTLS, errPlain)
}

func endpoints(ctx context.Context, r *Resolver, domain, service, scheme string) ([]string, error) {
	records, err := r.LookupSRV(ctx, service, domain)
	if err != nil {
		return nil, err
	}
	urls := make([]string, 0, len(records))
	for _, record := range records {
		host, err := hostName(record.Target)
		if err != nil || record.Port == 0 {
			continue // "." says that the service is not offered here (RFC 2782)
		}
		urls = append(urls, scheme+"://"+net.JoinHostPort(host, strconv.Itoa(int(record.Port))))
	}
	if len(urls) == 0 {
		return nil, &LookupError{Name: serviceName(service, domain), Reason: "no record names a host and a port", Err: ErrNotFound}
	}
	return urls, nil
}
