package main

import (
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		complain(err)
		os.Exit(1)
	}
}

func complain(err error) { fmt.Fprintln(os.Stderr, "faultfs:", err) }

func run(args []string) error {
	var o options
	set := flag.NewFlagSet("faultfs", flag.ContinueOnError)
	set.BoolVar(&o.forget, "forget", false, "remember what was not synced, for crash")
	set.BoolVar(&o.strictNames, "strict-names", false, "only the sync of a directory makes its names durable")
	if err := set.Parse(args); err != nil {
		return err
	}
	if set.NArg() != 2 {
		return fmt.Errorf("%d arguments: give BACKING and MOUNTPOINT", set.NArg())
	}
	var err error
	if o.backing, err = filepath.Abs(set.Arg(0)); err != nil {
		return err
	}
	if o.mountpoint, err = filepath.Abs(set.Arg(1)); err != nil {
		return err
	}
	syscall.Umask(0) // the kernel has applied that of whoever asks
	return attend(o)
}

// attend mounts, and unmounts when standard input ends or a signal comes.
func attend(o options) error {
	d, err := newDisk(o)
	if err != nil {
		return err
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	if err := d.mount(); err != nil {
		return err
	}
	defer d.end()
	fmt.Println("ok")
	served := make(chan error, 1)
	go func() { served <- d.serve(os.Stdin, os.Stdout) }()
	select {
	case <-signals:
		return nil
	case err := <-served:
		return err
	}
}
