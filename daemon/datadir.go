package daemon

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/conclave-kv/conclave/bootstrap"
	"github.com/conclave-kv/conclave/internal/durable"
)

// directoryFormat is the version of the data directory's layout.
const directoryFormat = 1

// identity is who a data directory belongs to, kept in member/identity.json. It
// is written when a majority has agreed to the plan, and with it the directory
// counts as a member's.
type identity struct {
	Format     int                `json:"format"`
	Instance   string             `json:"instance"` // random id of this directory
	ClusterID  uint64             `json:"cluster_id"`
	MemberID   uint64             `json:"member_id"`
	Name       string             `json:"name"`
	PeerURLs   []string           `json:"peer_urls"`
	ClientURLs []string           `json:"client_urls"`
	Token      string             `json:"token"`
	Members    []bootstrap.Member `json:"first_members"`
	// Started: the state file was made, and so this member may have voted.
	Started bool `json:"started"`
	// Joining: the member was added to a running cluster. Its log begins with
	// what the leader sends; no first entry is ever written.
	Joining bool `json:"joining,omitempty"`
	// Removed is when this member learned that it was removed, empty before.
	Removed string `json:"removed,omitempty"`
}

// planText is what a member of another cluster is shown.
func (id identity) planText() string {
	return bootstrap.Plan{Members: id.Members}.String()
}

// dataDir is the locked data directory.
type dataDir struct {
	path string
	root string // of the member in it; empty: memberDir
	wal  string
	made bool // by this process
	lock *durable.DirLock
}

// memberDir is where everything of a member is but its certificates.
const memberDir = "member"

func (d *dataDir) in(elem ...string) string {
	return filepath.Join(d.path, orDefault(d.root, memberDir), filepath.Join(elem...))
}

func (d *dataDir) identityPath() string { return d.in("identity.json") }
func (d *dataDir) claimsPath() string   { return d.in("claims.json") }
func (d *dataDir) statePath() string    { return d.in("snap", "db") }
func (d *dataDir) pkiPath() string      { return filepath.Join(d.path, "pki") }

// openDataDir makes the directory if need be and locks it.
func openDataDir(path, wal string) (*dataDir, error) {
	d := &dataDir{path: path, wal: wal}
	if d.wal == "" {
		d.wal = d.in("wal")
	}
	switch info, err := os.Stat(path); {
	case errors.Is(err, fs.ErrNotExist):
		if err := durable.MkdirAll(path, 0o700); err != nil {
			return nil, fmt.Errorf("--data-dir %q: %w; give a directory this user may create", path, err)
		}
		d.made = true
	case err != nil:
		return nil, fmt.Errorf("--data-dir %q: %w", path, err)
	case !info.IsDir():
		return nil, fmt.Errorf("--data-dir %q is not a directory; give another one", path)
	}
	if err := checkClosed("--data-dir", path); err != nil {
		return nil, err
	}
	if err := checkClosed("--wal-dir", d.wal); err != nil {
		return nil, err
	}
	lock, err := durable.Lock(path)
	if err != nil {
		return nil, fmt.Errorf("--data-dir %q: %w; stop that process or give another directory", path, err)
	}
	d.lock = lock
	return d, nil
}

// checkClosed refuses a directory in which every user could put other files in
// the place of this member's. What is in it is made with modes that close it to
// others, so being able to look into the directory itself tells nothing.
func checkClosed(flag, path string) error {
	info, err := os.Stat(path)
	if err != nil || !info.IsDir() || info.Mode().Perm()&0o002 == 0 {
		return nil // what is missing is made closed; other trouble shows soon
	}
	return fmt.Errorf("%s %q is writable by every user (mode %04o): run `chmod 700 %s`, or give another directory", flag, path, info.Mode().Perm(), path)
}

// close unlocks the directory, and removes it if this process made it and left
// nothing in it.
func (d *dataDir) close() error {
	err := d.lock.Unlock()
	if d.made {
		_ = os.Remove(d.path) // fails on a directory in use, as it should
	}
	return err
}

