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

// ServerHandshake returns c as it is, with the TLS state as AuthInfo. The
// calls of a link have callers of their own.
func (h handshaken) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	private := credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}
	switch t := c.(type) {
	case *tls.Conn:
		return c, credentials.TLSInfo{State: t.ConnectionState(), CommonAuthInfo: private}, nil
	case *link:
		return c, linkInfo{CommonAuthInfo: private, callers: t.callers}, nil
	}
	return h.TransportCredentials.ServerHandshake(c)
}

func (h handshaken) Clone() credentials.TransportCredentials { return h }
