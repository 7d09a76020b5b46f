package fsm

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// ErrBackupEnded: a copy of the state file was given up before it was read to
// its end, because keeping it would have cost too much disk or held up writes.
var ErrBackupEnded = errors.New("snapshot ended early")

const (
	// minPinned is what copies may keep of replaced pages in any state file, in
	// bytes; in a large one it is half of the oldest copy's size.
	minPinned = 256 << 20
	// commitRoom is what a commit may need of new pages beside twice its bytes.
	commitRoom = 64 << 20
	// mapStep is how bbolt's mapping of a file of more than this grows, in bytes.
	mapStep = 1 << 30
)

// Backup is a copy of the state file as of one Commit, which a client may read
// at its own pace: who pays for that is bounded. While it is open, pages of it
// that are replaced stay in the file (bbolt reuses all others), and the file
// cannot be mapped anew; so Commit ends copies, the oldest first, when what
// they keep is more than 256 MiB and half of a copy's size, or when the file is
// about to outgrow its mapping. Close of the Machine, and an install, end them
// too. After a defragmentation a copy goes on, of the file that was replaced; see
// Replaced. It is safe for concurrent use.
type Backup struct {
	size  int64
	owner *backups
	db    *bbolt.DB // whose pages it keeps

	mu   sync.Mutex
	tx   *bbolt.Tx // nil once it is closed
	file *os.File
	head []byte // both meta pages
	next int64
	why  error // of a copy that was ended
}

// Backup opens a copy of the state file in use, as of the last Commit. Error:
// kv.ErrClosed.
func (m *Machine) Backup() (b *Backup, err error) {
	err = m.read(func(f *stateFile) error {
		b, err = f.backup()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("copy of the state file: %w", err)
	}
	return b, nil
}

// EndBackups ends all copies that are being read, for a reason that their
// readers are told: ErrBackupEnded with that text. Safe for concurrent use.
func (m *Machine) EndBackups(why string) { m.file.Load().backups.endAll(nil, why) }

func (f *stateFile) backup() (*Backup, error) {
	tx, file, err := f.beginCopy()
	if err != nil {
		return nil, err
	}
	b := &Backup{size: tx.Size(), owner: &f.backups, db: tx.DB(), tx: tx, file: file}
	// bbolt writes the two meta pages as they have to be in a copy, and is
	// stopped there: the rest is read in pieces, each from where the last ended.
	head := &headWriter{want: 2 * tx.DB().Info().PageSize}
	if _, err := tx.WriteTo(head); !errors.Is(err, errHeadDone) {
		return nil, errors.Join(err, b.end(nil))
	}
	b.head = head.data
	if !f.backups.add(b) {
		return nil, errors.Join(closedError(bolterrors.ErrDatabaseNotOpen), b.end(nil))
	}
	return b, nil
}

// beginCopy begins a transaction, and opens the file that it reads.
func (f *stateFile) beginCopy() (*bbolt.Tx, *os.File, error) {
	f.commits.Lock() // so that no defragmentation ends meanwhile
	defer f.commits.Unlock()
	tx, err := f.begin()
	if err != nil {
		return nil, nil, err
	}
	file, err := os.Open(f.path)
	if err != nil {
		return nil, nil, errors.Join(err, tx.Rollback())
	}
	if info, err := file.Stat(); err != nil || !os.SameFile(info, f.opened) {
		return nil, nil, errors.Join(fmt.Errorf("%w: another state takes its place; ask again", ErrBackupEnded), err, tx.Rollback(), file.Close())
	}
	return tx, file, nil
}

// errHeadDone ends bbolt's copy behind the meta pages.
var errHeadDone = errors.New("fsm: both meta pages are there")

type headWriter struct {
	data []byte
	want int
}

func (h *headWriter) Write(p []byte) (int, error) {
	if len(h.data) == h.want {
		return 0, errHeadDone
	}
	h.data = append(h.data, p...)
	return len(p), nil
}

// Size is how many bytes there are to read, exactly.
func (b *Backup) Size() int64 { return b.size }

// Read gives the next bytes, io.EOF at the end. Errors: ErrBackupEnded, those
// of the disk.
func (b *Backup) Read(p []byte) (n int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.why != nil:
		return 0, b.why
	case b.tx == nil:
		return 0, os.ErrClosed
	case b.next == b.size:
		return 0, io.EOF
	}
	if rest := b.size - b.next; int64(len(p)) > rest {
		p = p[:rest]
	}
	if b.next < int64(len(b.head)) {
		n = copy(p, b.head[b.next:])
	} else if n, err = b.file.ReadAt(p, b.next); err != nil {
		err = fmt.Errorf("read state file: %w", err)
	}
	b.next += int64(n)
	return n, err
}

