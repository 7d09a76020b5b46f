package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

// blobs is a server that streams these, and then ends with err.
type blobs struct {
	grpc.ClientStream
	list [][]byte
	err  error
}

func (b *blobs) Recv() (*pb.SnapshotResponse, error) {
	if len(b.list) == 0 {
		return nil, b.err
	}
	m := &pb.SnapshotResponse{Blob: b.list[0], Version: "3.7.0"}
	b.list = b.list[1:]
	return m, nil
}

// A file gets its name only when it is whole: what lacks the checksum at the end,
// or does not fit it, leaves nothing, and a file of that name as it was.
func TestSaveSnapshot_wholeOrNothing(t *testing.T) {
	data := bytes.Repeat([]byte{7}, 1024)
	sum := sha256.Sum256(data)
	cut := errors.New("the server gave it up")
	for name, tt := range map[string]struct {
		stream blobs
		want   string // of the error; empty: saved
	}{
		"whole":            {blobs{list: [][]byte{data[:600], data[600:], sum[:]}, err: io.EOF}, ""},
		"checksum in data": {blobs{list: [][]byte{append(bytes.Clone(data), sum[:20]...), sum[20:]}, err: io.EOF}, ""},
		"no checksum":      {blobs{list: [][]byte{data}, err: io.EOF}, "sha256 checksum not found [bytes: 1024]"},
		"nothing":          {blobs{err: io.EOF}, "sha256 checksum not found [bytes: 0]"},
		"another checksum": {blobs{list: [][]byte{data[1:], {8}, sum[:]}, err: io.EOF}, "sha256 of the 1024 bytes received is"},
		"cut by an error":  {blobs{list: [][]byte{data}, err: cut}, "the server gave it up"},
	} {
		path := filepath.Join(t.TempDir(), "backup.db")
		if err := os.WriteFile(path, []byte("before"), 0o600); err != nil {
			t.Fatal(err)
		}
		version, err := saveSnapshot(path, &tt.stream, newProgress(io.Discard, "saving"))
		content, readErr := os.ReadFile(path)
		if readErr != nil {
			t.Fatal(readErr)
		}
		switch {
		case tt.want == "" && (err != nil || version != "3.7.0" || !bytes.Equal(content, append(bytes.Clone(data), sum[:]...))):
			t.Errorf("%s: %d bytes, version %q, %v", name, len(content), version, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || string(content) != "before"):
			t.Errorf("%s: %d bytes, %v", name, len(content), err)
		}
		if _, err := os.Stat(path + ".part"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: the part is left: %v", name, err)
		}
	}
}

func TestProgress_line(t *testing.T) {
	p := newProgress(io.Discard, "restoring")
	for want, line := range map[string]string{
		"restoring [===============               ]  50% 1.0 MB of 2.0 MB, 500 kB/s": p.line(1e6, 2e6, 2*time.Second),
		"restoring [==============================] 100% 0 B of 0 B, 0 B/s":          p.line(0, 0, 0),
	} {
		if line != want {
			t.Errorf("got  %s\nwant %s", line, want)
		}
	}
}
