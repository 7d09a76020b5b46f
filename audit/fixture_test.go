package audit

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/conclave-kv/conclave/internal/logging"
)

// memory is a cluster that remembers anchors.
type memory struct {
	mu    sync.Mutex
	heads []Head
}

func (m *memory) anchor(_ context.Context, h Head) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.heads = append(m.heads, h)
	return nil
}

func (m *memory) newest() Head {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.heads) == 0 {
		return Head{}
	}
	return m.heads[len(m.heads)-1]
}

func (m *memory) of(string) ([]Head, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.heads, nil
}

func options(name string, m *memory) Options {
	return Options{
		Output: name, Rotation: logging.Rotation{MaxSize: 1}, Level: All, Member: 0xabc, Version: "1",
		Anchored: m.newest(), Anchor: m.anchor, AnchorEvery: time.Hour, Log: zerolog.Nop(),
	}
}

func open(t testing.TB, o Options) *Log {
	t.Helper()
	l, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func closeLog(t testing.TB, l *Log) {
	t.Helper()
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func put(key string) *Record {
	return &Record{
		Time: time.Unix(1, 0), User: "alice", Proof: Token, Method: "/etcdserverpb.KV/Put",
		Target: Target{Key: []byte(key)}, Revision: 7, Decision: Allowed, Code: "OK", Latency: 1500 * time.Microsecond,
	}
}

// written is a log of records of these keys, between a start and a stop, and its
// lines.
func written(t testing.TB, m *memory, keys ...string) (name string, lines []string) {
	t.Helper()
	name = filepath.Join(t.TempDir(), "audit.log")
	l := open(t, options(name, m))
	for _, key := range keys {
		l.Add(put(key))
	}
	closeLog(t, l)
	return name, linesOf(t, name)
}

func linesOf(t testing.TB, name string) []string {
	t.Helper()
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return strings.SplitAfter(strings.TrimSuffix(string(raw), "\n"), "\n")
}

// verify reads texts as files a, b and so on.
func verify(t testing.TB, anchors func(string) ([]Head, error), texts ...string) (*Verifier, Summary) {
	t.Helper()
	v := &Verifier{Anchors: anchors}
	for i, text := range texts {
		if err := v.Read(string(rune('a'+i)), bytes.NewReader([]byte(text))); err != nil {
			t.Fatal(err)
		}
	}
	return v, v.End()
}

func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not after 30 s", what)
		}
	}
}
