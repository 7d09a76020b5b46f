//go:build interop

package cluster_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"github.com/conclave-kv/conclave/internal/lockpb"
)

// lockRounds is how often each contender takes the lock.
const lockRounds = 4

// held is what contenders do with the lock: what the shell does in script, and
// what Go does in hold.
type held struct {
	t   *testing.T
	dir string
	mu  sync.Mutex // appends to the list
}

// script notes the create revision of the lock's key, and that nobody else holds
// the lock meanwhile.
func (h *held) script(get string) string {
	return fmt.Sprintf(`cd %s && mkdir held || echo twice >>list
%s get "$ETCD_LOCK_KEY" -w fields | sed -n 's/^"CreateRevision" : //p' >>list
rmdir held`, h.dir, get)
}

func (h *held) hold(client *clientv3.Client, key string) {
	list := ""
	dir := filepath.Join(h.dir, "held")
	if err := os.Mkdir(dir, 0o700); err != nil {
		list = "twice\n"
	}
	resp, err := client.Get(h.t.Context(), key)
	if err != nil || len(resp.Kvs) != 1 {
		h.t.Errorf("the key of a lock that is held: %v, %v", resp, err)
		return
	}
	h.note(list + fmt.Sprintln(resp.Kvs[0].CreateRevision))
	if err := os.Remove(dir); err != nil {
		h.t.Error(err)
	}
}

func (h *held) note(text string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f, err := os.OpenFile(filepath.Join(h.dir, "list"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = f.WriteString(text)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		h.t.Error(err)
	}
}

// contender takes the lock once, through a member.
type contender func(m *member, client *clientv3.Client) error

func (h *held) contenders() []contender {
	byProgram := func(program string) contender {
		return func(m *member, _ *clientv3.Client) error {
			get := program + " --endpoints " + m.clientURL()
			_, err := m.ctl(program, "lock", "shared", "--", "sh", "-c", h.script(get))
			return err
		}
	}
	byMutex := func(_ *member, client *clientv3.Client) error {
		s, err := concurrency.NewSession(client)
		if err != nil {
			return err
		}
		defer s.Close()
		m := concurrency.NewMutex(s, "shared")
		if err := m.Lock(h.t.Context()); err != nil {
			return err
		}
		h.hold(client, m.Key())
		return m.Unlock(h.t.Context())
	}
	byService := func(_ *member, client *clientv3.Client) error {
		locks := lockpb.NewLockClient(client.ActiveConnection())
		resp, err := locks.Lock(h.t.Context(), &lockpb.LockRequest{Name: []byte("shared")})
		if err != nil {
			return err
		}
		h.hold(client, string(resp.Key))
		_, err = locks.Unlock(h.t.Context(), &lockpb.UnlockRequest{Key: resp.Key})
		return err
	}
	return []contender{byProgram(conclave), byProgram(realTool(h.t, "etcdctl")), byMutex, byService}
}

// conclave lock, etcdctl lock, a mutex of etcd's client and the Lock service, each
// on every member, hold one lock in turns, in the order in which they asked.
func TestLocks_mixedClients(t *testing.T) {
	t.Parallel()
	g := start(t, 3, false)
	h := &held{t: t, dir: t.TempDir()}
	var running sync.WaitGroup
	for _, m := range g.members {
		for i, take := range h.contenders() {
			client := m.dial()
			running.Go(func() {
				for range lockRounds {
					if err := take(m, client); err != nil {
						t.Errorf("contender %d on %s: %v", i, m.name, err)
					}
				}
			})
		}
	}
	running.Wait()
	list, err := os.ReadFile(filepath.Join(h.dir, "list"))
	if err != nil {
		t.Fatal(err)
	}
	last, turns := 0, 0
	for line := range bytes.Lines(list) {
		created, err := strconv.Atoi(strings.TrimSpace(string(line)))
		if err != nil {
			t.Fatalf("held twice: %s", list)
		}
		if created <= last {
			t.Errorf("who came at revision %d was served after who came at %d", created, last)
		}
		last = created
		turns++
	}
	if want := len(g.members) * len(h.contenders()) * lockRounds; turns != want {
		t.Errorf("the lock was held %d times, want %d", turns, want)
	}
}
