package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/conclave-kv/conclave/internal/durable"
	"github.com/conclave-kv/conclave/pki"
)

// devDir is the absolute path of a directory that `conclave dev` works in.
// Everything it makes there has a name given here.
type devDir string

func (d devDir) path(name string) string         { return filepath.Join(string(d), name) }
func (d devDir) statePath() string               { return d.path("dev.json") }
func (d devDir) ignorePath() string              { return d.path(".gitignore") }
func (d devDir) secretPath() string              { return d.path("cluster.secret") }
func (d devDir) binPath() string                 { return d.path("bin") }
func (d devDir) programPath() string             { return filepath.Join(d.binPath(), "conclave") }
func (d devDir) envPath() string                 { return d.path("env") }
func (d devDir) caPath() string                  { return d.path("ca.crt") }
func (d devDir) certPath() string                { return d.path(devUser + ".crt") }
func (d devDir) keyPath() string                 { return d.path(devUser + ".key") }
func (d devDir) dataPath(member string) string   { return d.path(member + ".conclave") }
func (d devDir) logPath(member string) string    { return d.path(member + ".log") }
func (d devDir) oldLogPath(member string) string { return d.path(member + ".log.1") }

// made lists the files and directories dev makes, the state file last: while
// it is there, the rest is known to be dev's.
func (d devDir) made(members []devMemberState) []string {
	var list []string
	for _, m := range members {
		list = append(list, d.dataPath(m.Name), d.logPath(m.Name), d.oldLogPath(m.Name))
	}
	return append(list, d.programPath(), d.binPath(), d.envPath(), d.caPath(), d.certPath(), d.keyPath(),
		d.secretPath(), d.ignorePath(), d.statePath())
}

// removeIfEmpty removes a directory in which nothing was made.
func (d devDir) removeIfEmpty() error {
	left, err := os.ReadDir(string(d))
	if err != nil || len(left) > 0 {
		return err
	}
	return os.Remove(string(d))
}

// openDir makes and locks the directory and reads what is in it.
func (d *dev) openDir(ctx context.Context) error {
	if err := durable.MkdirAll(string(d.dir), 0o700); err != nil {
		return fmt.Errorf("--dir %s: %w; give a directory this user may create", d.dir, err)
	}
	// Links are followed once, so that the program's path can be compared with
	// what the kernel says of a process.
	if real, err := filepath.EvalSymlinks(string(d.dir)); err == nil {
		d.dir = devDir(real)
	}
	lock, err := durable.Lock(string(d.dir))
	if errors.Is(err, durable.ErrInUse) {
		return fmt.Errorf("--dir: %w: another conclave dev runs there; use it, stop it with Ctrl-C, or give another --dir", err)
	}
	if err != nil {
		return fmt.Errorf("--dir %s: %w", d.dir, err)
	}
	d.lock = lock
	d.state, err = loadDevState(d.dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		d.fresh = true
		return d.checkForeign()
	case err != nil:
		return err
	case d.reset:
		return d.removeAll(ctx)
	case d.members != 0 && d.members != len(d.state.Members):
		return failf(exitBadArgs, "--members %d: the cluster in %s has %d; leave the flag out to continue it, or add --reset to start anew",
			d.members, d.dir, len(d.state.Members))
	}
	return nil
}

// checkForeign refuses a directory in which somebody else keeps something.
func (d *dev) checkForeign() error {
	entries, err := os.ReadDir(string(d.dir))
	if err != nil {
		return fmt.Errorf("--dir %s: %w", d.dir, err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".lock") {
			return fmt.Errorf("--dir %s holds %q, and no cluster of conclave dev: give an empty directory or one that does not exist yet", d.dir, e.Name())
		}
	}
	return nil
}

// removeAll deletes what an earlier run made, and nothing else.
func (d *dev) removeAll(ctx context.Context) error {
	if stray := d.awaitStrays(ctx); stray != nil {
		return fmt.Errorf("--reset: %s is a member of this cluster and still runs; stop it first", stray)
	}
	for _, path := range d.dir.made(d.state.Members) {
		remove := os.Remove
		if strings.HasSuffix(path, ".conclave") {
			remove = os.RemoveAll
		}
		err := remove(path)
		if path == d.dir.binPath() && err != nil {
			continue // somebody put something beside the program
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("--reset: %w", err)
		}
	}
	d.out.line("reset", "deleted the cluster of %d members in %s", len(d.state.Members), d.dir)
	entries, err := os.ReadDir(string(d.dir))
	if err != nil {
		return fmt.Errorf("--dir %s: %w", d.dir, err)
	}
	for _, e := range entries {
		if e.Name() != ".lock" {
			d.out.line("", "left alone, because dev did not make what is there: %s", d.dir.path(e.Name()))
		}
	}
	d.state, d.fresh = devState{}, true
	return nil
}

