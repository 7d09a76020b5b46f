package fsm

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/conclave-kv/conclave/internal/conclavepb"
)

const newer = NewestLevel + 1

func openAtLevel(path string, level uint32) (*Machine, error) {
	return Open(Options{Path: path, Quota: 64 << 20, Level: level, Log: zerolog.Nop()})
}

func attributes(id uint64, level uint32) *conclavepb.Attributes {
	return &conclavepb.Attributes{Member: id, Name: "m", Level: level}
}

// raiseLevel has a machine apply a level after what members told.
func raiseLevel(t *testing.T, m *Machine, told ...*conclavepb.Attributes) {
	t.Helper()
	m.Configure(1, 1, members(1, 2))
	var parts []any
	for _, a := range told {
		parts = append(parts, KindAttributes, a)
	}
	parts = append(parts, KindFeatureLevel, &conclavepb.FeatureLevel{Level: newer})
	m.Command(2, 1, entryOf(t, 1, 1, parts...))
	m.Publish()
}

func TestMachine_levelNeedsAll(t *testing.T) {
	for name, c := range map[string]struct {
		told []*conclavepb.Attributes
		want uint32
	}{
		"all":             {[]*conclavepb.Attributes{attributes(1, newer), attributes(2, newer)}, newer},
		"one is older":    {[]*conclavepb.Attributes{attributes(1, newer), attributes(2, NewestLevel)}, firstLevel},
		"one is not told": {[]*conclavepb.Attributes{attributes(1, newer)}, firstLevel},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "db")
			m, err := openAtLevel(path, newer)
			if err != nil {
				t.Fatal(err)
			}
			raiseLevel(t, m, c.told...)
			if got := m.View().Level; got != c.want {
				t.Errorf("level %d is in force, want %d", got, c.want)
			}
			// It is in the state file, with what the members told.
			if err := m.Close(); err != nil {
				t.Fatal(err)
			}
			if m, err = openAtLevel(path, newer); err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			if got := m.View(); got.Level != c.want || len(c.told) == 2 && got.Members.Capable() != min(c.told[0].Level, c.told[1].Level) {
				t.Errorf("after reopening level %d is in force, and all understand %d", got.Level, got.Members.Capable())
			}
		})
	}
}

// An older program refuses what a newer level may have left in the state, and stops
// at an entry that goes on to one.
func TestMachine_olderStops(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	m, err := openAtLevel(path, newer)
	if err != nil {
		t.Fatal(err)
	}
	raiseLevel(t, m, attributes(1, newer), attributes(2, newer))
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if m, err := openAtLevel(path, NewestLevel); !errors.Is(err, ErrNewerFormat) || !strings.Contains(err.Error(), fmt.Sprintf("feature level %d", newer)) {
		t.Errorf("an older program opens it: %v, %v", m, err)
	}
	if _, err := Import(path, ImportOptions{Members: members(1)}); !errors.Is(err, ErrNewerFormat) {
		t.Errorf("an older program imports it: %v", err)
	}
	older := openMachine(t, filepath.Join(t.TempDir(), "db"))
	for name, entry := range map[string]func(){
		"a level": func() { raiseLevel(t, older, attributes(1, newer), attributes(2, newer)) },
		"a kind": func() {
			older.Command(3, 1, entryOf(t, 1, 2, KindReserved, &conclavepb.FeatureLevel{}))
		},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s that it does not understand does not stop it", name)
				}
			}()
			entry()
		}()
	}
}