// Close gives the copy up; it may be called again.
func (b *Backup) Close() error {
	b.owner.remove(b)
	return b.end(nil)
}

// end lets the pages go. A later Read says why, if a reason is given.
func (b *Backup) end(why error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.tx == nil {
		return nil
	}
	err := errors.Join(b.tx.Rollback(), b.file.Close())
	b.tx, b.head, b.why = nil, nil, why
	return err
}

// backups are the copies of one state, oldest first: of the file in use, and of
// those that defragmentations have replaced. Where a db is asked for, nil means
// all of them.
type backups struct {
	mu   sync.Mutex
	open []*Backup
	over bool // the file is closed, or about to be
}

func (s *backups) add(b *Backup) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return false
	}
	s.open = append(s.open, b)
	return true
}

func (s *backups) remove(b *Backup) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.open, b); i >= 0 {
		s.open = slices.Delete(s.open, i, i+1)
	}
}

// oldest is the copy that keeps the most pages of a file, nil if there is none.
func (s *backups) oldest(db *bbolt.DB) *Backup {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.IndexFunc(s.open, func(b *Backup) bool { return db == nil || b.db == db }); i >= 0 {
		return s.open[i]
	}
	return nil
}

func (s *backups) endOldest(db *bbolt.DB, why string) {
	if b := s.oldest(db); b != nil {
		s.remove(b)
		_ = b.end(fmt.Errorf("%w: %s", ErrBackupEnded, why)) // a rollback of reading only
	}
}

func (s *backups) endAll(db *bbolt.DB, why string) {
	for s.oldest(db) != nil {
		s.endOldest(db, why)
	}
}

// close ends all copies, and those that somebody is about to open.
func (s *backups) close() {
	s.mu.Lock()
	s.over = true
	s.mu.Unlock()
	s.endAll(nil, "the state file was replaced, or this member is stopping; ask again")
}

// makeWay ends copies that would cost too much, or hold up the commit of so
// many bytes: bbolt waits for all readers before it maps a file anew.
func (f *stateFile) makeWay(bytes int64) {
	db := f.db.Load()
	oldest := f.backups.oldest(db)
	if oldest == nil {
		return
	}
	page := int64(db.Info().PageSize)
	limit := max(f.minPinned, oldest.size/2)
	if kept := int64(db.Stats().PendingPageN) * page; kept > limit {
		f.backups.endOldest(db, fmt.Sprintf("it is read so slowly that %d MiB of replaced pages were kept for it (the limit is %d MiB); read it faster", kept>>20, limit>>20))
	}
	size := oldest.size
	_ = db.View(func(tx *bbolt.Tx) error { // a closed file has no copies
		size = tx.Size()
		return nil
	})
	if mapped(max(f.mapped, size))-size < 2*bytes+commitRoom {
		f.backups.endAll(db, "the state file has to be mapped anew, which waits for readers; ask again")
	}
}

// mapped is how much of the address space bbolt takes for a file of some size:
// a power of two, and from 1 GiB on whole steps.
func mapped(size int64) int64 {
	for n := int64(1 << 15); n <= mapStep; n <<= 1 {
		if size <= n {
			return n
		}
	}
	return (size + mapStep - 1) / mapStep * mapStep
}
