package fsm

import (
	"errors"
	"fmt"
	"os"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/conclave-kv/conclave/internal/conclavepb"
)

// Inspected is what Inspect finds in a state file.
type Inspected struct {
	// Index and Term are of the last entry held.
	Index, Term uint64
	// Membership is in force there, of the entry at MembershipIndex; nil in a
	// new file.
	MembershipIndex uint64
	Membership      *conclavepb.Configuration
	// Members have the names too.
	Members *Members
}

// Inspect reads where in the log a state file is. The file is only read, and
// must not be in use. Errors: fs.ErrNotExist, ErrInUse, ErrCorrupt,
// ErrNewerFormat.
func Inspect(path string) (found Inspected, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return found, err
	}
	if info.Size() == 0 { // which bbolt cannot read without writing
		return Inspected{Members: &Members{}}, nil
	}
	if err := checkFile(path); err != nil {
		return found, err
	}
	err = guarded(func() error {
		db, err := bbolt.Open(path, 0, &bbolt.Options{ReadOnly: true, Timeout: 1, NoFreelistSync: true})
		if errors.Is(err, bolterrors.ErrTimeout) {
			return fmt.Errorf("%w: %s", ErrInUse, path)
		}
		if err != nil {
			return err
		}
		return errors.Join(db.View(found.load), db.Close())
	})
	switch {
	case err == nil:
		return found, nil
	case errors.Is(err, ErrInUse):
		return found, err
	default:
		return found, loadError(path, err)
	}
}

func (i *Inspected) load(tx *bbolt.Tx) error {
	i.Members = &Members{}
	if !hasBuckets(tx) {
		return nil // made, and nothing in it yet
	}
	at, err := loadPosition(tx)
	if err != nil {
		return err
	}
	i.Index, i.Term = at.Position()
	i.MembershipIndex, i.Membership = at.Membership()
	i.Members, err = loadMembers(tx, at.conf)
	return err
}
