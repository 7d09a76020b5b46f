package main

import (
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// What is told of snapshots of etcd 3.4 to 3.7 is, byte for byte, what etcdutl
// 3.7.3 tells of them.
func TestSnapshotStatus_ofRealEtcd(t *testing.T) {
	places, err := filepath.Glob("../../test/snapshots/testdata/etcd-*")
	if err != nil || len(places) != 4 {
		t.Fatalf("snapshots are in %v, %v", places, err)
	}
	for _, place := range places {
		file := unpacked(t, filepath.Join(place, "snapshot.db.gz"))
		for form, want := range recordedStatus(t, place) {
			got, err := exec.Command("conclave", "snapshot", "status", file, "-w", form).CombinedOutput()
			if err != nil || string(got) != want {
				t.Errorf("%s, %s: %v\n%s\netcdutl says\n%s", place, form, err, got, want)
			}
		}
	}
}

// unpacked is a file of the test's own of what another holds, packed by gzip.
func unpacked(t *testing.T, path string) string {
	t.Helper()
	packed, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer packed.Close()
	r, err := gzip.NewReader(packed)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "snapshot.db")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// recordedStatus is what etcdutl has said, by the form of its output.
func recordedStatus(t *testing.T, place string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(place, "recording.json"))
	if err != nil {
		t.Fatal(err)
	}
	var recording struct{ Status map[string]string }
	if err := json.Unmarshal(text, &recording); err != nil {
		t.Fatal(err)
	}
	if len(recording.Status) != 4 {
		t.Fatalf("%s has %d forms", place, len(recording.Status))
	}
	return recording.Status
}
