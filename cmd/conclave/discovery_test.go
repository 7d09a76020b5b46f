package main

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/rs/zerolog"

	"github.com/conclave-kv/conclave/bootstrap/dnssrv"
)

// cmdZone starts a DNS server for the zone example.test and sets a variable to
// its address. Each record is SERVICE=HOST:PORT or HOST=ADDRESS, with names
// inside the zone.
func cmdZone(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: zone VAR RECORD...")
	}
	const origin = "example.test"
	var records []dnssrv.Record
	for _, arg := range args[1:] {
		left, right, _ := strings.Cut(arg, "=")
		if !strings.HasPrefix(left, "_") {
			records = append(records, dnssrv.Record{Host: left + "." + origin, Addr: netip.MustParseAddr(right)})
			continue
		}
		host, portText, _ := strings.Cut(right, ":")
		port, err := strconv.ParseUint(portText, 10, 16)
		ts.Check(err)
		records = append(records, dnssrv.Record{Service: left, Host: host + "." + origin, Port: uint16(port)})
	}
	server, err := dnssrv.NewServer(origin, records, zerolog.Nop())
	ts.Check(err)
	ts.Check(server.Start("127.0.0.1:0"))
	ts.Defer(func() { ts.Check(server.Close()) })
	ts.Setenv(args[0], server.Addr())
}
