package main

import (
	"flag"
	"testing"

	"github.com/urfave/cli/v2"
)

func TestTTLSeconds_forms(t *testing.T) {
	for text, want := range map[string]int64{
		"10": 10, "10s": 10, "1m30s": 90, "1500ms": 2, "1ns": 1, "0": 0, "-1": 0, "-5s": 0, "ten": 0, "": 0, "10 s": 0, "99999999999": 0,
	} {
		set := flag.NewFlagSet("", flag.ContinueOnError)
		set.String("ttl", text, "")
		got, err := ttlSeconds(cli.NewContext(nil, set, nil))
		if got != want && err == nil || (err == nil) != (want > 0) || err != nil && exitCode(err) != exitBadArgs {
			t.Errorf("%q: got %d, %v; want %d", text, got, err, want)
		}
	}
}
