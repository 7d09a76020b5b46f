package dnssrv

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// A change of resolv.conf is noticed by a running process.
func TestResolver_confChanges(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	conf := filepath.Join(dir, "resolv.conf")
	r, err := NewResolver(ResolverOptions{ConfFile: conf, HostsFile: filepath.Join(dir, "hosts")})
	if err != nil {
		t.Fatal(err)
	}
	servers := func() []string {
		r.conf.mu.Lock()
		r.conf.checked = time.Time{} // as if recheck had passed
		r.conf.mu.Unlock()
		p, err := r.policy(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return p.servers
	}
	if got := servers(); !slices.Equal(got, []string{"127.0.0.1:53", "[::1]:53"}) {
		t.Errorf("without a file: %v", got)
	}
	write(t, conf, "nameserver 192.0.2.53\nnameserver fe80::1%eth0\n")
	if got := servers(); !slices.Equal(got, []string{"192.0.2.53:53", "[fe80::1%eth0]:53"}) {
		t.Errorf("with the first file: %v", got)
	}
	write(t, conf, "nameserver 198.51.100.53\n")
	if got := servers(); !slices.Equal(got, []string{"198.51.100.53:53"}) {
		t.Errorf("with the second file: %v", got)
	}
}

func FuzzParseHosts(f *testing.F) {
	f.Add("127.0.0.1 localhost\n::1 ip6-localhost # x\n")
	f.Add("fe80::1%eth0 a\nnonsense\n1.2.3.4\n")
	f.Fuzz(func(t *testing.T, text string) {
		hosts, err := parseHosts(strings.NewReader(text))
		if err != nil {
			return
		}
		for name, list := range hosts {
			if name != strings.ToLower(name) || len(list) == 0 {
				t.Errorf("%q: %v", name, list)
			}
		}
	})
}
