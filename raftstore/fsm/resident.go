package fsm

import "go.etcd.io/bbolt"

// residentStep is how many bytes of a mapped file are read before its pages are
// given back, where all of it is read once.
const residentStep = 32 << 20

// resident keeps what a process that reads through a whole file has of it in its
// memory far below the file's size. The pages stay in the kernel's cache.
type resident struct {
	bytes  int
	forget func()
}

// residentOf is for reading the file of a transaction.
func residentOf(tx *bbolt.Tx) *resident {
	return &resident{forget: func() {
		_ = forgetPages(tx.DB(), tx.Size()) // it is well without, but larger
	}}
}

// read notes that so many bytes were read.
func (r *resident) read(bytes int) {
	if r.bytes += bytes; r.bytes >= residentStep {
		r.bytes = 0
		r.forget()
	}
}
