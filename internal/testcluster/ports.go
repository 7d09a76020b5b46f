package testcluster

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"testing"
)

// Ports below those that Linux gives to outgoing connections: while a member is
// down, no such connection takes its port.
const (
	firstPort = 10_000
	endPort   = 32_768
)

var (
	portsMu sync.Mutex
	given   = map[int]bool{}
)

// FreePorts finds n ports of 127.0.0.1 on which nobody listens, by TCP or by
// UDP. No port is given twice in one process.
func FreePorts(t testing.TB, n int) []string {
	t.Helper()
	ports, err := FindPorts(n)
	if err != nil {
		t.Fatal(err)
	}
	return ports
}

// FindPorts is FreePorts for who has no testing.TB.
func FindPorts(n int) ([]string, error) {
	portsMu.Lock()
	defer portsMu.Unlock()
	var out []string
	for range 1000 {
		if len(out) == n {
			return out, nil
		}
		port := firstPort + rand.IntN(endPort-firstPort)
		if !given[port] && free(port) {
			given[port] = true
			out = append(out, strconv.Itoa(port))
		}
	}
	return nil, fmt.Errorf("found %d of %d free ports from %d to %d", len(out), n, firstPort, endPort-1)
}

func free(port int) bool {
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return false
	}
	defer ln.Close()
	udp, err := net.ListenPacket("udp", addr)
	if err != nil {
		return false
	}
	return udp.Close() == nil
}
