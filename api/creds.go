package api

import (
	"crypto/tls"
	"net"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// handshaken lets gRPC take connections whose TLS the door has already done:
// it only tells gRPC who the peer is.
type handshaken struct {
	credentials.TransportCredentials // insecure: for connections without TLS
}

func newHandshaken() credentials.TransportCredentials {
	return handshaken{insecure.NewCredentials()}
}

// ServerHandshake returns c as it is, with the TLS state as AuthInfo.
func (h handshaken) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	t, ok := c.(*tls.Conn)
	if !ok {
		return h.TransportCredentials.ServerHandshake(c)
	}
	return c, credentials.TLSInfo{
		State:          t.ConnectionState(),
		CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity},
	}, nil
}

func (h handshaken) Clone() credentials.TransportCredentials { return h }
