package daemon

import (
	"context"
	"crypto/tls"

	"google.golang.org/grpc"
)

// security is how the two ports are protected. The zero value is plaintext on
// both.
type security struct {
	// peerServer and peerClient give the settings of the peer port; nil means
	// plaintext. peerID reads a member id from a verified certificate, and
	// refusal says why a peer that came through the handshake is not heard.
	peerServer func() *tls.Config
	peerClient func(peer uint64) *tls.Config
	peerID     func(tls.ConnectionState) (uint64, error)
	refusal    func(tls.ConnectionState) error
	// clients are the settings of the client port; nil means plaintext.
	clients *tls.Config
	// register adds the certificate service to the client port.
	register func(grpc.ServiceRegistrar)
	// certified is closed when the client port has a certificate; nil when it
	// needs none.
	certified <-chan struct{}
}

// secure chooses how the ports are protected.
func (d *Daemon) secure(ctx context.Context) error {
	return nil
}
