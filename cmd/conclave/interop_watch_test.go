//go:build interop

package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// running is a client program that goes on until it is stopped.
type running struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout lockedBuffer
	stderr lockedBuffer
}

// lockedBuffer may be read while a program writes to it.
type lockedBuffer struct {
	mu   sync.Mutex
	data bytes.Buffer
	more chan struct{} // closed by the next write, if somebody waits for it
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.more != nil {
		close(b.more)
		b.more = nil
	}
	return b.data.Write(p)
}

// written is closed when there is more than now.
func (b *lockedBuffer) written() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.more == nil {
		b.more = make(chan struct{})
	}
	return b.more
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.data.String()
}

// startCall starts a program against an endpoint. It is killed with the test.
func startCall(t *testing.T, program, endpoint string, env []string, args ...string) *running {
	t.Helper()
	r := &running{t: t, cmd: exec.Command(program, args...)}
	r.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "ETCDCTL_ENDPOINTS=" + endpoint}, env...)
	r.cmd.Stdout, r.cmd.Stderr = &r.stdout, &r.stderr
	var err error
	if r.stdin, err = r.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if r.cmd.ProcessState == nil {
			_ = r.cmd.Process.Kill()
			_ = r.cmd.Wait()
		}
	})
	return r
}

// says waits until the program has printed text.
func (r *running) says(text string) {
	r.t.Helper()
	for limit := time.After(30 * time.Second); ; {
		written := r.stdout.written()
		if strings.Contains(r.stdout.String(), text) {
			return
		}
		select {
		case <-written:
			continue
		case <-limit:
		}
		break
	}
	r.t.Fatalf("%q never said %q: %q, %q", r.cmd.Args, text, r.stdout.String(), r.stderr.String())
}

// end stops the program with a signal, or waits for it if that is 0.
func (r *running) end(sig syscall.Signal) outcome {
	r.t.Helper()
	if sig != 0 {
		if err := r.cmd.Process.Signal(sig); err != nil {
			r.t.Fatal(err)
		}
	}
	timer := time.AfterFunc(time.Minute, func() { _ = r.cmd.Process.Kill() })
	defer timer.Stop()
	_ = r.cmd.Wait() // the exit code says it
	return outcome{
		stdout: r.stdout.String(),
		errors: strings.Join(errorPattern.FindAllString(r.stderr.String(), -1), "\n"),
		code:   r.cmd.ProcessState.ExitCode(),
	}
}

// prepare fills a server with the same history for every test.
func prepare(t *testing.T, endpoint string) {
	t.Helper()
	etcdctl := realTool(t, "etcdctl")
	for _, line := range []string{"put a 1", "put a 2", "put ab \x01é", "put b 3", "del a", "put a 4", "put last end"} {
		if got := call(t, etcdctl, endpoint, "", words(line)...); got.code != 0 {
			t.Fatalf("%s: %+v", line, got)
		}
	}
}

// showEvent prints what the command of a watch is told.
const showEvent = `echo "$ETCD_WATCH_REVISION $ETCD_WATCH_EVENT_TYPE $ETCD_WATCH_KEY $ETCD_WATCH_VALUE"`

func TestWatch_sameBytesAsEtcdctl(t *testing.T) {
	endpoint := startEtcd(t, "")
	prepare(t, endpoint)
	type session struct {
		env, args []string
		last      string // what the end of the output has
	}
	sessions := []session{
		{nil, []string{"watch", "a", "--rev", "2", "--prev-kv"}, "\n4\n"},
		{nil, []string{"watch", "a", "b", "--rev=4"}, "\n4\n"},
		{nil, []string{"watch", "", "--prefix", "--rev=1", "--", "sh", "-c", showEvent}, `"last" "end"`},
		{nil, []string{"watch", "a", "b", "--rev", "2", "--", "echo", "-n", "--", "x"}, "-- x-- x-- x-- x-- x"},
		{[]string{"ETCDCTL_WATCH_KEY=last"}, []string{"watch", "--rev", "2"}, "end"},
		{[]string{"ETCDCTL_WATCH_KEY=a", "ETCDCTL_WATCH_RANGE_END=z"}, []string{"watch", "--rev", "2", "--", "sh", "-c", showEvent}, `"last" "end"`},
	}
	for _, f := range []string{"simple", "json", "fields", "protobuf"} {
		for _, hex := range []string{"--hex=false", "--hex"} {
			last := "end"
			switch {
			case f == "json":
				last = "ZW5k"
			case f == "simple" && hex == "--hex":
				last = `\x65\x6e\x64`
			}
			sessions = append(sessions, session{nil, []string{"watch", "", "--prefix", "--rev", "2", "--prev-kv", "-w", f, hex}, last})
		}
	}
	for _, s := range sessions {
		var got [2]outcome
		for i, program := range []string{realTool(t, "etcdctl"), "conclave"} {
			r := startCall(t, program, endpoint, s.env, s.args...)
			r.says(s.last)
			got[i] = r.end(syscall.SIGKILL)
		}
		if got[0] != got[1] {
			t.Errorf("%q %q\nconclave: %+v\netcdctl:  %+v", s.env, s.args, got[1], got[0])
		}
	}
}

