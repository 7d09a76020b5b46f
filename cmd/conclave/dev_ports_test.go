package main

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"testing"
)

func anyPort(int) bool { return true }

func TestDevPorts_usualOnes(t *testing.T) {
	s, detours, err := chooseDevState(7, anyPort, anyPort)
	if err != nil || len(detours) != 0 {
		t.Fatalf("detours %v, error %v", detours, err)
	}
	const want = "2379/2380, 22379/22380, 32379/32380, 12379/12380, 14379/14380, 24379/24380, 26379/26380 for clients/peers, 2353 for DNS"
	if got := s.ports(); got != want {
		t.Errorf("ports %s\nwant  %s", got, want)
	}
	if err := s.check(); err != nil {
		t.Errorf("the chosen state is refused: %v", err)
	}
}

func TestDevPorts_someTaken(t *testing.T) {
	taken := map[int]bool{2353: true, 2363: true, 2380: true, 22379: true, 22389: true}
	s, detours, err := chooseDevState(3, func(p int) bool { return !taken[p] }, func(p int) bool { return p != 2373 })
	if err != nil {
		t.Fatal(err)
	}
	if got, want := s.ports(), "2389/2390, 22399/22400, 32379/32380 for clients/peers, 2383 for DNS"; got != want {
		t.Errorf("ports %s\nwant  %s", got, want)
	}
	if len(detours) != 3 || !strings.Contains(detours[1].String(), "2389 for clients of m1 instead of 2379") {
		t.Errorf("detours %v", detours)
	}
}

func TestDevPorts_noneFree(t *testing.T) {
	_, _, err := chooseDevState(1, func(int) bool { return false }, anyPort)
	if err == nil || !strings.Contains(err.Error(), "no free port for DNS: tried 2353, and 99 more in steps of 10") {
		t.Fatalf("error %v", err)
	}
}

func TestDevPorts_neverTwice(t *testing.T) {
	for range 200 {
		random := func(int) bool { return rand.IntN(3) > 0 }
		s, _, err := chooseDevState(7, random, random)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.check(); err != nil {
			t.Fatalf("%+v: %v", s, err)
		}
	}
}

func TestTaker_thisProcess(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // a test's listener
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close() //nolint:errcheck // likewise
	tcp, udp := l.Addr().(*net.TCPAddr).Port, c.LocalAddr().(*net.UDPAddr).Port
	if freeTCP(tcp) || freeUDP(udp) {
		t.Error("a port in use counts as free")
	}
	if _, err := os.Stat("/proc/net/tcp"); err != nil {
		return // takers are known on Linux only
	}
	own, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, port := range []int{tcp, udp} {
		who, ok := findTaker(port)
		if !ok || who.pid != os.Getpid() || !who.runs(own) {
			t.Errorf("taker of %d: %+v, %v; want process %d, %s", port, who, ok, os.Getpid(), own)
		}
		if !strings.Contains(who.String(), fmt.Sprintf("process %d (", os.Getpid())) {
			t.Errorf("taker is called %s", who)
		}
	}
	l.Close() //nolint:errcheck // asked again below
	if who, ok := findTaker(tcp); ok {
		t.Errorf("a closed port is taken by %s", who)
	}
}

func TestListeningInodes_table(t *testing.T) {
	const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:094B 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1 0 100 0 0 10 0
   1: 0100007F:094B 0100007F:1234 01 00000000:00000000 00:00000000 00000000     0        0 222 1 0 100 0 0 10 0
   2: 0100007F:1234 0100007F:094B 0A 00000000:00000000 00:00000000 00000000     0        0 333 1 0 100 0 0 10 0
   3: 00000000000000000000000000000000:094B 00000000000000000000000000000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 444 2 0 0
   4: short
`
	found := listeningInodes(table, 2379)
	if len(found) != 2 || !found["111"] || !found["444"] {
		t.Errorf("found %v, want 111 and 444", found)
	}
}