// load reads the identity; ok is false for a directory that no member uses.
func (d *dataDir) load() (id identity, ok bool, err error) {
	raw, err := os.ReadFile(d.identityPath())
	if errors.Is(err, fs.ErrNotExist) {
		return identity{}, false, d.checkUnused()
	}
	if err != nil {
		return identity{}, false, fmt.Errorf("--data-dir %q: %w", d.path, err)
	}
	if err := json.Unmarshal(raw, &id); err != nil {
		return identity{}, false, fmt.Errorf("--data-dir %q: %s is damaged: %w", d.path, d.identityPath(), err)
	}
	if id.Format > directoryFormat {
		return identity{}, false, fmt.Errorf("--data-dir %q was written by a newer version (format %d, this program reads up to %d); start it with that version", d.path, id.Format, directoryFormat)
	}
	return id, true, nil
}

// checkUnused refuses a directory in which another program keeps a member. What
// a start of conclave that was killed leaves is nothing, or an unfinished
// identity.
func (d *dataDir) checkUnused() error {
	if _, err := os.Lstat(filepath.Join(d.path, restoreDir)); err == nil {
		return fmt.Errorf("--data-dir %q holds what an interrupted `conclave snapshot restore` left; run that again, or remove the directory", d.path)
	}
	entries, err := os.ReadDir(filepath.Dir(d.identityPath()))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("--data-dir %q: %w", d.path, err)
	}
	if d.isEtcds() {
		return fmt.Errorf("--data-dir %q holds a member of etcd: make one of its state with `conclave snapshot restore %s --skip-hash-check --data-dir NEW`, with the name, the peer URLs and the initial cluster of this member",
			d.path, d.statePath())
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "."+filepath.Base(d.identityPath())) {
			return fmt.Errorf("--data-dir %q holds a member directory without conclave's identity, perhaps etcd's; give another directory", d.path)
		}
	}
	return nil
}

// stateThere returns why there is no state file. One that is empty was being made
// when the disk was full, or the process ended.
func (d *dataDir) stateThere() error {
	info, err := os.Stat(d.statePath())
	if err == nil && info.Size() == 0 {
		return &fs.PathError{Op: "stat", Path: d.statePath(), Err: errors.New("the file is empty")}
	}
	return err
}

// isEtcds reports whether there is a write-ahead log in etcd's form.
func (d *dataDir) isEtcds() bool {
	logs, err := filepath.Glob(d.in("wal", "*-*.wal"))
	_, state := os.Stat(d.statePath())
	return err == nil && len(logs) > 0 && state == nil
}

// save makes the directory a member's. The identity comes first: whatever else
// is in there then has an owner.
func (d *dataDir) save(id identity) error {
	raw, err := json.MarshalIndent(id, "", "  ")
	if err != nil {
		return err
	}
	err = durable.MkdirAll(filepath.Dir(d.identityPath()), 0o700)
	if err == nil {
		err = durable.WriteFile(d.identityPath(), append(raw, '\n'), 0o600)
	}
	for _, dir := range []string{filepath.Dir(d.statePath()), d.wal} {
		if err == nil {
			err = durable.MkdirAll(dir, 0o700)
		}
	}
	if err != nil {
		return fmt.Errorf("--data-dir %q: %w", d.path, err)
	}
	return nil
}

// discard undoes save, for a start that was refused. A directory with a log or
// a state file is a member's, and stays.
func (d *dataDir) discard() {
	if d.hasLog() {
		return
	}
	if _, err := os.Stat(d.statePath()); !errors.Is(err, fs.ErrNotExist) {
		return
	}
	_ = os.RemoveAll(filepath.Dir(d.identityPath()))
	_ = os.Remove(d.wal) // made elsewhere with --wal-dir, and still empty
}

// hasLog reports whether there is anything of a log.
func (d *dataDir) hasLog() bool {
	entries, err := os.ReadDir(d.wal)
	return len(entries) > 0 || err != nil && !errors.Is(err, fs.ErrNotExist)
}

// newInstance names a data directory.
func newInstance() string { return rand.Text() }

// firstBatch is a batch id to count from. Ids tell apart what is under way at
// the same time, so that two members, or a member before and after a restart,
// would have to draw numbers within reach of each other out of 2^64.
func firstBatch() uint64 {
	var seed [8]byte
	rand.Read(seed[:]) // never fails: crypto/rand ends the process instead
	return binary.BigEndian.Uint64(seed[:])
}
