package fsm

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"os"
	"syscall"
)

// bbolt trusts the pages of its file: it follows a damaged one out of the file
// or in a circle, and ends the process. So the pages are walked before bbolt
// sees them: every page that can be reached is of the right kind, within the
// file, reached once, and in the order of keys. Contents have no checksum; what
// can be told of them is told when they are loaded.

// The layout of bbolt's file, version 2.
const (
	boltMagic   = 0xED0CDAED
	boltVersion = 2

	pageHeader  = 16 // id 8, flags 2, count 2, overflow 4
	elementSize = 16 // branch: pos 4, ksize 4, page 8; leaf: flags 4, pos 4, ksize 4, vsize 4
	bucketHead  = 16 // root 8, sequence 8; root 0: a page follows inline
	metaSize    = 64 // behind the page header
	minPage     = 1 << 10
	maxPage     = 16 << 20

	flagBranch   = 0x01
	flagLeaf     = 0x02
	flagFreelist = 0x10
	flagBucket   = 0x01 // of a leaf's element

	noFreelist = 1<<64 - 1
)

// meta is what a meta page says.
type meta struct {
	pageSize                   int64
	root, freelist, pages, txn uint64
}

// parseMeta reads a meta page; ok tells whether it is whole.
func parseMeta(page []byte) (m meta, ok bool) {
	if len(page) < pageHeader+metaSize {
		return m, false
	}
	b := page[pageHeader : pageHeader+metaSize]
	h := fnv.New64a()
	h.Write(b[:metaSize-8])
	u32, u64 := binary.NativeEndian.Uint32, binary.NativeEndian.Uint64
	m = meta{pageSize: int64(u32(b[8:])), root: u64(b[16:]), freelist: u64(b[32:]), pages: u64(b[40:]), txn: u64(b[48:])}
	ok = u32(b) == boltMagic && u32(b[4:]) == boltVersion && u64(b[56:]) == h.Sum64() &&
		m.pageSize >= minPage && m.pageSize <= maxPage && m.pageSize&(m.pageSize-1) == 0
	return m, ok
}

// newestMeta reads the meta that bbolt will take: the newest whole one. The
// other may be half written, by a process that was killed.
func newestMeta(f *os.File) (best meta, err error) {
	found := false
	for at := int64(0); at <= maxPage; at = max(minPage, 2*at) {
		page := make([]byte, pageHeader+metaSize)
		if _, err := f.ReadAt(page, at); err != nil {
			break // the end of the file
		}
		m, ok := parseMeta(page)
		if ok && (at == 0 || at == m.pageSize) && (!found || m.txn > best.txn) {
			best, found = m, true
		}
	}
	if !found {
		return best, damage{0, "neither of its two meta pages is whole"}
	}
	return best, nil
}

// checkPages walks the pages of a file that is not empty. It reads all of it
// once, in an order that suits disks better than loading would.
func checkPages(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() == 0 {
		return nil // bbolt made it, and came no further
	}
	m, err := newestMeta(f)
	if err != nil {
		return err
	}
	if m.pages < 4 || m.pages > uint64(info.Size()/m.pageSize) {
		return damage{info.Size(), fmt.Sprintf("the file ends, and should have %d pages of %d bytes", m.pages, m.pageSize)}
	}
	data, err := syscall.Mmap(int(f.Fd()), 0, int(m.pages)*int(m.pageSize), syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map %s: %w", f.Name(), err)
	}
	defer func() { _ = syscall.Munmap(data) }()      // of reading only
	_ = syscall.Madvise(data, syscall.MADV_WILLNEED) // a hint
	w := walk{meta: m, data: data, seen: make([]uint64, m.pages/64+1)}
	w.resident.forget = func() { _ = syscall.Madvise(data, syscall.MADV_DONTNEED) } // a hint
	w.visit(0, nil, nil, m.root)
	for len(w.next) > 0 {
		s := w.next[len(w.next)-1]
		w.next = w.next[:len(w.next)-1]
		if err := w.page(s); err != nil {
			return err
		}
	}
	return w.freelist()
}

// A step is a page to be walked, whose keys are in [lo, hi).
type step struct {
	from   uint64 // page that points to it
	id     uint64
	lo, hi []byte
}

// A walk goes over all pages that can be reached.
type walk struct {
	meta
	data []byte // the pages in use
	seen []uint64
	next []step

	resident resident
}

func (w *walk) visit(from uint64, lo, hi []byte, id uint64) {
	w.next = append(w.next, step{from, id, lo, hi})
}

func (w *walk) damaged(id uint64, format string, args ...any) error {
	return damage{int64(id) * w.pageSize, fmt.Sprintf("page %d: ", id) + fmt.Sprintf(format, args...)}
}

// claim marks pages as reached, which none may be before.
func (w *walk) claim(from, id, count uint64) error {
	if id < 2 || id >= w.pages || count > w.pages-id {
		return w.damaged(from, "it points to %d pages from %d on, and there are %d", count, id, w.pages)
	}
	for i := id; i < id+count; i++ {
		if w.seen[i/64]&(1<<(i%64)) != 0 {
			return w.damaged(from, "it points to page %d, as another page does", i)
		}
		w.seen[i/64] |= 1 << (i % 64)
	}
	return nil
}

// extent returns a page with its overflow.
func (w *walk) extent(from, id uint64) ([]byte, error) {
	if err := w.claim(from, id, 1); err != nil {
		return nil, err
	}
	at := int64(id) * w.pageSize
	overflow := uint64(binary.NativeEndian.Uint32(w.data[at+12:]))
	if overflow > 0 {
		if overflow >= w.pages {
			return nil, w.damaged(id, "it goes on for %d pages", overflow)
		}
		if err := w.claim(id, id+1, overflow); err != nil {
			return nil, err
		}
	}
	p := w.data[at : at+int64(overflow+1)*w.pageSize]
	w.resident.read(len(p))
	if got := binary.NativeEndian.Uint64(p); got != id {
		return nil, w.damaged(id, "it says that it is page %d", got)
	}
	return p, nil
}

