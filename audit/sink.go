package audit

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"strings"

	"github.com/conclave-kv/conclave/internal/logging"
)

// The outputs that are no files.
const (
	Stdout = "-"
	Syslog = "syslog"
)

// IsFile reports whether an output is a file.
func IsFile(output string) bool { return output != Stdout && output != Syslog && output != "" }

// errForeign: somebody has named a file that holds something else.
var errForeign = errors.New("it holds no audit records; name another file")

// sink is where lines go. Write is called by one goroutine at a time, with whole
// lines or the rest of those that it did not write; n are those that it is done with.
// Sync is called by another one.
type sink interface {
	Write(lines []byte) (n int, err error)
	// Rotated reports whether Write has begun a new file since the last call.
	Rotated() bool
	Sync() error
	Close() error
}

// end is how an output ends.
type end struct {
	Head
	named bool // it has records, or could have
	torn  bool // the last line is cut
}

func openSink(o Options) (sink, end, error) {
	switch o.Output {
	case Stdout:
		return stream{os.Stdout}, end{}, nil
	case Syslog:
		s, err := dialSyslog()
		return s, end{}, err
	}
	file, err := logging.OpenFile(o.Output, o.Rotation)
	if err != nil {
		return nil, end{}, err
	}
	e, err := endOf(o.Output, file)
	if err != nil {
		return nil, end{}, errors.Join(err, file.Close())
	}
	return &fileSink{File: file, within: e.torn}, e, nil
}

// stream is an output that keeps nothing.
type stream struct{ io.Writer }

func (stream) Rotated() bool { return false }
func (stream) Sync() error   { return nil }
func (stream) Close() error  { return nil }

// fileSink is a file that is rotated between lines only.
type fileSink struct {
	*logging.File
	within bool // the last line was written in part
	seen   int
}

func (s *fileSink) Write(lines []byte) (n int, err error) {
	if s.within {
		n, err = s.Append(lines)
	} else {
		n, err = s.File.Write(lines)
	}
	if n > 0 {
		s.within = lines[n-1] != '\n'
	}
	return n, err
}

func (s *fileSink) Rotated() bool {
	before := s.seen
	s.seen = s.Rotations()
	return s.seen != before
}

// lookBack is how far from the end of a file its last record is looked for, in
// bytes: more than any line is long.
const lookBack = 1 << 20

// endOf finds the last record of a log: that of the file, or of the one that was
// rotated away last.
func endOf(name string, file *logging.File) (end, error) {
	raw, err := readEnd(name)
	if err != nil {
		return end{}, err
	}
	if len(raw) == 0 {
		old, err := file.Old()
		if err != nil || len(old) == 0 {
			return end{named: true}, err
		}
		if raw, err = readEnd(old[0]); err != nil {
			return end{}, err
		}
		e, err := lastRecord(raw)
		e.torn = false // nothing is written behind it
		return e, err
	}
	return lastRecord(raw)
}

// lastRecord finds it in the end of a file. What is cut behind it is left alone.
func lastRecord(raw []byte) (end, error) {
	e := end{named: true}
	whole := raw[:bytes.LastIndexByte(raw, '\n')+1]
	e.torn = len(whole) < len(raw)
	for rest := whole; len(rest) > 0; {
		rest = rest[:len(rest)-1]
		from := bytes.LastIndexByte(rest, '\n') + 1
		if l, ok := parseLine(rest[from:]); ok {
			e.Head = Head{Seq: l.Seq, Hash: l.hash}
			return e, nil
		}
		rest = rest[:from]
	}
	if len(whole) > 0 {
		return e, errForeign
	}
	return e, nil
}

// readEnd reads the last lookBack bytes of a file.
func readEnd(name string) ([]byte, error) {
	f, err := OpenRecords(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // it was only read
	if s, ok := f.(io.Seeker); ok {
		if size, err := s.Seek(0, io.SeekEnd); err == nil {
			_, _ = s.Seek(max(0, size-lookBack), io.SeekStart)
		}
		return io.ReadAll(f)
	}
	var kept []byte
	buf := make([]byte, lookBack)
	for {
		n, err := io.ReadFull(f, buf)
		kept = append(kept, buf[:n]...)
		kept = kept[max(0, len(kept)-lookBack):]
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return kept, nil
		case err != nil:
			return nil, err
		}
	}
}

// OpenRecords opens a file of records, one that was compressed (.gz) too.
func OpenRecords(name string) (io.ReadCloser, error) {
	f, err := os.Open(name)
	if err != nil || !strings.HasSuffix(name, ".gz") {
		return f, err
	}
	zip, err := gzip.NewReader(bufio.NewReader(f))
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return packed{zip, f}, nil
}

type packed struct {
	io.Reader
	io.Closer
}
