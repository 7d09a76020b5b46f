package main

import (
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func (p *fieldsPrinter) watch(r *clientv3.WatchResponse) error {
	p.header(r.Header)
	for _, ev := range r.Events {
		p.field("Type", ev.Type)
		if ev.PrevKv != nil {
			p.kv("Prev", ev.PrevKv)
		}
		p.kv("", ev.Kv)
	}
	return nil
}

// lease writes the id of a lease: decimal or, with --hex, hexadecimal at full
// width.
func (p *fieldsPrinter) lease(id clientv3.LeaseID) {
	if p.hex {
		p.field("ID", fmt.Sprintf("%016x", id))
	} else {
		p.field("ID", id)
	}
}

func (p *fieldsPrinter) leaseGrant(r *clientv3.LeaseGrantResponse) error {
	p.header(r.ResponseHeader)
	p.lease(r.ID)
	p.field("TTL", r.TTL)
	return nil
}

func (p *fieldsPrinter) leaseRevoke(_ clientv3.LeaseID, r *clientv3.LeaseRevokeResponse) error {
	p.header((*pb.LeaseRevokeResponse)(r).GetHeader())
	return nil
}

func (p *fieldsPrinter) leaseKeepAlive(r *clientv3.LeaseKeepAliveResponse) error {
	p.header(r.ResponseHeader)
	p.lease(r.ID)
	p.field("TTL", r.TTL)
	return nil
}

func (p *fieldsPrinter) leaseTimeToLive(r *clientv3.LeaseTimeToLiveResponse, _ bool) error {
	p.header(r.ResponseHeader)
	p.lease(r.ID)
	p.field("TTL", r.TTL)
	p.field("GrantedTTL", r.GrantedTTL)
	for _, key := range r.Keys {
		p.text("Key", string(key))
	}
	return nil
}

func (p *fieldsPrinter) leases(r *clientv3.LeaseLeasesResponse) error {
	p.header(r.ResponseHeader)
	for _, l := range r.Leases {
		p.lease(l.ID)
	}
	return nil
}
