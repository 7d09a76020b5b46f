package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/conclave-kv/conclave/bootstrap/dnssrv"
	"github.com/conclave-kv/conclave/internal/durable"
	"github.com/conclave-kv/conclave/pki"
)

// The choices of `conclave dev`.
const (
	devDefaultDir     = "conclave-dev"
	devDefaultMembers = 3
	devMaxMembers     = 7
	devDefaultTimeout = time.Minute
)

func devCommand() *cli.Command {
	return &cli.Command{
		Name:  "dev",
		Usage: "Runs a cluster on this machine to try things with",
		Description: "Starts a DNS server for " + devDomain + " on loopback and members that find each other through it,\n" +
			"form a cluster over mutual TLS, and keep their data in --dir for the next start. It prints lines to\n" +
			"paste for conclave and etcdctl. Ctrl-C stops everything; a second one kills what is left.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "dir", Value: devDefaultDir, Usage: "directory of the cluster; made if missing"},
			&cli.IntFlag{Name: "members", Value: devDefaultMembers, Usage: "number of members of a new cluster, 1 to 7, better odd"},
			&cli.BoolFlag{Name: "reset", Usage: "delete the cluster in --dir first, and start a new one"},
			&cli.DurationFlag{Name: "timeout", Value: devDefaultTimeout, Usage: "give up when the members are not healthy after this time"},
		},
		Action: runDev,
	}
}

// dev is one run of `conclave dev`.
type dev struct {
	dir     devDir
	members int // as asked for, 0 for not said
	reset   bool
	timeout time.Duration
	out     *devOut

	// Filled in on the way, in this order.
	lock    *durable.DirLock
	state   devState
	fresh   bool // the directory holds no cluster yet
	secret  *pki.Secret
	dns     *dnssrv.Server
	cluster *devCluster
	clients *devClients
}

func runDev(c *cli.Context) error {
	d := &dev{reset: c.Bool("reset"), timeout: c.Duration("timeout"), out: &devOut{w: c.App.Writer}}
	if c.NArg() != 0 {
		return failf(exitBadArgs, "dev command accepts no arguments, only flags: %q", c.Args().First())
	}
	if c.IsSet("members") {
		d.members = c.Int("members")
		if d.members < 1 || d.members > devMaxMembers {
			return failf(exitBadArgs, "--members %d: give a number from 1 to %d, better an odd one", d.members, devMaxMembers)
		}
	}
	if d.timeout <= 0 {
		return failf(exitBadArgs, "--timeout %s: give a time above zero, as in 60s", d.timeout)
	}
	if c.String("dir") == "" {
		return failf(exitBadArgs, "--dir is empty: name a directory, or leave the flag out for ./%s", devDefaultDir)
	}
	dir, err := filepath.Abs(c.String("dir"))
	if err != nil {
		return failf(exitBadArgs, "--dir %q: %w", c.String("dir"), err)
	}
	d.dir = devDir(dir)
	setClientLog(c)
	interrupt := catchInterrupts(c.Context)
	defer interrupt.release()
	return d.run(interrupt)
}

// run starts everything, waits for an interrupt, and stops everything, in
// reverse order and whatever happened. It returns nil after an interrupt.
func (d *dev) run(interrupt *devInterrupt) (err error) {
	defer func() { err = errors.Join(err, d.close(interrupt)) }()
	for _, step := range []func(context.Context) error{
		d.openDir, d.settle, d.prepare, d.startDNS, d.startMembers, d.awaitHealthy, d.show,
	} {
		if err := step(interrupt.ctx); err != nil {
			if interrupt.ctx.Err() != nil {
				return nil // what failed was cut short
			}
			return err
		}
	}
	select {
	case <-interrupt.ctx.Done():
		return nil
	case <-d.cluster.allGone:
		return errors.New("no member runs any more; their logs say why")
	}
}

// close stops what run started.
func (d *dev) close(interrupt *devInterrupt) error {
	if d.cluster != nil {
		d.cluster.stop(d.stopOrder(), interrupt.hurry)
	}
	if d.clients != nil {
		d.clients.close()
	}
	var err error
	if d.dns != nil {
		err = d.dns.Close()
	}
	if d.lock != nil {
		err = errors.Join(err, d.lock.Unlock(), d.dir.removeIfEmpty())
	}
	if d.cluster != nil {
		d.out.line("stopped", "the data stays in %s: the same command continues, --reset starts anew", d.dir)
	}
	return err
}

// startDNS serves the zone in which the members look for each other.
func (d *dev) startDNS(context.Context) error {
	server, err := dnssrv.NewServer(devDomain, d.state.records(), devNoLog)
	if err != nil {
		return err
	}
	if err := server.Start(d.state.dnsAddr()); err != nil {
		return err
	}
	d.dns = server
	d.out.line("dns", "%s answers for %s: %d members in %s", d.state.dnsAddr(), devDomain,
		len(d.state.Members), devPeerService+"."+devDomain)
	return nil
}

// startMembers starts a process for each member.
func (d *dev) startMembers(context.Context) error {
	d.cluster = newDevCluster(d.out)
	for _, m := range d.state.Members {
		if err := d.cluster.start(m.Name, d.dir, d.state.arguments(d.dir, m)); err != nil {
			return fmt.Errorf("start %s: %w", m.Name, err)
		}
	}
	return nil
}