// settle decides about members and ports. A new cluster's are written down
// before anything else is made, so that whatever is found later is known to
// be dev's.
func (d *dev) settle(ctx context.Context) error {
	if !d.fresh {
		d.out.line("directory", "%s, continuing the cluster of %d members in it", d.dir, len(d.state.Members))
		return d.awaitPorts(ctx)
	}
	n := d.members
	if n == 0 {
		n = devDefaultMembers
	}
	state, detours, err := chooseDevState(n, freeTCP, freeUDP)
	if err != nil {
		return err
	}
	d.state = state
	if err := d.state.save(d.dir); err != nil {
		return fmt.Errorf("--dir %s: %w", d.dir, err)
	}
	d.out.line("directory", "%s, new", d.dir)
	if n%2 == 0 {
		d.out.line("members", "%d survive the loss of %d, no more than %d would: an odd number is better", n, (n-1)/2, n-1)
	}
	if len(detours) == 0 {
		d.out.line("ports", "%s: the usual ones, kept in %s", d.state.ports(), d.dir.statePath())
		return nil
	}
	for _, detour := range detours {
		d.out.line("ports", "%s", detour)
	}
	d.out.line("ports", "%s, kept in %s", d.state.ports(), d.dir.statePath())
	return nil
}

// prepare makes the files members start from: the secret, once, and a copy of
// this program, each time.
func (d *dev) prepare(context.Context) error {
	// The secret must not end up in the repository dev was tried in.
	if err := os.WriteFile(d.dir.ignorePath(), []byte("*\n"), 0o600); err != nil {
		return fmt.Errorf("--dir %s: %w", d.dir, err)
	}
	if err := d.copyProgram(); err != nil {
		return fmt.Errorf("copy this program to %s: %w", d.dir.programPath(), err)
	}
	d.out.line("program", "%s, a copy of the one you started", d.dir.programPath())
	return d.openSecret()
}

// openSecret reads the cluster's secret, or makes one for a cluster that has
// no member yet.
func (d *dev) openSecret() error {
	note := ""
	if missing(d.dir.secretPath()) {
		for _, m := range d.state.Members {
			if path := d.dir.dataPath(m.Name); !missing(path) {
				return fmt.Errorf("%s is gone, but %s needs it: put it back, or start anew with --reset", d.dir.secretPath(), path)
			}
		}
		note = ", new"
		secret, err := pki.NewSecret(time.Now())
		if err == nil {
			err = secret.Write(d.dir.secretPath())
		}
		if err != nil {
			return fmt.Errorf("make the cluster secret: %w", err)
		}
	}
	secret, err := pki.LoadSecret(d.dir.secretPath())
	if err != nil {
		return err
	}
	d.secret = secret
	d.out.line("secret", "%s (trust domain %s%s)", d.dir.secretPath(), secret.TrustDomain(), note)
	return nil
}

func missing(path string) bool {
	_, err := os.Lstat(path)
	return errors.Is(err, fs.ErrNotExist)
}

// copyProgram copies the running program, which with `go run` vanishes when it
// ends, to where members and pasted lines find it.
func (d *dev) copyProgram() (err error) {
	own, err := os.Executable()
	if err != nil {
		return err
	}
	if same, err := sameFile(own, d.dir.programPath()); err != nil || same {
		return err
	}
	if err := os.MkdirAll(d.dir.binPath(), 0o700); err != nil {
		return err
	}
	from, err := os.Open(own)
	if err != nil {
		return err
	}
	defer from.Close() //nolint:errcheck // only read
	// A rename, not a write into the file: an old copy may still run.
	tmp := d.dir.programPath() + ".new"
	to, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o700)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	if err = errors.Join(err, to.Close()); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return os.Rename(tmp, d.dir.programPath())
}

func sameFile(a, b string) (bool, error) {
	infoA, err := os.Stat(a)
	if err != nil {
		return false, err
	}
	infoB, err := os.Stat(b)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && os.SameFile(infoA, infoB), err
}
