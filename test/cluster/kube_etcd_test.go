//go:build interop

package cluster_test

import (
	"slices"
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
