package pki

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"google.golang.org/protobuf/proto"

	pb "github.com/conclave-kv/conclave/internal/conclavepb"
	"github.com/conclave-kv/conclave/internal/durable"
)

// The files of <data-dir>/pki. Each is replaced whole, so a certificate and its
// key live in one file: two could be torn apart by a crash.
const (
	mirrorDir      = "pki"
	mirrorFile     = "mirror.pb"     // Mirror: the running CAs, keys sealed
	mirrorPeer     = "peer.pem"      // this member's peer certificate, chain and key
	mirrorServer   = "server.pem"    // this member's server certificate and key
	mirrorPeerCA   = "peer-ca.pem"   // for people and their tools; never read back
	mirrorClientCA = "client-ca.pem" // what clients trust (--cacert); never read back

	mirrorFormat = 1
)

// ErrNoMirror means that a data directory holds no CAs: its member has not been
// part of a formed cluster.
var ErrNoMirror = errors.New("no certificate authorities there")

// mirrorPath is the path of one file of a data directory's mirror.
func mirrorPath(dataDir, name string) string { return filepath.Join(dataDir, mirrorDir, name) }

// loadMirror reads what a member kept of the ledger. The error wraps
// ErrNoMirror when there is nothing.
func loadMirror(dataDir string) (*pb.Mirror, error) {
	path := mirrorPath(dataDir, mirrorFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", filepath.Dir(path), ErrNoMirror)
	}
	if err != nil {
		return nil, err
	}
	m := new(pb.Mirror)
	if err := proto.Unmarshal(b, m); err != nil {
		return nil, fmt.Errorf("%s is damaged: remove the file, and start the member with --cluster-secret-file", path)
	}
	if m.GetFormat() != mirrorFormat {
		return nil, fmt.Errorf("%s has format %d, this conclave knows format %d: start the newer version", path, m.GetFormat(), mirrorFormat)
	}
	return m, nil
}

// saveMirror writes the running CAs beside the member's data: directory 0700,
// files 0600, private keys sealed as they come from the ledger.
func saveMirror(dataDir string, member uint64, g *pb.Generation, r *roots) error {
	if err := durable.MkdirAll(filepath.Join(dataDir, mirrorDir), 0o700); err != nil {
		return fmt.Errorf("keep the CAs: %w", err)
	}
	b, err := proto.Marshal(&pb.Mirror{Format: mirrorFormat, Generation: g, Member: member})
	if err != nil {
		return fmt.Errorf("keep the CAs: %w", err)
	}
	for _, f := range []struct {
		name string
		data []byte
	}{
		{mirrorPeerCA, EncodeCertificates(r.peer)},
		{mirrorClientCA, EncodeCertificates(r.clientCA)},
		{mirrorFile, b}, // last: it makes the mirror count
	} {
		if err := durable.WriteFile(mirrorPath(dataDir, f.name), f.data, 0o600); err != nil {
			return fmt.Errorf("keep the CAs: %w", err)
		}
	}
	return nil
}

// OpenClientAuthority opens the client CA from a member's data directory with
// the cluster secret, beside a running member or a stopped one. It reads only.
func OpenClientAuthority(dataDir string, secret *Secret) (*Authority, error) {
	a, err := openMirror(dataDir, secret)
	if err != nil {
		return nil, err
	}
	return a.client, nil
}

// OpenPeerAuthority is OpenClientAuthority for the peer CA. The certificates of
// members it signs need the cross-certificate after them where a member may
// not know the ledger yet; the CA alone is enough to verify them.
func OpenPeerAuthority(dataDir string, secret *Secret) (*Authority, error) {
	a, err := openMirror(dataDir, secret)
	if err != nil {
		return nil, err
	}
	return a.peer, nil
}

func openMirror(dataDir string, secret *Secret) (*authorities, error) {
	m, err := loadMirror(dataDir)
	if errors.Is(err, ErrNoMirror) {
		return nil, fmt.Errorf("--data-dir %s: %w; name the data directory of a member that has been part of the running cluster", dataDir, ErrNoMirror)
	}
	if err != nil {
		return nil, fmt.Errorf("--data-dir %s: %w", dataDir, err)
	}
	return secret.openGeneration(m.GetGeneration())
}
