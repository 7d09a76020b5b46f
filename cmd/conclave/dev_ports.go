package main

import (
	"context"
	"fmt"
	"net"
	"time"
)

const (
	// devDNSPort is tried first for DNS, devClientPorts for the members: the
	// ports of etcd, those of its Procfile for more than one member on a
	// machine, and more of that kind.
	devDNSPort = 2353
	// devPortTries bounds the search for each free port or pair; the next one
	// is devPortStep further, which keeps the three kinds of port apart, and
	// away from devEphemeral.
	devPortTries = 100
	devPortStep  = 10
	// devEphemeral is where Linux takes ports for outgoing connections from: a
	// member could find its port taken by one at the next start.
	devEphemeral = 32768
	// devPortPatience is how long members that a killed dev left behind may
	// take to give their ports back.
	devPortPatience = 10 * time.Second
	devPortPoll     = 50 * time.Millisecond
)

var devClientPorts = [devMaxMembers]int{2379, 22379, 32379, 12379, 14379, 24379, 26379}

// devDetour is a port that dev uses because the usual one is taken.
type devDetour struct {
	use         string
	port, usual int
}

// String looks for who has the usual port.
func (d devDetour) String() string {
	return fmt.Sprintf("%d for %s instead of %s", d.port, d.use, takenBy(d.usual))
}

// chooseDevState names n members and finds them ports: the usual ones where
// they are free, and detours from those that are not. free tells whether a port
// can be had; freeForDNS asks for more.
func chooseDevState(n int, free, freeForDNS func(port int) bool) (s devState, detours []devDetour, err error) {
	both := func(port int) bool { return free(port) && freeForDNS(port) }
	pair := func(port int) bool { return free(port) && free(port+1) }
	find := func(usual int, use string, ok func(int) bool) (int, error) {
		for i := range devPortTries {
			port := usual + i*devPortStep
			if usual+devPortTries*devPortStep > devEphemeral {
				port = usual - i*devPortStep
			}
			if !ok(port) {
				continue
			}
			if i > 0 {
				detours = append(detours, devDetour{use: use, port: port, usual: usual})
			}
			return port, nil
		}
		return 0, fmt.Errorf("no free port for %s: tried %d, and %d more in steps of %d", use, usual, devPortTries-1, devPortStep)
	}
	s.Format = devStateFormat
	if s.DNSPort, err = find(devDNSPort, "DNS", both); err != nil {
		return s, nil, err
	}
	for i := range n {
		m := devMemberState{Name: devMemberName(i)}
		if m.ClientPort, err = find(devClientPorts[i], "clients of "+m.Name, pair); err != nil {
			return s, nil, err
		}
		m.PeerPort = m.ClientPort + 1
		s.Members = append(s.Members, m)
	}
	return s, detours, nil
}

// takenBy says of a usual port, or of the one after it, who has it.
func takenBy(port int) string {
	for _, p := range []int{port, port + 1} {
		if t, ok := findTaker(p); ok {
			return fmt.Sprintf("%d, which %s has", p, t)
		}
	}
	return fmt.Sprintf("%d, which is taken", port)
}

// freeTCP reports whether a member could listen on the port.
func freeTCP(port int) bool {
	l, err := net.Listen("tcp4", devAddr(port))
	if err != nil {
		return false
	}
	return l.Close() == nil
}

// freeUDP is freeTCP for datagrams.
func freeUDP(port int) bool {
	c, err := net.ListenPacket("udp4", devAddr(port))
	if err != nil {
		return false
	}
	return c.Close() == nil
}

// awaitPorts refuses to continue a cluster when somebody has one of its ports.
func (d *dev) awaitPorts(ctx context.Context) error {
	d.awaitStrays(ctx)
	for _, p := range d.state.allPorts() {
		if freeTCP(p.number) && (!p.udp || freeUDP(p.number)) {
			continue
		}
		who := "another program"
		if t, known := findTaker(p.number); known {
			who = t.String()
		}
		return fmt.Errorf("port %d (%s) is taken by %s: stop that, or start another cluster with another --dir, or this one anew with --reset",
			p.number, p.use, who)
	}
	return nil
}

// awaitStrays waits for members of an earlier run to end, as they do by
// themselves after a dev that was killed. It returns one that does not.
func (d *dev) awaitStrays(ctx context.Context) *devTaker {
	ctx, cancel := context.WithTimeout(ctx, devPortPatience)
	defer cancel()
	tick := time.NewTicker(devPortPoll)
	defer tick.Stop()
	for said := false; ; said = true {
		stray := d.findStray()
		if stray == nil {
			return nil
		}
		if !said {
			d.out.line("waiting", "for process %d, a member of an earlier run, to end", stray.pid)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return stray
		}
	}
}

// findStray finds a process that runs from dev's copy of the program and has
// a port of the cluster.
func (d *dev) findStray() *devTaker {
	for _, p := range d.state.allPorts() {
		if freeTCP(p.number) {
			continue
		}
		if t, ok := findTaker(p.number); ok && t.runs(d.dir.programPath()) {
			return &t
		}
	}
	return nil
}
