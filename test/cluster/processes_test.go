//go:build interop

package cluster_test

import (
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// processes is a system of processes.
type processes struct {
	*group
	flags   []string
	clients []*clientv3.Client
}

// startProcesses makes a cluster of three of a program: conclave, or etcd, which
// takes the same flags.
func startProcesses(t *testing.T, program string, flags ...string) *processes {
	t.Helper()
	s := &processes{group: newGroup(t, 3, false), flags: append([]string{
		"--heartbeat-interval", "50", "--election-timeout", "500", "--watch-progress-notify-interval", kubeProgress.String(),
	}, flags...)}
	s.program = program
	for i, m := range s.members {
		s.begin(i)
		s.clients = append(s.clients, m.dial())
	}
	s.serve()
	return s
}

func (s *processes) config(members ...int) clientv3.Config {
	if len(members) == 0 {
		members = []int{0, 1, 2}
	}
	var cfg clientv3.Config
	for _, i := range members {
		cfg.Endpoints = append(cfg.Endpoints, s.members[i].clientURL())
	}
	return cfg
}

func (s *processes) leader() int      { return slices.Index(s.members, s.group.leader(s.clients)) }
func (s *processes) end(member int)   { s.members[member].proc.kill() }
func (s *processes) begin(member int) { s.members[member].launch(s.flags...) }

// The suite is right about what kube-apiserver relies on: etcd passes it.
func TestKube_contractOfEtcd(t *testing.T) {
	t.Parallel()
	kubeContract(t, startProcesses(t, realTool(t, "etcd")))
}

func (s *processes) cutOff(member int) { s.signal(member, syscall.SIGSTOP) }
func (s *processes) rejoin(member int) { s.signal(member, syscall.SIGCONT) }

func (s *processes) signal(member int, sig syscall.Signal) {
	s.t.Helper()
	if err := syscall.Kill(s.members[member].proc.cmd.Process.Pid, sig); err != nil {
		s.t.Fatal(err)
	}
}

func (s *processes) installs() (n int) {
	for _, m := range s.members {
		text, err := os.ReadFile(m.proc.out) // of all its processes
		if err != nil {
			s.t.Fatal(err)
		}
		n += strings.Count(string(text), installedState)
	}
	return n
}

// The same of processes, which are killed, and stopped and woken up.
func TestHistory_sameOnAllProcesses(t *testing.T) {
	t.Parallel()
	playHistories(t, func(t *testing.T) faulty {
		return startProcesses(t, conclave, "--snapshot-count", "100", "--snapshot-catchup-entries", "20")
	})
}
