package kvdiff

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"go.etcd.io/bbolt"
)

// sameFiles compares the buckets of both state files, record by record.
func sameFiles(t *testing.T, etcd, conclave string) {
	t.Helper()
	want, got := records(t, etcd), records(t, conclave)
	if len(want) == 0 {
		t.Error("etcd's file has no record")
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if value, ok := got[name]; !ok || value != want[name] {
			t.Errorf("etcd has %s = %x, conclave %x (present: %t)", name, want[name], value, ok)
		}
		delete(got, name)
	}
	for _, name := range slices.Sorted(maps.Keys(got)) {
		t.Errorf("conclave has %s = %x, etcd does not", name, got[name])
	}
}

// records reads the buckets that belong to the store.
func records(t *testing.T, path string) map[string]string {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	all := map[string]string{}
	err = db.View(func(tx *bbolt.Tx) error {
		for _, name := range []string{"key", "meta"} {
			bucket := tx.Bucket([]byte(name))
			if bucket == nil {
				return fmt.Errorf("%s has no bucket %q", path, name)
			}
			err := bucket.ForEach(func(k, v []byte) error {
				all[fmt.Sprintf("%s/%x", name, k)] = string(v)
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
