package member

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/conclave-kv/conclave/internal/conclavepb"
	"github.com/conclave-kv/conclave/raftstore/fsm"
)

// snapshotFile is a snapshot with its checksum, as a client saves it.
func snapshotFile(t *testing.T) []byte {
	t.Helper()
	s, err := startCluster(t, 1)[0].Snapshot(limited(t))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	data, err := io.ReadAll(s)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	return append(data, sum[:]...)
}

func restoreInto(dir string, data []byte, skip bool) error {
	path := filepath.Join(dir, "backup.db")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		return err
	}
	if _, err := InspectSnapshot(path); err != nil && !skip && !errors.Is(err, fsm.ErrNotSnapshot) {
		return fmt.Errorf("status: %w", err)
	}
	_, err := Restore(RestoreOptions{
		Snapshot: path, State: filepath.Join(dir, "db"), Log: filepath.Join(dir, "wal"), SkipHash: skip,
		Members: &conclavepb.Configuration{Servers: []*conclavepb.Server{{Id: 1, PeerUrls: []string{"http://h:1"}}}},
		Logger:  zerolog.Nop(),
	})
	return err
}

// What was tampered with or cut is refused with what is wrong, wherever it was;
// by restoring, and by looking at it if it ends in a checksum.
func TestRestore_refusesTampered(t *testing.T) {
	good := snapshotFile(t)
	body := len(good) - sha256.Size
	flip := func(at int) []byte {
		out := bytes.Clone(good)
		out[at] ^= 1
		return out
	}
	files := map[string]struct {
		data []byte
		want string
	}{
		"flipped in a meta page": {flip(40), "is damaged: its checksum is"},
		"flipped in a page":      {flip(body / 2), "is damaged: its checksum is"},
		"flipped at the end":     {flip(body - 1), "is damaged: its checksum is"},
		"flipped in the trailer": {flip(body + 3), "is damaged: its checksum is"},
		"trailer gone":           {good[:body], "has no checksum at its end"},
		"trailer cut":            {good[:body+20], "has no checksum at its end"},
		"a page gone":            {good[4096:], "is damaged: its checksum is"},
		"something added":        {append(bytes.Clone(good), "more"...), "has no checksum at its end"},
		"empty":                  {nil, "has no checksum at its end"},
	}
	for size := 1; size < body; size += body / 40 {
		files[fmt.Sprintf("cut at %d", size)] = struct {
			data []byte
			want string
		}{good[:size], "has no checksum at its end"}
	}
	files["cut where it looks whole"] = struct {
		data []byte
		want string
	}{good[:body-512*3+32], "is damaged: its checksum is"}
	for name, tt := range files {
		err := restoreInto(t.TempDir(), tt.data, false)
		if !errors.Is(err, fsm.ErrNotSnapshot) || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, skip := range []bool{false, true} {
		if err := restoreInto(t.TempDir(), good, skip); err != nil {
			t.Errorf("whole, skip %v: %v", skip, err)
		}
	}
	for name, data := range map[string][]byte{"bare": good[:body], "flipped in the trailer": flip(body + 3)} {
		if err := restoreInto(t.TempDir(), data, true); err != nil {
			t.Errorf("%s, without looking at the checksum: %v", name, err)
		}
	}
	if err := restoreInto(t.TempDir(), good[:body/2], true); !errors.Is(err, fsm.ErrNotSnapshot) {
		t.Errorf("half of it, without looking at the checksum: %v", err)
	}
	path := filepath.Join(t.TempDir(), "backup.db")
	for name, data := range map[string][]byte{"page": flip(body / 2), "trailer": flip(body + 3)} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if s, err := InspectSnapshot(path); !errors.Is(err, fsm.ErrNotSnapshot) {
			t.Errorf("status of one that is flipped in the %s: %+v, %v", name, s, err)
		}
	}
}
