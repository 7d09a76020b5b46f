package dnssrv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/miekg/dns"
)

const (
	// udpSize is the largest UDP answer asked for: what passes every path
	// unfragmented (DNS flag day 2020).
	udpSize = 1232
	// maxGarbage bounds the unusable packets read while waiting for one
	// server's answer; a server that sends more is given up.
	maxGarbage = 32
)

var errGarbage = errors.New("answered with garbage")

// exchange asks one server one question: over UDP, over TCP when the answer
// was cut off, and without EDNS0 when the server does not know that.
func exchange(ctx context.Context, server, name string, qtype uint16, timeout time.Duration) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	query := new(dns.Msg).SetQuestion(dns.Fqdn(name), qtype)
	query.SetEdns0(udpSize, false)
	reply, err := roundTrip(ctx, "udp", server, query)
	if err == nil && (reply.Rcode == dns.RcodeFormatError || reply.Rcode == dns.RcodeNotImplemented) {
		query = new(dns.Msg).SetQuestion(dns.Fqdn(name), qtype)
		reply, err = roundTrip(ctx, "udp", server, query)
	}
	if err == nil && reply.Truncated {
		reply, err = roundTrip(ctx, "tcp", server, query)
		if err == nil && reply.Truncated {
			err = errors.New("answer cut off over TCP too")
		}
		if err != nil {
			err = errors.New("over TCP: " + brief(err))
		}
	}
	return reply, err
}

// roundTrip sends query and returns the first packet that answers it. Each
// query has a socket, hence a port, and an id of its own, all random: that is
// what an outsider would have to guess.
func roundTrip(ctx context.Context, network, server string, query *dns.Msg) (*dns.Msg, error) {
	var dialer net.Dialer
	raw, err := dialer.DialContext(ctx, network, server)
	if err != nil {
		return nil, err
	}
	conn := &dns.Conn{Conn: raw, UDPSize: dns.MaxMsgSize}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := conn.WriteMsg(query); err != nil {
		return nil, err
	}
	for range maxGarbage {
		packet, err := conn.ReadMsgHeader(nil)
		if err != nil && !errors.Is(err, dns.ErrShortRead) {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				err = errors.New("closed the connection")
			}
			return nil, err
		}
		reply := new(dns.Msg)
		if err == nil && reply.Unpack(packet) == nil && answers(reply, query) {
			return reply, nil
		}
		if network != "udp" {
			break // a stream has no strangers' packets to wait out
		}
	}
	return nil, errGarbage
}

// answers reports whether reply belongs to query: same id, and the same single
// question.
func answers(reply, query *dns.Msg) bool {
	if !reply.Response || reply.Id != query.Id || reply.Opcode != query.Opcode || len(reply.Question) != 1 {
		return false
	}
	got, want := reply.Question[0], query.Question[0]
	return got.Qtype == want.Qtype && got.Qclass == want.Qclass && strings.EqualFold(got.Name, want.Name)
}

// usable reports whether reply settles the question, with why not. A server
// that only points elsewhere, or will not or cannot answer, is not the last to
// be asked.
func usable(reply *dns.Msg) (bool, string) {
	switch reply.Rcode {
	case dns.RcodeNameError:
		return true, ""
	case dns.RcodeSuccess:
		if len(reply.Answer) == 0 && !reply.Authoritative && !reply.RecursionAvailable && hasNS(reply.Ns) {
			return false, "is not responsible for the name and does not recurse"
		}
		return true, ""
	}
	if text, ok := dns.RcodeToString[reply.Rcode]; ok {
		return false, "answered " + text
	}
	return false, fmt.Sprintf("answered code %d", reply.Rcode)
}

func hasNS(section []dns.RR) bool {
	for _, rr := range section {
		if rr.Header().Rrtype == dns.TypeNS {
			return true
		}
	}
	return false
}
