package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// WriteFile replaces path by a file of exactly data and perm. It writes a
// temporary file beside it, fsyncs it, renames it over path and fsyncs the
// directory: after a crash at any point path holds all of the old content or
// all of the new.
func WriteFile(path string, data []byte, perm fs.FileMode) error {
	tmp, err := writeTemp(path, data, perm)
	if err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		_ = os.Remove(tmp) // the rename's error is the one to report
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// CreateFile is WriteFile for a path that must not exist yet: an existing file
// is left alone and the error satisfies errors.Is(err, fs.ErrExist).
func CreateFile(path string, data []byte, perm fs.FileMode) error {
	if _, err := os.Lstat(path); err == nil {
		return &fs.PathError{Op: "create", Path: path, Err: fs.ErrExist}
	}
	tmp, err := writeTemp(path, data, perm)
	if err != nil {
		return err
	}
	// A hard link is the portable rename that refuses an existing target.
	err = os.Link(tmp, path)
	_ = os.Remove(tmp) // only the temporary name; a leftover harms nothing
	if err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// writeTemp writes and fsyncs data in a new file beside path.
func writeTemp(path string, data []byte, perm fs.FileMode) (name string, err error) {
	// CreateTemp opens with 0600 and O_EXCL: a secret is never readable by
	// others, not even for the time of the write.
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".tmp-*")
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	if _, err = f.Write(data); err != nil {
		return "", err
	}
	if err = f.Chmod(perm); err != nil {
		return "", err
	}
	if err = f.Sync(); err != nil {
		return "", err
	}
	if err = f.Close(); err != nil {
		return "", err
	}
	return f.Name(), nil
}

// MkdirAll creates path and its missing parents with perm and fsyncs the
// parent of each directory it created. An existing directory keeps its mode;
// an existing file is an error.
func MkdirAll(path string, perm fs.FileMode) error {
	path = filepath.Clean(path)
	switch info, err := os.Stat(path); {
	case err == nil && info.IsDir():
		return nil
	case err == nil:
		return fmt.Errorf("%s is a file, not a directory", path)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	parent := filepath.Dir(path)
	if err := MkdirAll(parent, perm); err != nil {
		return err
	}
	if err := os.Mkdir(path, perm); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return SyncDir(parent)
}

// SyncDir fsyncs a directory, so that names created, renamed or removed in it
// survive a power cut.
func SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("sync directory %s: %w", path, err)
	}
	return nil
}
