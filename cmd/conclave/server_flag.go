package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/conclave-kv/conclave/daemon"
)

// serverFlag is one flag of the server form. Its value comes as text from the
// command line, the environment or the configuration file.
type serverFlag struct {
	name, group, usage string
	boolean            bool
	duration           bool // a file may say it in nanoseconds
	meaningless        bool // what it accepts changes nothing
	set                func(*daemon.Config, string) error
}

// isServerFlag reports whether the server form knows the flag, be it only to
// refuse it.
func isServerFlag(name string) bool {
	_, ok := serverFlagNamed(name)
	return ok
}

// serverFlagNamed finds a flag among those conclave honours, those of etcd it
// refuses, those etcd itself ignores, and those of earlier etcds.
func serverFlagNamed(name string) (serverFlag, bool) {
	for _, f := range serverFlags() {
		if f.name == name {
			return f, true
		}
	}
	for _, r := range refusedFlags {
		if r.name == name {
			return r.flag(), true
		}
	}
	if slices.Contains(ignoredFlags, name) {
		return serverFlag{name: name, boolean: true, set: func(*daemon.Config, string) error { return nil }}, true
	}
	return experimentalFlag(name)
}

// serverFlagNames lists the flags worth suggesting.
func serverFlagNames() []string {
	var out []string
	for _, f := range serverFlags() {
		out = append(out, f.name)
	}
	return out
}

// The constructors below bind a flag to a field of daemon.Config.

func textFlag(name, usage string, field func(*daemon.Config) *string) serverFlag {
	return serverFlag{name: name, usage: usage, set: func(c *daemon.Config, s string) error {
		*field(c) = s
		return nil
	}}
}

func boolFlag(name, usage string, field func(*daemon.Config) *bool) serverFlag {
	return serverFlag{name: name, usage: usage, boolean: true, set: func(c *daemon.Config, s string) error {
		v, err := strconv.ParseBool(s)
		if err != nil {
			return errors.New("use true or false")
		}
		*field(c) = v
		return nil
	}}
}

func urlsFlag(name, usage string, field func(*daemon.Config) *daemon.URLs) serverFlag {
	return serverFlag{name: name, usage: usage, set: func(c *daemon.Config, s string) (err error) {
		*field(c), err = daemon.ParseURLs(s)
		return err
	}}
}

func listFlag(name, usage string, field func(*daemon.Config) *[]string) serverFlag {
	return serverFlag{name: name, usage: usage, set: func(c *daemon.Config, s string) error {
		var out []string
		for v := range strings.SplitSeq(s, ",") {
			if v = strings.TrimSpace(v); v != "" && !slices.Contains(out, v) {
				out = append(out, v)
			}
		}
		*field(c) = out
		return nil
	}}
}

func durationFlag(name, usage string, field func(*daemon.Config) *time.Duration) serverFlag {
	return serverFlag{name: name, usage: usage, duration: true, set: func(c *daemon.Config, s string) error {
		d, err := time.ParseDuration(s)
		if err != nil {
			return errors.New("use a duration with a unit, as in 5s or 2h")
		}
		*field(c) = d
		return nil
	}}
}

// milliFlag is a duration written as a plain number of milliseconds.
func milliFlag(name, usage string, field func(*daemon.Config) *time.Duration) serverFlag {
	return serverFlag{name: name, usage: usage, set: func(c *daemon.Config, s string) error {
		n, err := strconv.ParseUint(s, 0, 32)
		if err != nil {
			return errors.New("use a plain number of milliseconds")
		}
		*field(c) = time.Duration(n) * time.Millisecond
		return nil
	}}
}

// number is what numeric flags are stored in.
type number interface {
	~uint | ~uint32 | ~uint64 | ~int64
}

func numberFlag[T number](name, usage string, field func(*daemon.Config) *T) serverFlag {
	return serverFlag{name: name, usage: usage, set: func(c *daemon.Config, s string) error {
		v, err := parseNumber[T](s)
		if err != nil {
			return err
		}
		*field(c) = v
		return nil
	}}
}

func parseNumber[T number](s string) (T, error) {
	var zero T
	if signed := zero-1 > zero; !signed { // int64 is the only signed one
		n, err := strconv.ParseInt(s, 0, 64)
		if err != nil {
			return 0, errors.New("use a whole number")
		}
		return T(n), nil
	}
	n, err := strconv.ParseUint(s, 0, 64)
	if v := T(n); err == nil && uint64(v) == n {
		return v, nil
	}
	return 0, fmt.Errorf("use a whole number from 0 to %d", uint64(zero-1))
}
