package audit

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"syscall"
	"time"
)

// syslogSockets are where systems have the socket of their log.
var syslogSockets = []string{"/dev/log", "/var/run/syslog", "/var/run/log"}

const (
	// syslogPriority is of facility authpriv (10), severity informational (6).
	syslogPriority = 10<<3 | 6
	// syslogTimeout bounds how long one line may wait for the log's reader.
	syslogTimeout = time.Second
)

// syslogger sends each line as a message of RFC 5424 to the system's log, over its
// socket. A log that was restarted is found again.
type syslogger struct {
	paths []string
	conn  net.Conn // nil: none
	head  string   // what a message begins with, around the time
	after string
	frame []byte
}

func dialSyslog() (*syslogger, error) {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "-"
	}
	s := &syslogger{
		paths: syslogSockets, head: "<" + strconv.Itoa(syslogPriority) + ">1 ",
		after: " " + host + " conclave " + strconv.Itoa(os.Getpid()) + " audit - ",
	}
	return s, s.dial()
}

func (s *syslogger) dial() error {
	var errs []error
	for _, path := range s.paths {
		conn, err := net.Dial("unixgram", path)
		if err == nil {
			s.conn = conn
			return nil
		}
		errs = append(errs, err)
	}
	return fmt.Errorf("no system log to write to: %w", errors.Join(errs...))
}

// Write sends lines one by one. One that the log will never take, because it is too
// long, is done with, and told.
func (s *syslogger) Write(lines []byte) (n int, err error) {
	var long error
	for n < len(lines) {
		size := bytes.IndexByte(lines[n:], '\n') + 1
		if size == 1 { // the end of a line that was cut: of no other output's concern
			n++
			continue
		}
		err := s.send(lines[n : n+size-1])
		switch {
		case errors.Is(err, syscall.EMSGSIZE):
			long = fmt.Errorf("a line of %d bytes is too long for the system log", size)
		case err != nil:
			return n, err
		}
		n += size
	}
	return n, long
}

func (s *syslogger) send(line []byte) error {
	if s.conn == nil {
		if err := s.dial(); err != nil {
			return err
		}
	}
	s.frame = append(s.frame[:0], s.head...)
	s.frame = time.Now().UTC().AppendFormat(s.frame, timeLayout)
	s.frame = append(append(s.frame, s.after...), line...)
	if err := s.conn.SetWriteDeadline(time.Now().Add(syslogTimeout)); err != nil {
		return err
	}
	_, err := s.conn.Write(s.frame)
	if err != nil && !errors.Is(err, syscall.EMSGSIZE) {
		_ = s.conn.Close() // the next line dials again
		s.conn = nil
	}
	return err
}

func (s *syslogger) Rotated() bool { return false }
func (s *syslogger) Sync() error   { return nil }

func (s *syslogger) Close() error {
	if s.conn == nil {
		return nil
	}
	return s.conn.Close()
}
