package api

import (
	"bufio"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/conclave-kv/conclave/audit"
	"github.com/conclave-kv/conclave/internal/logging"
)

// A request that is refused before it became a call is anybody's: what it calls its
// path and method is recorded as other texts are, in bounds.
func TestAudit_longPath(t *testing.T) {
	name := filepath.Join(t.TempDir(), "audit.log")
	l, err := audit.Open(audit.Options{Output: name, Rotation: logging.Rotation{MaxSize: 1}, Level: audit.Denied, Log: zerolog.Nop()})
	must(t, err)
	f := start(t, "http", func(o *Options) { o.Audit = l })
	req, err := http.NewRequestWithContext(call(t), http.MethodPost, f.urls[0].String()+"/v3/"+strings.Repeat("%01", 20<<10), nil)
	must(t, err)
	req.Header.Set("Origin", "http://elsewhere.example")
	resp, err := http.DefaultClient.Do(req)
	must(t, err)
	must(t, resp.Body.Close())
	if resp.StatusCode != http.StatusForbidden {
		t.Fatalf("status %d", resp.StatusCode)
	}
	must(t, l.Close(t.Context()))
	file, err := os.Open(name)
	must(t, err)
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for found := false; ; {
		if !lines.Scan() {
			if !found {
				t.Error("it was not recorded")
			}
			break
		}
		if strings.Contains(lines.Text(), "elsewhere.example") {
			found = true
			if n := len(lines.Text()); n > 8<<10 {
				t.Errorf("its record has %d bytes", n)
			}
		}
	}
}
