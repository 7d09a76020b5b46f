package main

import clientv3 "go.etcd.io/etcd/client/v3"

// Watches and leases are written as etcd's client has them, not as they come
// over the wire, and --hex changes nothing: so does etcdctl.

func (p *jsonPrinter) watch(r *clientv3.WatchResponse) error           { return p.write(r) }
func (p *jsonPrinter) leaseGrant(r *clientv3.LeaseGrantResponse) error { return p.write(r) }
func (p *jsonPrinter) leases(r *clientv3.LeaseLeasesResponse) error    { return p.write(r) }

func (p *jsonPrinter) leaseRevoke(_ clientv3.LeaseID, r *clientv3.LeaseRevokeResponse) error {
	return p.write(r)
}

func (p *jsonPrinter) leaseKeepAlive(r *clientv3.LeaseKeepAliveResponse) error { return p.write(r) }

func (p *jsonPrinter) leaseTimeToLive(r *clientv3.LeaseTimeToLiveResponse, _ bool) error {
	return p.write(r)
}
