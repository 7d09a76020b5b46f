package audit

import (
	"net"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// listen is a system log of the test's own.
func listen(t *testing.T, path string) *net.UnixConn {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func receive(t *testing.T, conn *net.UnixConn) string {
	t.Helper()
	buf := make([]byte, 64<<10)
	if err := conn.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	n, err := conn.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}

// Lines are messages of RFC 5424, also after the log was restarted; a line that it
// can never take does not hold up the others.
func TestSyslog_messages(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	server := listen(t, path)
	before := syslogSockets
	syslogSockets = []string{path}
	defer func() { syslogSockets = before }()
	s, err := dialSyslog()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if n, err := s.Write([]byte("{\"seq\":1}\n{\"seq\":2}\n")); n != 20 || err != nil {
		t.Fatal(n, err)
	}
	form := regexp.MustCompile(`^<86>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z \S+ conclave \d+ audit - \{"seq":\d\}$`)
	for range 2 {
		if m := receive(t, server); !form.MatchString(m) {
			t.Errorf("sent %q", m)
		}
	}
	server.Close()
	if n, err := s.Write([]byte("{\"seq\":3}\n")); n != 0 || err == nil {
		t.Errorf("wrote %d, %v to nobody", n, err)
	}
	server = listen(t, path+"2")
	s.paths = []string{path + "2"}
	long := strings.Repeat("x", 16<<20) + "\n"
	n, err := s.Write([]byte(long + "{\"seq\":4}\n"))
	if n != len(long)+10 || err == nil || !strings.Contains(err.Error(), "too long") {
		t.Errorf("wrote %d, %v", n, err)
	}
	if m := receive(t, server); !form.MatchString(m) {
		t.Errorf("sent %q", m)
	}
}
