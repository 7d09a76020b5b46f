package main

import (
	"io"
	"os"
	"strings"
)

// lifelineEnv tells a member that it belongs to a `conclave dev`, whose end it
// sees as the end of its standard input: dev holds the other end of that pipe,
// and the kernel closes it however dev ends. Linux's PR_SET_PDEATHSIG would do
// the same without the member's help, but for the death of a thread, and only
// there.
const lifelineEnv = "_CONCLAVE_DEV_LIFELINE"

// holdLifeline ends this process when the dev that started it is gone; in any
// other process it does nothing. Its goroutine lives as long as the process.
func holdLifeline() {
	if os.Getenv(lifelineEnv) == "" {
		return
	}
	_ = os.Unsetenv(lifelineEnv) // fails for malformed names only
	go awaitLifeline(os.Stdin, func() {
		_, _ = io.WriteString(os.Stderr, "conclave dev is gone, so this member ends too\n")
		os.Exit(exitError)
	})
}

// awaitLifeline calls end when nothing can come through the pipe any more.
// What does come is not for us.
func awaitLifeline(pipe io.Reader, end func()) {
	_, _ = io.Copy(io.Discard, pipe) // an error is an end as well
	end()
}

// memberEnv is what a member gets of dev's environment: everything but
// settings, which would come on top of dev's flags, and the lifeline.
func memberEnv(environ []string) []string {
	out := []string{lifelineEnv + "=stdin"}
	for _, kv := range environ {
		key, _, _ := strings.Cut(kv, "=")
		if key == lifelineEnv || key == "NOTIFY_SOCKET" {
			continue
		}
		if strings.HasPrefix(key, "CONCLAVE_") || strings.HasPrefix(key, "ETCD_") || strings.HasPrefix(key, "ETCDCTL_") {
			continue
		}
		out = append(out, kv)
	}
	return out
}
