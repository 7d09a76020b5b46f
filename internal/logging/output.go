package logging

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
)

// Output is where a process logs to: the joined writers of --log-outputs.
// Write is safe for concurrent use; each line goes to every writer whole.
type Output struct {
	mu      sync.Mutex
	writers []io.Writer
	files   []io.WriteCloser
}

// Open opens the outputs named by --log-outputs: stderr, stdout, default
// (stderr, alone) or files, which are created with mode 0600 and appended to.
// No names at all mean stderr; a name given twice counts once. If rotation is not
// nil, files are rotated as it says.
func Open(names []string, rotation *Rotation) (*Output, error) {
	if slices.Contains(names, "default") && len(names) > 1 {
		return nil, fmt.Errorf("--log-outputs %q: default stands alone; name stderr instead of it", strings.Join(names, ","))
	}
	if len(names) == 0 {
		names = []string{"default"}
	}
	o := &Output{}
	seen := map[string]bool{}
	for _, name := range names {
		if seen[name] {
			continue
		}
		seen[name] = true
		if err := o.add(name, rotation); err != nil {
			return nil, errors.Join(err, o.Close())
		}
	}
	return o, nil
}

func (o *Output) add(name string, rotation *Rotation) error {
	switch name {
	case "default", "stderr":
		o.writers = append(o.writers, os.Stderr)
	case "stdout":
		o.writers = append(o.writers, os.Stdout)
	case "systemd/journal":
		return fmt.Errorf("--log-outputs %q: use stderr, which systemd's journal collects from a unit", name)
	case "":
		return errors.New("--log-outputs holds an empty name; use stderr, stdout or a file name")
	default:
		f, err := openFile(name, rotation)
		if err != nil {
			return err
		}
		o.files = append(o.files, f)
		o.writers = append(o.writers, f)
	}
	return nil
}

func openFile(name string, rotation *Rotation) (io.WriteCloser, error) {
	if rotation == nil {
		return openLog(name)
	}
	return openRotated(name, *rotation)
}

// Write writes one line to every output. A failing output does not keep the
// line from the others; the errors are joined.
func (o *Output) Write(line []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var errs []error
	for _, w := range o.writers {
		if _, err := w.Write(line); err != nil {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return 0, err
	}
	return len(line), nil
}

// Close closes the files; stderr and stdout stay open. Lines written later
// reach the open ones only.
func (o *Output) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	var errs []error
	for _, f := range o.files {
		errs = append(errs, f.Close())
		o.writers = slices.DeleteFunc(o.writers, func(w io.Writer) bool { return w == io.Writer(f) })
	}
	o.files = nil
	return errors.Join(errs...)
}
