package daemon

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rs/zerolog"

	"github.com/conclave-kv/conclave/bootstrap"
	"github.com/conclave-kv/conclave/internal/conclavepb"
	"github.com/conclave-kv/conclave/internal/durable"
	"github.com/conclave-kv/conclave/member"
	"github.com/conclave-kv/conclave/raftstore"
)

// restoreDir is where a restore works in a data directory. It becomes the
// member's by one rename.
const restoreDir = "member.restore"

// RestoreConfig is what `conclave snapshot restore` was told.
type RestoreConfig struct {
	Snapshot string
	// DataDir is made, or empty; WalDir is where the log goes if not in it.
	DataDir, WalDir string
	Name            string
	// InitialCluster, Token and PeerURLs give the ids, as at a first start.
	InitialCluster, Token, PeerURLs string
	SkipHash                        bool
	Bump                            uint64
	Progress                        func(done, total int64) // may be nil
	Log                             zerolog.Logger
}

// Restored is what Restore made.
type Restored struct {
	member.Restored
	ClusterID, MemberID uint64
}

// Restore makes the data directory of a new cluster's member from a snapshot.
// Unless it returns nil, the directory is as it was before.
func Restore(cfg RestoreConfig) (r Restored, err error) {
	id, err := cfg.identity()
	if err != nil {
		return r, err
	}
	dir, err := openDataDir(cfg.DataDir, cfg.WalDir)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, dir.close()) }()
	if err := dir.checkEmpty(cfg.WalDir); err != nil {
		return r, err
	}
	r.ClusterID, r.MemberID = id.ClusterID, id.MemberID
	if r.Restored, err = dir.restore(cfg, id); err != nil {
		return r, errors.Join(err, dir.dropRestore(cfg.WalDir))
	}
	return r, nil
}

// identity gives the member the ids that it would have at a first start.
func (c RestoreConfig) identity() (identity, error) {
	peers, err := bootstrap.ParseInitialCluster(c.InitialCluster)
	if err != nil {
		return identity{}, err
	}
	advertised, err := ParseURLs(c.PeerURLs)
	if err != nil {
		return identity{}, fmt.Errorf("--initial-advertise-peer-urls: %w", err)
	}
	id := identity{Format: directoryFormat, Name: c.Name, Token: c.Token, PeerURLs: slices.Sorted(slices.Values(advertised.Strings()))}
	var ids []uint64
	for _, p := range peers {
		m := bootstrap.Member{ID: bootstrap.MemberID(p.PeerURLs, c.Token), Name: p.Name, PeerURLs: p.PeerURLs}
		if p.Name == c.Name {
			if !slices.Equal(p.PeerURLs, id.PeerURLs) {
				return id, fmt.Errorf("--initial-cluster has %s=%s, and --initial-advertise-peer-urls is %s; make them equal", p.Name, strings.Join(p.PeerURLs, ","), strings.Join(id.PeerURLs, ","))
			}
			id.MemberID = m.ID
		}
		id.Members = append(id.Members, m)
		ids = append(ids, m.ID)
	}
	if id.MemberID == 0 {
		return id, fmt.Errorf("--name %q is not in --initial-cluster %q; give the name that this member has there", c.Name, c.InitialCluster)
	}
	slices.SortFunc(id.Members, func(a, b bootstrap.Member) int { return cmp.Compare(a.ID, b.ID) })
	id.ClusterID = bootstrap.ClusterID(ids)
	return id, nil
}

// checkEmpty refuses a directory that holds anything but what a restore that was
// killed left there.
func (d *dataDir) checkEmpty(wal string) error {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return fmt.Errorf("--data-dir %q: %w", d.path, err)
	}
	for _, e := range entries {
		switch e.Name() {
		case restoreDir, ".lock", "lost+found":
		default:
			return fmt.Errorf("--data-dir %q is not empty: it has %s; give a directory that is empty or does not exist", d.path, e.Name())
		}
	}
	if wal == "" {
		return d.dropRestore("")
	}
	if _, err := os.Lstat(wal); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("--wal-dir %q exists; give one that does not", wal)
	}
	return d.dropRestore("")
}

// restore makes everything beside its place and renames it at the end.
func (d *dataDir) restore(cfg RestoreConfig, id identity) (found member.Restored, err error) {
	staged := *d
	staged.root = restoreDir
	if cfg.WalDir == "" {
		staged.wal = filepath.Join(d.path, restoreDir, "wal")
	}
	for _, dir := range []string{filepath.Dir(staged.statePath()), staged.wal} {
		if err := durable.MkdirAll(dir, 0o700); err != nil {
			return found, err
		}
	}
	conf := &conclavepb.Configuration{}
	for _, m := range id.Members {
		conf.Servers = append(conf.Servers, &conclavepb.Server{Id: m.ID, PeerUrls: m.PeerURLs})
	}
	found, err = member.Restore(member.RestoreOptions{
		Snapshot: cfg.Snapshot, State: staged.statePath(), Log: staged.wal, Members: conf,
		SkipHash: cfg.SkipHash, Bump: cfg.Bump, Progress: cfg.Progress, Logger: cfg.Log,
	})
	if err != nil {
		return found, err
	}
	id.Instance = newInstance() + originMark + found.Origin[:originDigits]
	if err := staged.save(id); err != nil {
		return found, err
	}
	if err := os.Rename(filepath.Join(d.path, restoreDir), filepath.Join(d.path, memberDir)); err != nil {
		return found, err
	}
	return found, durable.SyncDir(d.path)
}

// dropRestore removes what a restore made.
func (d *dataDir) dropRestore(wal string) error {
	err := os.RemoveAll(filepath.Join(d.path, restoreDir))
	if wal != "" {
		err = errors.Join(err, os.RemoveAll(wal))
	}
	return err
}

// A directory that was restored says in its instance id what from, so that the
// first members of a cluster do not begin with different states.
const (
	originMark   = "-"
	originDigits = 16
)

// origin is what a data directory was restored from, empty for nothing.
func origin(instance string) string {
	_, from, _ := strings.Cut(instance, originMark)
	return from
}

// admit says whether a peer may speak: its data directory is the one it started
// with, and began with the same state as this one.
func (d *Daemon) admit(h raftstore.Hello) error {
	first := slices.ContainsFunc(d.id.Members, func(m bootstrap.Member) bool { return m.ID == h.From })
	if ours, theirs := origin(d.id.Instance), origin(h.Instance); first && !d.id.Joining && ours != theirs {
		return fmt.Errorf("member %s (%s) and member %s (%s) were not restored from the same snapshot: "+
			"run `conclave snapshot restore` for every first member, with the same file and options",
			hex(d.id.MemberID), orDefault(ours, "begun empty"), hex(h.From), orDefault(theirs, "begun empty"))
	}
	return d.claims.Admit(h)
}
