package pki

import (
	"crypto/tls"
	"time"
)

// Settings are the TLS settings of a member: a Renewer for certificates of the
// built-in CA, a FileTLS for certificates of one's own. All methods are safe
// for concurrent use. The configurations follow renewals by themselves, so a
// listener asks once; a dialer asks at each dial. Callers may clone them and
// set NextProtos or, on the dialling side, ServerName.
type Settings interface {
	// PeerServer is for the peer port; nil means plaintext.
	PeerServer() *tls.Config
	// PeerClient is for a dial to the member id, 0 for whichever answers; nil
	// means plaintext. A dialer sets ServerName to the host it dials where it is empty.
	PeerClient(id uint64) *tls.Config
	// ClientServer is for the client port; nil means plaintext.
	ClientServer() *tls.Config
	// PeerID is the member the other side of a peer connection proved to be.
	// The error wraps ErrUnnamed where certificates name no members: then the
	// claim in the handshake of the session stands.
	PeerID(tls.ConnectionState) (uint64, error)
	// Refusal tells why nothing may be served on a peer connection although
	// its handshake succeeded. The acceptor sends the text and closes. It must
	// be asked before anything else is read.
	Refusal(tls.ConnectionState) error
	// Explain words an error of a handshake for people.
	Explain(error) error
}

var (
	_ Settings = (*Renewer)(nil)
	_ Settings = (*FileTLS)(nil)
)

// SessionEnd is when a connection must be closed because the certificate of its
// other side ends; the zero time where none was shown. The own certificate's
// end is Renewer.Expiry.
func SessionEnd(cs tls.ConnectionState) time.Time {
	if len(cs.PeerCertificates) == 0 {
		return time.Time{}
	}
	return cs.PeerCertificates[0].NotAfter
}