func (w *walk) page(s step) error {
	p, err := w.extent(s.from, s.id)
	if err != nil {
		return err
	}
	switch flags := binary.NativeEndian.Uint16(p[8:]); flags {
	case flagBranch:
		return w.branch(s, p)
	case flagLeaf:
		return w.leaf(s, p, false)
	default:
		return w.damaged(s.id, "it is of kind %#x, not a branch or leaf", flags)
	}
}

// between checks the order of keys: prev, nil for none, is before key, which is
// in the step's range.
func (w *walk) between(s step, prev, key []byte) error {
	switch {
	case prev != nil && bytes.Compare(prev, key) >= 0,
		prev == nil && bytes.Compare(key, s.lo) < 0,
		s.hi != nil && bytes.Compare(key, s.hi) >= 0:
		return w.damaged(s.id, "its key %x is out of order", key)
	}
	return nil
}

// cut takes size bytes of p at a position that is counted from an element. What
// elements point to lies behind them, in order and without gaps.
func cut(p []byte, element int, pos, size uint32) ([]byte, bool) {
	from := uint64(element) + uint64(pos)
	to := from + uint64(size)
	if to > uint64(len(p)) {
		return nil, false
	}
	return p[from:to], true
}

func (w *walk) branch(s step, p []byte) error {
	count := int(binary.NativeEndian.Uint16(p[10:]))
	if count == 0 || pageHeader+count*elementSize > len(p) {
		return w.damaged(s.id, "a branch of %d elements", count)
	}
	var prev []byte
	end := pageHeader + count*elementSize // of the elements so far
	for i := range count {
		at := pageHeader + i*elementSize
		pos := binary.NativeEndian.Uint32(p[at:])
		key, ok := cut(p, at, pos, binary.NativeEndian.Uint32(p[at+4:]))
		if !ok || len(key) == 0 || at+int(pos) != end {
			return w.damaged(s.id, "the key of element %d is not in it", i)
		}
		if err := w.between(s, prev, key); err != nil {
			return err
		}
		end += len(key)
		if i > 0 {
			w.next[len(w.next)-1].hi = key
		}
		w.visit(s.id, key, s.hi, binary.NativeEndian.Uint64(p[at+8:]))
		prev = key
	}
	return nil
}

func (w *walk) leaf(s step, p []byte, inline bool) error {
	count := int(binary.NativeEndian.Uint16(p[10:]))
	if pageHeader+count*elementSize > len(p) {
		return w.damaged(s.id, "a leaf of %d elements", count)
	}
	var prev []byte
	end := pageHeader + count*elementSize // of the elements so far
	for i := range count {
		at := pageHeader + i*elementSize
		flags, pos := binary.NativeEndian.Uint32(p[at:]), binary.NativeEndian.Uint32(p[at+4:])
		ksize, vsize := binary.NativeEndian.Uint32(p[at+8:]), binary.NativeEndian.Uint32(p[at+12:])
		key, ok := cut(p, at, pos, ksize)
		value, okValue := cut(p, at+int(pos), ksize, vsize)
		if !ok || !okValue || len(key) == 0 || at+int(pos) != end {
			return w.damaged(s.id, "element %d is not in it", i)
		}
		end += len(key) + len(value)
		if err := w.between(s, prev, key); err != nil {
			return err
		}
		prev = key
		switch {
		case flags == 0:
		case flags == flagBucket && !inline:
			if err := w.bucket(s, key, value); err != nil {
				return err
			}
		default:
			return w.damaged(s.id, "element %d is of kind %#x", i, flags)
		}
	}
	return nil
}

func (w *walk) bucket(s step, key, value []byte) error {
	if len(value) < bucketHead {
		return w.damaged(s.id, "bucket %q has no head", key)
	}
	if root := binary.NativeEndian.Uint64(value); root != 0 {
		w.visit(s.id, nil, nil, root)
		return nil
	}
	p := value[bucketHead:]
	if len(p) < pageHeader || binary.NativeEndian.Uint16(p[8:]) != flagLeaf ||
		binary.NativeEndian.Uint64(p) != 0 || binary.NativeEndian.Uint32(p[12:]) != 0 {
		return w.damaged(s.id, "bucket %q has no page", key)
	}
	return w.leaf(step{id: s.id}, p, true)
}

// freelist checks the list of free pages, in a file that has one. Pages that
// are in use must not be in it: they would be written over.
func (w *walk) freelist() error {
	if w.meta.freelist == noFreelist {
		return nil
	}
	id := w.meta.freelist
	p, err := w.extent(0, id)
	if err != nil {
		return err
	}
	if flags := binary.NativeEndian.Uint16(p[8:]); flags != flagFreelist {
		return w.damaged(id, "it is of kind %#x, not a list of free pages", flags)
	}
	list := p[pageHeader:]
	count := uint64(binary.NativeEndian.Uint16(p[10:]))
	if count == 0xFFFF {
		count = binary.NativeEndian.Uint64(list)
		list = list[8:]
	}
	if count > uint64(len(list)/8) {
		return w.damaged(id, "a list of %d free pages", count)
	}
	last := uint64(0)
	for ; count > 0; count-- {
		free := binary.NativeEndian.Uint64(list)
		if free <= last {
			return w.damaged(id, "free page %d is out of order", free)
		}
		if err := w.claim(id, free, 1); err != nil {
			return err
		}
		list, last = list[8:], free
	}
	return nil
}