// What ends by itself, and is refused.
func TestWatch_sameEndsAsEtcdctl(t *testing.T) {
	endpoint := startEtcd(t, "")
	prepare(t, endpoint)
	etcdctl := realTool(t, "etcdctl")
	call(t, etcdctl, endpoint, "", "compaction", "4")
	for _, s := range []struct{ env, line string }{
		{"", "watch a --rev 2"}, {"", "watch a --rev 2 -w json"}, {"", "watch a --rev 2 -w fields"},
		{"", "watch b a --rev 5"}, {"", "watch a --rev 5 -w table"}, {"", "watch a --rev 5 -- false"},
		{"", "watch a --rev 5 -- sh -c exit\t7"}, {"", "watch a --rev 5 -- /none/such"},
		{"", "watch"}, {"", "watch a --"}, {"", "watch a b --prefix"}, {"", "watch -- a"}, {"", "watch a --rev x"},
		{"ETCDCTL_WATCH_KEY=k", "watch a"}, {"ETCDCTL_WATCH_KEY=k", "watch a -- echo"}, {"ETCDCTL_WATCH_KEY=k", "watch --"},
		{"ETCDCTL_WATCH_RANGE_END=k", "watch a"},
	} {
		args := strings.Split(s.line, " ")
		for i := range args {
			args[i] = strings.ReplaceAll(args[i], "\t", " ")
		}
		want := startCall(t, etcdctl, endpoint, []string{s.env}, args...).end(0)
		got := startCall(t, "conclave", endpoint, []string{s.env}, args...).end(0)
		if got.code != want.code || got.stdout != want.stdout || (got.errors != want.errors && !strings.Contains(s.line, "--rev x")) {
			t.Errorf("%q %q\nconclave: %+v\netcdctl:  %+v", s.env, s.line, got, want)
		}
	}
}

func TestWatchInteractive_sameBytesAsEtcdctl(t *testing.T) {
	endpoint := startEtcd(t, "")
	prepare(t, endpoint)
	for _, lines := range [][]string{
		{"watch a --rev 2 --prev-kv\n", "progress\n"},
		{"watch 'a' \"b\" --rev 5 -- sh -c '" + showEvent + "'\n", "progress\n"},
		{"\nfrob\nwatch\nwatch a b --prefix\nwatch --prefix a --rev=2\n", "progress\n"},
	} {
		var got [2]outcome
		var stderr [2]string
		for i, program := range []string{realTool(t, "etcdctl"), "conclave"} {
			r := startCall(t, program, endpoint, nil, "watch", "-i")
			if _, err := io.WriteString(r.stdin, lines[0]); err != nil {
				t.Fatal(err)
			}
			r.says("\n4\n"[:2])
			asking := make(chan struct{})
			go func() {
				defer close(asking)
				// A server answers only when all watches have caught up: so it is asked
				// until the answer came and nobody reads any more.
				for again := time.NewTicker(50 * time.Millisecond); ; <-again.C {
					if _, err := io.WriteString(r.stdin, lines[1]); err != nil {
						return
					}
				}
			}()
			r.says("progress notify: ")
			_ = r.stdin.Close()
			<-asking
			_ = r.stdin.Close()
			got[i] = r.end(0)
			got[i].stdout, _, _ = strings.Cut(got[i].stdout, "progress notify: 8\n")
			stderr[i] = r.stderr.String()
		}
		if got[0] != got[1] || stderr[0] != stderr[1] {
			t.Errorf("%q\nconclave: %+v %s\netcdctl:  %+v %s", lines, got[1], stderr[1], got[0], stderr[0])
		}
	}
	for _, line := range []string{"watch a --frobnicate\n", "watch a --\n", ""} {
		want := call(t, realTool(t, "etcdctl"), endpoint, line, "watch", "-i")
		if got := call(t, "conclave", endpoint, line, "watch", "-i"); got.code != want.code {
			t.Errorf("%q\nconclave: %+v\netcdctl:  %+v", line, got, want)
		}
	}
}

// etcdctl's variables have conclave's names as well, which go first.
func TestWatch_ownVariables(t *testing.T) {
	endpoint := startEtcd(t, "")
	prepare(t, endpoint)
	r := startCall(t, "conclave", endpoint, []string{"CONCLAVE_WATCH_KEY=last", "ETCDCTL_WATCH_KEY=a"}, "watch", "--rev", "1")
	r.says("end\n")
	if got := r.end(syscall.SIGKILL); got.stdout != "PUT\nlast\nend\n" {
		t.Errorf("got %q", got.stdout)
	}
	got := startCall(t, "conclave", endpoint, []string{"CONCLAVE_WATCH_RANGE_END=b"}, "watch").end(0)
	if want := fmt.Sprintf("Error: CONCLAVE_WATCH_KEY is empty but got CONCLAVE_WATCH_RANGE_END=%q", "b"); got.errors != want || got.code != exitBadArgs {
		t.Errorf("got %+v, want %s", got, want)
	}
}
