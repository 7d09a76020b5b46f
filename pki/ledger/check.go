package ledger

import (
	"fmt"

	pb "github.com/conclave-kv/conclave/internal/conclavepb"
)

// Bounds of what a command may bring, so that the ledger's size has one.
const (
	maxBlob   = 16 << 10 // bytes of a certificate or a sealed key
	maxName   = 256      // bytes of a subject or trust domain
	maxSerial = 20       // bytes, RFC 5280 section 4.1.2.2
	maxBatch  = 64       // certificates recorded by one command

	// maxIssued bounds the inventory. Records of members are let in beyond it:
	// there are few, and a full inventory must not stop a renewal.
	maxIssued = 1 << 16
)

func reject(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrRejected, fmt.Sprintf(format, args...))
}

func checkGeneration(g *pb.Generation) error {
	if g.GetTrustDomain() == "" || len(g.GetTrustDomain()) > maxName {
		return reject("trust domain of %d bytes, 1 to %d are possible", len(g.GetTrustDomain()), maxName)
	}
	for _, part := range []struct {
		name string
		data []byte
	}{
		{"peer CA", g.GetPeerCa()}, {"cross-signed peer CA", g.GetPeerCaCross()}, {"client CA", g.GetClientCa()},
		{"sealed key of the peer CA", g.GetSealedPeerKey()}, {"sealed key of the client CA", g.GetSealedClientKey()},
	} {
		if len(part.data) == 0 || len(part.data) > maxBlob {
			return reject("%s of %d bytes, 1 to %d are possible", part.name, len(part.data), maxBlob)
		}
	}
	return nil
}

func checkMember(m *pb.CertifiedMember, generations int) error {
	if m.GetId() == 0 {
		return reject("a certified member without an id")
	}
	return checkCertificate(m.GetSerial(), m.GetNotAfter(), m.GetGeneration(), generations)
}

func checkIssued(list []*pb.Issued, generations int) error {
	if len(list) > maxBatch {
		return reject("%d certificates in one command, %d are possible", len(list), maxBatch)
	}
	for _, i := range list {
		if err := checkCertificate(i.GetSerial(), i.GetNotAfter(), i.GetGeneration(), generations); err != nil {
			return err
		}
		switch i.GetProfile() {
		case "peer", "server", "client":
		default:
			return reject("certificate of an unknown profile")
		}
		if i.GetSubject() == "" || len(i.GetSubject()) > maxName {
			return reject("subject of %d bytes, 1 to %d are possible", len(i.GetSubject()), maxName)
		}
	}
	return nil
}

func checkCertificate(serial []byte, notAfter int64, generation uint64, generations int) error {
	switch {
	case len(serial) == 0 || len(serial) > maxSerial:
		return reject("serial number of %d bytes, 1 to %d are possible", len(serial), maxSerial)
	case notAfter <= 0:
		return reject("certificate without an end")
	case generation == 0 || generation > uint64(generations):
		return reject("certificate of CA generation %d, the latest is %d", generation, generations)
	}
	return nil
}
