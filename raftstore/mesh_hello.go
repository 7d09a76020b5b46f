package raftstore

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
	"unicode"

	"google.golang.org/protobuf/proto"

	"github.com/conclave-kv/conclave/internal/conclavepb"
)

const (
	peerProtocol = 1
	// peerMagic opens both directions. No text protocol begins with a zero.
	peerMagic = "\x00cncl-1\n"
	// maxHello bounds a hello and its answer, in bytes.
	maxHello = 4 << 10
	// maxPlan bounds the texts for people inside one, in bytes.
	maxPlan = 1 << 10
)

// handshake is what the hello of one connection settles.
type handshake struct {
	from     uint64
	instance string
	nonce    uint64 // of the other side's process
	renews   bool   // it takes the place of a connection that is still open
	skew     time.Duration
	expires  time.Time // end of the other side's certificate; zero for none
	ends     time.Time // end of this side's, as the other side sees it; zero for none
}

func writeHello(w io.Writer, msg proto.Message) error {
	body, err := proto.Marshal(msg)
	if err != nil {
		return err
	}
	if len(body) > maxHello {
		return fmt.Errorf("hello of %d bytes exceeds %d", len(body), maxHello)
	}
	out := binary.BigEndian.AppendUint16([]byte(peerMagic), uint16(len(body)))
	_, err = w.Write(append(out, body...))
	return err
}

