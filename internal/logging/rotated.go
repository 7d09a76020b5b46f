package logging

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// backupLayout is the time in the name of an old file, which is that of its
// renaming. The form is that of the files that etcd leaves.
const backupLayout = "2006-01-02T15-04-05.000"

// rotated is a log file that gets another name when it has become large. Write is
// called by one goroutine at a time.
type rotated struct {
	Rotation
	name string
	most int64 // bytes
	now  func() time.Time
	file *os.File
	size int64
	// open opens a file to append to, retire takes the one before it.
	open   func(name string) (*os.File, error)
	retire func(*os.File) error

	tidy   chan struct{} // holds one: there may be old files to look at
	tidier sync.WaitGroup
	failed error // the tidier's last error; its own until it ended
}

func openRotated(name string, r Rotation) (*rotated, error) {
	return openRotatedBy(name, r, openLog, (*os.File).Close)
}

func openRotatedBy(name string, r Rotation, open func(string) (*os.File, error), retire func(*os.File) error) (*rotated, error) {
	file, err := open(name)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	f := &rotated{
		Rotation: r, name: name, most: int64(r.MaxSize) << 20, now: time.Now,
		file: file, size: info.Size(), open: open, retire: retire, tidy: make(chan struct{}, 1),
	}
	f.tidy <- struct{}{}
	f.tidier.Go(func() {
		for range f.tidy {
			f.failed = f.tidyUp()
		}
	})
	return f, nil
}

// Write writes a line, at the beginning of a new file if it has no room in the old
// one. Where that cannot be made, the line goes to the old one: it is worth more
// than the bound.
func (f *rotated) Write(line []byte) (int, error) {
	var failed error
	if f.size > 0 && f.size+int64(len(line)) > f.most {
		failed = f.rotate()
	}
	n, err := f.file.Write(line)
	f.size += int64(n)
	return n, errors.Join(err, failed)
}

func (f *rotated) rotate() error {
	f.size = 0 // after a failure it is tried again when as much was written
	backup := f.backup()
	if err := os.Rename(f.name, backup); err != nil {
		return fmt.Errorf("rotate the log file: %w", err)
	}
	next, err := f.open(f.name)
	if err != nil {
		return errors.Join(err, os.Rename(backup, f.name))
	}
	old := f.file
	f.file = next
	select {
	case f.tidy <- struct{}{}:
	default:
	}
	return f.retire(old)
}

// parts are what stands before and behind the time in the name of an old file.
func (f *rotated) parts() (prefix, ext string) {
	ext = filepath.Ext(f.name)
	return strings.TrimSuffix(f.name, ext) + "-", ext
}

// backup is a name that no file has.
func (f *rotated) backup() string {
	prefix, ext := f.parts()
	at := f.now().UTC()
	if f.LocalTime {
		at = at.Local()
	}
	for ; ; at = at.Add(time.Millisecond) {
		name := prefix + at.Format(backupLayout) + ext
		if _, err := os.Lstat(name); err == nil {
			continue
		}
		if _, err := os.Lstat(name + ".gz"); err != nil {
			return name
		}
	}
}

// oldFile is a file that was rotated away.
type oldFile struct {
	name string
	at   time.Time
}

// tidyUp removes old files beyond the bounds, and compresses the others if that is
// wanted.
func (f *rotated) tidyUp() error {
	old, err := f.old()
	errs := []error{err}
	for i, o := range old {
		switch {
		case f.MaxBackups > 0 && i >= f.MaxBackups,
			f.MaxAge > 0 && f.now().Sub(o.at) > time.Duration(f.MaxAge)*24*time.Hour:
			errs = append(errs, os.Remove(o.name))
		case f.Compress && !strings.HasSuffix(o.name, ".gz"):
			errs = append(errs, pack(o.name))
		}
	}
	return errors.Join(errs...)
}

// old lists the old files, the newest first.
func (f *rotated) old() ([]oldFile, error) {
	prefix, ext := f.parts()
	entries, err := os.ReadDir(filepath.Dir(f.name))
	if err != nil {
		return nil, err
	}
	zone := time.UTC
	if f.LocalTime {
		zone = time.Local
	}
	var out []oldFile
	for _, e := range entries {
		text, ok := strings.CutPrefix(e.Name(), filepath.Base(prefix))
		if !ok || !e.Type().IsRegular() {
			continue
		}
		text = strings.TrimSuffix(strings.TrimSuffix(text, ".gz"), ext)
		if at, err := time.ParseInLocation(backupLayout, text, zone); err == nil {
			out = append(out, oldFile{filepath.Join(filepath.Dir(f.name), e.Name()), at})
		}
	}
	slices.SortFunc(out, func(a, b oldFile) int { return b.at.Compare(a.at) })
	return out, nil
}

// pack puts a compressed file in the place of another. A crash leaves one of them
// whole.
func pack(name string) (err error) {
	in, err := os.Open(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	part := name + ".part"
	out, err := os.OpenFile(part, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	zip := gzip.NewWriter(out)
	_, err = io.Copy(zip, in)
	if err = errors.Join(err, zip.Close(), out.Sync(), out.Close()); err != nil {
		return errors.Join(err, os.Remove(part))
	}
	return errors.Join(os.Rename(part, name+".gz"), os.Remove(name))
}

// Close waits until old files are dealt with.
func (f *rotated) Close() error {
	close(f.tidy)
	f.tidier.Wait()
	return errors.Join(f.failed, f.file.Close())
}
