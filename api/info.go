package api

import (
	"encoding/json"
	"expvar"
	"net/http"
	"net/http/pprof"
	"syscall"

	"github.com/conclave-kv/conclave/internal/version"
)

// notDecided is the cluster version before the cluster has agreed on one.
const notDecided = "not_decided"

// versionAnswer has etcd's fields in etcd's order, and ours behind them.
type versionAnswer struct {
	Server   string `json:"etcdserver"`
	Cluster  string `json:"etcdcluster"`
	Storage  string `json:"storage"`
	Conclave string `json:"conclave"`
}

func (h *handlers) version(w http.ResponseWriter, r *http.Request) {
	if !onlyGET(w, r) {
		return
	}
	v := versionAnswer{
		Server:   version.EtcdServer,
		Cluster:  h.opts.Backend.ClusterVersion(),
		Storage:  version.Storage,
		Conclave: version.Conclave,
	}
	if v.Cluster == notDecided || v.Cluster == "" {
		v.Cluster, v.Storage = notDecided, "unknown"
	}
	writeJSON(w, http.StatusOK, v)
}

// vars answers /debug/vars: what the process has published (command line and
// memory), and its limit of file descriptors.
func (h *handlers) vars(w http.ResponseWriter, r *http.Request) {
	if !onlyGET(w, r) {
		return
	}
	all := make(map[string]json.RawMessage)
	expvar.Do(func(kv expvar.KeyValue) { all[kv.Key] = json.RawMessage(kv.Value.String()) })
	var lim syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim); err == nil {
		all["file_descriptor_limit"], _ = json.Marshal(lim.Cur)
	}
	writeJSON(w, http.StatusOK, all)
}

// profiling is net/http/pprof on a mux of its own.
func profiling() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}
