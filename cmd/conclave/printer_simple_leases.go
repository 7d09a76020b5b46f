package main

import (
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
)

func (p *simplePrinter) watch(r *clientv3.WatchResponse) error {
	for _, ev := range r.Events {
		fmt.Fprintln(p.out, ev.Type)
		if ev.PrevKv != nil {
			p.kv(ev.PrevKv)
		}
		p.kv(ev.Kv)
	}
	return nil
}

func (p *simplePrinter) leaseGrant(r *clientv3.LeaseGrantResponse) error {
	_, err := fmt.Fprintf(p.out, "lease %016x granted with TTL(%ds)\n", r.ID, r.TTL)
	return err
}

func (p *simplePrinter) leaseRevoke(id clientv3.LeaseID, _ *clientv3.LeaseRevokeResponse) error {
	_, err := fmt.Fprintf(p.out, "lease %016x revoked\n", id)
	return err
}

func (p *simplePrinter) leaseKeepAlive(r *clientv3.LeaseKeepAliveResponse) error {
	_, err := fmt.Fprintf(p.out, "lease %016x keepalived with TTL(%d)\n", r.ID, r.TTL)
	return err
}

func (p *simplePrinter) leaseTimeToLive(r *clientv3.LeaseTimeToLiveResponse, keys bool) error {
	if r.GrantedTTL == 0 && r.TTL == -1 {
		_, err := fmt.Fprintf(p.out, "lease %016x already expired\n", r.ID)
		return err
	}
	fmt.Fprintf(p.out, "lease %016x granted with TTL(%ds), remaining(%ds)", r.ID, r.GrantedTTL, r.TTL)
	if keys {
		fmt.Fprintf(p.out, ", attached keys(%s)", r.Keys)
	}
	_, err := fmt.Fprintln(p.out)
	return err
}

func (p *simplePrinter) leases(r *clientv3.LeaseLeasesResponse) error {
	fmt.Fprintf(p.out, "found %d leases\n", len(r.Leases))
	for _, l := range r.Leases {
		fmt.Fprintf(p.out, "%016x\n", l.ID)
	}
	return nil
}
