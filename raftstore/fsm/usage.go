package fsm

import "go.etcd.io/bbolt"

// Used is how many bytes the state takes: those in use in the state file, and
// those that wait to be written to it. What the file will use again is not among
// them, even while readers keep it from doing so. It is cheap, and safe for
// concurrent use.
func (m *Machine) Used() int64 {
	f := m.file.Load()
	return f.used.Load() + f.queue.backlog.Load()
}

// measure notes what is in use, whenever that may have changed. A file that is
// closed meanwhile has no use for the number.
func (f *stateFile) measure() {
	if total, free, pending, err := f.pages(); err == nil {
		f.used.Store(max(total-free-pending, 0))
	}
}

// size is Machine.Size. As in etcd, pages that readers keep from being used again
// count as in use, unless they are kept for those who read copies, and no longer.
func (f *stateFile) size() (total, inUse int64, err error) {
	total, free, pending, err := f.pages()
	if f.backups.oldest(f.db.Load()) != nil {
		free += pending
	}
	return total, max(total-free, 0), err
}

// pages returns the bytes of the file, of those that are free, and of those that
// will be when the readers of now have ended and more was committed.
func (f *stateFile) pages() (total, free, pending int64, err error) {
	err = f.view(func(tx *bbolt.Tx) error {
		db := tx.DB()
		stats, size := db.Stats(), int64(db.Info().PageSize)
		total, free, pending = tx.Size(), int64(stats.FreePageN)*size, int64(stats.PendingPageN)*size
		return nil
	})
	return total, free, pending, err
}
