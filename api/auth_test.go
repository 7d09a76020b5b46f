package api

import (
	"context"
	"net"
	"testing"

	"google.golang.org/grpc/peer"
)

// Logins are delayed by where they come from, which is the same for all addresses
// that one client can have.
func TestAuth_sourceOf(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.7:4711": "192.0.2.7", "[::ffff:192.0.2.7]:1": "192.0.2.7",
		"[2001:db8:1:2:3:4:5:6]:4711": "2001:db8:1:2::/64", "[2001:db8:1:2::1]:9": "2001:db8:1:2::/64",
		"[fe80::1%eth0]:1": "fe80::/64", "@": "", "": "", "/run/conclave.sock": "",
	} {
		ctx := peer.NewContext(t.Context(), &peer.Peer{Addr: addrText(addr)})
		if got := sourceOf(ctx); got != want {
			t.Errorf("%s: %q, want %q", addr, got, want)
		}
	}
	ctx := peer.NewContext(t.Context(), &peer.Peer{Addr: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 1}})
	if got := sourceOf(ctx); got != "192.0.2.7" || sourceOf(context.Background()) != "" {
		t.Error(got)
	}
}