func readHello(r *bufio.Reader, msg proto.Message) error {
	var head [len(peerMagic) + 2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	if string(head[:len(peerMagic)]) != peerMagic {
		return errors.New("the other side does not speak " + ALPNPeer)
	}
	size := int(binary.BigEndian.Uint16(head[len(peerMagic):]))
	if size > maxHello {
		return fmt.Errorf("hello of %d bytes exceeds %d", size, maxHello)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(r, body); err != nil {
		return noEOF(err)
	}
	return proto.Unmarshal(body, msg)
}

// greet says hello on a connection dialled to peer, and judges the answer.
func (m *Mesh) greet(conn net.Conn, br *bufio.Reader, state *tls.ConnectionState, peer uint64, renews bool) (handshake, error) {
	if state != nil {
		if err := m.certified(*state, peer); err != nil {
			return handshake{}, err
		}
	}
	sent := time.Now()
	err := writeHello(conn, &conclavepb.PeerHello{
		Protocol: peerProtocol, ClusterId: m.cfg.ClusterID, From: m.cfg.Self, To: peer,
		Instance: m.cfg.Instance, UnixNanos: sent.UnixNano(), Plan: printable(m.cfg.Plan),
		Nonce: m.nonce, Renews: renews,
	})
	if err != nil {
		return handshake{}, err
	}
	var reply conclavepb.PeerHelloReply
	if err := readHello(br, &reply); err != nil {
		return handshake{}, err
	}
	half := time.Since(sent) / 2
	if reply.ClusterId != m.cfg.ClusterID {
		return handshake{}, m.otherCluster(fmt.Sprintf("the address of member %x leads", peer), reply.ClusterId, reply.Plan)
	}
	if no := reply.Refusal; no != nil {
		refused := refuse(no.Code, "%s", printable(no.Text))
		refused.ByPeer = true
		return handshake{}, refused
	}
	if reply.MemberId != peer {
		return handshake{}, refuse(conclavepb.PeerRefusal_OTHER_MEMBER,
			"the address of member %x leads to member %x", peer, reply.MemberId)
	}
	if err := m.admit(Hello{From: peer, Instance: reply.Instance}); err != nil {
		return handshake{}, err
	}
	h := handshake{
		from: peer, instance: reply.Instance, nonce: reply.Nonce, renews: renews, expires: expiry(state),
		skew: time.Unix(0, reply.UnixNanos).Sub(sent.Add(half)),
	}
	if reply.Expires != 0 { // by the other side's clock
		h.ends = time.Now().Add(time.Duration(reply.Expires - reply.UnixNanos))
	}
	return h, nil
}

// receiveHello reads the hello on an accepted connection. Unless the error is
// a RefusedError, nothing sensible can be answered.
func (m *Mesh) receiveHello(br *bufio.Reader, state *tls.ConnectionState) (handshake, error) {
	var hello conclavepb.PeerHello
	if err := readHello(br, &hello); err != nil {
		return handshake{}, connectionEnd(err)
	}
	h := handshake{
		from: hello.From, instance: hello.Instance, nonce: hello.Nonce, renews: hello.Renews,
		expires: expiry(state), skew: time.Until(time.Unix(0, hello.UnixNanos)),
	}
	switch {
	case hello.Protocol != peerProtocol:
		return h, refuse(conclavepb.PeerRefusal_PROTOCOL, "peer protocol %d is not spoken here, but %d", hello.Protocol, peerProtocol)
	case hello.ClusterId != m.cfg.ClusterID:
		return h, m.otherCluster(fmt.Sprintf("member %x belongs", hello.From), hello.ClusterId, hello.Plan)
	case hello.To != m.cfg.Self:
		return h, refuse(conclavepb.PeerRefusal_OTHER_MEMBER, "this is member %x, not %x", m.cfg.Self, hello.To)
	case hello.From == m.cfg.Self:
		return h, refuse(conclavepb.PeerRefusal_DUPLICATE, "%x is this member's own id", hello.From)
	}
	if err := m.former(hello.From); err != nil {
		return h, err
	}
	if state != nil {
		if err := m.certified(*state, hello.From); err != nil {
			return h, err
		}
	}
	return h, m.admit(Hello{From: hello.From, Instance: hello.Instance})
}

// reply answers a hello; refused is nil when the session is open.
func (m *Mesh) reply(w io.Writer, h handshake, refused *RefusedError) error {
	msg := &conclavepb.PeerHelloReply{
		Protocol: peerProtocol, ClusterId: m.cfg.ClusterID, MemberId: m.cfg.Self,
		Instance: m.cfg.Instance, UnixNanos: time.Now().UnixNano(), Plan: printable(m.cfg.Plan),
		Nonce: m.nonce,
	}
	if !h.expires.IsZero() {
		msg.Expires = h.expires.UnixNano()
	}
	if refused != nil {
		msg.Refusal = &conclavepb.PeerRefusal{Code: refused.code, Text: printable(refused.Text)}
	}
	return writeHello(w, msg)
}

// certified checks an established TLS connection with the member claimed.
func (m *Mesh) certified(state tls.ConnectionState, claimed uint64) error {
	if m.cfg.Refusal != nil {
		err := m.cfg.Refusal(state)
		if errors.Is(err, ErrNotMember) {
			return refuse(conclavepb.PeerRefusal_NOT_MEMBER, "%v", err)
		}
		if err != nil {
			return refuse(conclavepb.PeerRefusal_CERTIFICATE, "%v", err)
		}
	}
	if m.cfg.PeerID == nil {
		return nil
	}
	id, err := m.cfg.PeerID(state)
	if err != nil {
		return refuse(conclavepb.PeerRefusal_CERTIFICATE, "%v", err)
	}
	if id != claimed {
		return refuse(conclavepb.PeerRefusal_CERTIFICATE, "the certificate is member %x's, not %x's", id, claimed)
	}
	return nil
}

func (m *Mesh) admit(h Hello) error {
	if m.cfg.Admit == nil {
		return nil
	}
	if err := m.cfg.Admit(h); err != nil {
		return refuse(conclavepb.PeerRefusal_NOT_ADMITTED, "%v", err)
	}
	return nil
}

func (m *Mesh) otherCluster(who string, cluster uint64, plan string) *RefusedError {
	return refuse(conclavepb.PeerRefusal_OTHER_CLUSTER, "%s to cluster %x%s; this is member %x of cluster %x%s",
		who, cluster, inBrackets(plan), m.cfg.Self, m.cfg.ClusterID, inBrackets(m.cfg.Plan))
}

func inBrackets(plan string) string {
	if plan == "" {
		return ""
	}
	return " (" + printable(plan) + ")"
}

// printable makes a text from elsewhere fit for a log line and a terminal.
func printable(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, text)
	if len(text) > maxPlan {
		text = strings.ToValidUTF8(text[:maxPlan], "")
	}
	return text
}

// expiry is the end of the peer's certificate; zero for none.
func expiry(state *tls.ConnectionState) time.Time {
	if state == nil || len(state.PeerCertificates) == 0 {
		return time.Time{}
	}
	return state.PeerCertificates[0].NotAfter
}
