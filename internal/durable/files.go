package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// File is one file for WriteFiles.
type File struct {
	Path string
	Data []byte
	Perm fs.FileMode
}

// WriteFiles is WriteFile for files that are of use only together, such as a
// certificate and its key. All are written and fsynced before the first is put
// in place, and if one cannot be, those before it are again what they were.
// Only a crash between two renames leaves new beside old; the old is then still
// there under its second name.
func WriteFiles(files ...File) error {
	var all []*swap
	defer func() {
		for _, s := range all {
			_ = os.Remove(s.tmp) // gone where it was put in place
		}
	}()
	for _, f := range files {
		tmp, err := writeTemp(f.Path, f.Data, f.Perm)
		if err != nil {
			return err
		}
		all = append(all, &swap{path: f.Path, tmp: tmp})
	}
	for i, s := range all {
		if err := s.do(); err != nil {
			return undo(all[:i], err)
		}
	}
	for _, s := range all {
		if s.old != "" {
			_ = os.Remove(s.old) // only the second name
		}
	}
	return syncDirs(all)
}

// undo takes swaps back after err.
func undo(done []*swap, err error) error {
	for _, s := range slices.Backward(done) {
		if uerr := s.undo(); uerr != nil {
			err = fmt.Errorf("%w; and %s could not be put back: %w", err, s.path, uerr)
		}
	}
	_ = syncDirs(done) // err is the one to report
	return err
}

// syncDirs fsyncs the directories of swaps, each once.
func syncDirs(all []*swap) error {
	var dirs []string
	for _, s := range all {
		if dir := filepath.Dir(s.path); !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	for _, dir := range dirs {
		if err := SyncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// swap is a file that takes the place of another, until it is known whether it
// stays.
type swap struct {
	path, tmp string
	old       string // second name of what was at path, "" for nothing
}

// do puts the file in place. If it cannot, nothing has changed.
func (s *swap) do() error {
	info, err := os.Lstat(s.path)
	switch {
	case err == nil && info.IsDir():
		return &fs.PathError{Op: "replace", Path: s.path, Err: syscall.EISDIR}
	case err == nil:
		s.old = s.tmp + ".old"
		err = os.Link(s.path, s.old)
		if err != nil {
			// Not every file system has hard links, and not every file may get one.
			err = os.Rename(s.path, s.old)
		}
	case errors.Is(err, fs.ErrNotExist):
		err = nil
	}
	if err != nil {
		return err
	}
	if err = os.Rename(s.tmp, s.path); err != nil && s.old != "" {
		return undo([]*swap{s}, err)
	}
	return err
}

// undo makes path again what it was before do.
func (s *swap) undo() error {
	if s.old == "" {
		return os.Remove(s.path)
	}
	if err := os.Rename(s.old, s.path); err != nil {
		return err
	}
	// A rename of one name of a file over the other leaves both.
	if err := os.Remove(s.old); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
