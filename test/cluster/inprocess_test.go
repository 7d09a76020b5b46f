package cluster_test

import (
	"bytes"
	"sync/atomic"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclave-kv/conclave/daemon"
	"github.com/conclave-kv/conclave/internal/testcluster"
)

// inProcess is a system of daemons in this process, with the production wiring.
type inProcess struct {
	*testcluster.Cluster
	log *installLog
}

// installLog takes what members log, and counts installs in it.
type installLog struct{ installs atomic.Int64 }

func (l *installLog) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte(installedState)) {
		l.installs.Add(1)
	}
	return len(line), nil
}

// startInProcess makes a cluster of three with certificates of its own CA.
func startInProcess(t *testing.T, configure func(*daemon.Config)) *inProcess {
	t.Helper()
	log := &installLog{}
	return &inProcess{log: log, Cluster: testcluster.Start(t, 3, testcluster.Options{
		Secure: true, ElectionTimeout: kubeElection, Log: log,
		Configure: func(_ int, cfg *daemon.Config) {
			cfg.WatchProgressInterval = kubeProgress
			if configure != nil {
				configure(cfg)
			}
		},
	})}
}

func (s *inProcess) config(members ...int) clientv3.Config {
	cfg := clientv3.Config{Endpoints: s.Endpoints(), TLS: s.ClientTLS("kube-apiserver-etcd-client")}
	if len(members) > 0 {
		cfg.Endpoints = nil
	}
	for _, i := range members {
		cfg.Endpoints = append(cfg.Endpoints, s.Members[i].ClientURL)
	}
	return cfg
}

func (s *inProcess) leader() int      { return s.Leader() }
func (s *inProcess) end(member int)   { s.Members[member].Stop() }
func (s *inProcess) begin(member int) { s.Members[member].Launch() }

// What kube-apiserver relies on holds for a secure cluster of three.
func TestKube_contract(t *testing.T) {
	kubeContract(t, startInProcess(t, nil))
}
