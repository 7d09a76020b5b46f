package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/urfave/cli/v2"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclave-kv/conclave/internal/durable"
)

func runSnapshotSave(c *cli.Context) error {
	if c.NArg() != 1 {
		return failf(exitBadArgs, "snapshot save expects one argument <filename>")
	}
	s, err := newSession(c)
	if err != nil {
		return err
	}
	if len(s.endpoints) != 1 {
		return failf(exitInterrupted, "snapshot must be requested to one selected node, not multiple %v; give one with --endpoints", s.endpoints)
	}
	cfg, err := s.clientConfig(s.endpoints)
	if err != nil {
		return err
	}
	return withCode(exitInterrupted, fetchSnapshot(c, cfg, c.Args().First()))
}

// fetchSnapshot has the server stream its state to path.
func fetchSnapshot(c *cli.Context, cfg *clientv3.Config, path string) error {
	client, err := clientv3.New(*cfg)
	if err != nil {
		return err
	}
	defer client.Close() //nolint:errcheck // the process ends next
	// Without --command-timeout it may take as long as it does.
	ctx, stop := signal.NotifyContext(c.Context, os.Interrupt, syscall.SIGTERM)
	defer stop()
	if c.IsSet("command-timeout") {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.Duration("command-timeout"))
		defer cancel()
	}
	stream, err := pb.NewMaintenanceClient(client.ActiveConnection()).Snapshot(ctx, &pb.SnapshotRequest{})
	if err != nil {
		return err
	}
	version, err := saveSnapshot(path, stream, newProgress(c.App.ErrWriter, "saving"))
	if err != nil {
		return err
	}
	fmt.Fprintf(c.App.Writer, "Snapshot saved at %s\n", path)
	if version != "" {
		fmt.Fprintf(c.App.Writer, "Server version %s\n", version)
	}
	return nil
}

// saveSnapshot writes what is streamed to path, by way of path.part, which does
// not outlive the call.
func saveSnapshot(path string, stream pb.Maintenance_SnapshotClient, p *progress) (version string, err error) {
	part := path + ".part"
	f, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return "", err
	}
	version, err = receive(f, stream, p)
	p.end()
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(part, path)
	}
	if err != nil {
		_ = os.Remove(part) // the error is told
		return version, err
	}
	return version, durable.SyncDir(filepath.Dir(path))
}

// receive writes all that is streamed, and checks it by the checksum at its end.
func receive(w io.Writer, stream pb.Maintenance_SnapshotClient, p *progress) (version string, err error) {
	sum := trailing{sum: sha256.New()}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return version, sum.check()
		}
		if err != nil {
			return version, err
		}
		version = m.GetVersion()
		sum.add(m.GetBlob())
		if _, err := w.Write(m.GetBlob()); err != nil {
			return version, err
		}
		p.at(sum.size, sum.size+int64(m.GetRemainingBytes()))
	}
}

// trailing sums up all bytes but the last ones, which are the checksum.
type trailing struct {
	sum  hash.Hash
	tail []byte
	size int64
}

func (t *trailing) add(b []byte) {
	t.size += int64(len(b))
	t.tail = append(t.tail, b...)
	if n := len(t.tail) - sha256.Size; n > 0 {
		t.sum.Write(t.tail[:n])
		t.tail = append(t.tail[:0], t.tail[n:]...)
	}
}

func (t *trailing) check() error {
	switch {
	case t.size%512 != sha256.Size:
		return fmt.Errorf("sha256 checksum not found [bytes: %d]: the stream ended early; save again", t.size)
	case !bytes.Equal(t.sum.Sum(nil), t.tail):
		return fmt.Errorf("sha256 of the %d bytes received is %x, the server sent %x; save again", t.size-sha256.Size, t.sum.Sum(nil), t.tail)
	}
	return nil
}
