package raftstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/conclave-kv/conclave/internal/conclavepb"
	"github.com/conclave-kv/conclave/internal/durable"
)

// ErrClaimed: a member's id was started with another data directory before. Had
// that one voted, a new one could vote again and elect a second leader.
var ErrClaimed = errors.New("member was started with another data directory before")

// Claims is what a member knows about the data directories that others started
// with: the first one that an id claims is the only one, for ever. It is kept
// in a file, and safe for concurrent use.
type Claims struct {
	mu      sync.Mutex
	path    string // empty: not kept yet
	known   map[uint64]string
	started func(id uint64) bool // see KnowStarted; may be nil
}

// NewClaims returns an empty record that is not kept in a file yet. Nothing can
// be claimed from it before Keep.
func NewClaims() *Claims { return &Claims{known: make(map[uint64]string)} }

// LoadClaims reads the record at path; a missing file is an empty record.
func LoadClaims(path string) (*Claims, error) {
	c := &Claims{path: path, known: make(map[uint64]string)}
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read claims: %w", err)
	}
	if err := json.Unmarshal(raw, &c.known); err != nil {
		return nil, fmt.Errorf("read claims %s: %w", path, err)
	}
	// A process that was killed may have left a file that has its name in memory only.
	if err := durable.SyncDir(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("read claims: %w", err)
	}
	return c, nil
}

// Keep stores the record at path from now on.
func (c *Claims) Keep(path string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.path = path
	return c.store()
}

// KnowStarted tells of another source that knows which members were started, so
// that an id's first claim to this member may not be its first at all.
func (c *Claims) KnowStarted(started func(id uint64) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.started = started
}

// Admit says whether the data directory of a peer is the one it started with.
func (c *Claims) Admit(h Hello) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.check(h.From, h.Instance)
}

func (c *Claims) check(id uint64, instance string) error {
	if known, ok := c.known[id]; ok && known != instance {
		return claimed(id)
	}
	return nil
}

func claimed(id uint64) error {
	return fmt.Errorf("member %x: %w; start it with that directory, or remove it from the cluster and add it again under a new id: "+
		"conclave member remove %x, conclave member add NAME --peer-urls=URL, then start it with an empty directory and --initial-cluster-state existing",
		id, ErrClaimed, id)
}

// Claim records that id starts with a data directory; it is durable on return.
func (c *Claims) Claim(id uint64, instance string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.check(id, instance); err != nil {
		return err
	}
	if _, ok := c.known[id]; ok {
		return nil
	}
	if c.started != nil && c.started(id) {
		return claimed(id)
	}
	c.known[id] = instance
	if err := c.store(); err != nil {
		delete(c.known, id) // granted is only what is on disk
		return err
	}
	return nil
}

func (c *Claims) store() error {
	raw, err := json.Marshal(c.known)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(c.path, raw, 0o600); err != nil {
		return fmt.Errorf("write claims: %w", err)
	}
	return nil
}

// codeClaimed is the code of a claim refused with ErrClaimed.
const codeClaimed = 1

// Serve answers the claims of peers. It must not be called before Keep.
func (c *Claims) Serve(mesh *Mesh) {
	mesh.Handle(KindClaim, func(_ context.Context, from uint64, payload []byte) ([]byte, error) {
		var claim conclavepb.Claim
		if err := proto.Unmarshal(payload, &claim); err != nil {
			return nil, err
		}
		if claim.Member != from {
			return nil, fmt.Errorf("raftstore: member %x claims to be %x", from, claim.Member)
		}
		err := c.Claim(claim.Member, claim.Instance)
		if errors.Is(err, ErrClaimed) {
			return nil, &CallError{Code: codeClaimed, Text: err.Error()}
		}
		return nil, err
	})
}
