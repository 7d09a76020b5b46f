package daemon

import (
	"encoding/json"
	"net/http"

	"github.com/conclave-kv/conclave/internal/version"
)

// peerHTTP answers HTTP on the peer port, as etcd's peers do: the version, and
// who the members are. Connections have passed the port's TLS rules, but for one:
// who is not in the member table may ask who is.
func (d *Daemon) peerHTTP(w http.ResponseWriter, r *http.Request) {
	if refusal := d.security.refusal(); r.TLS != nil && refusal != nil && r.URL.Path != "/members" {
		if err := refusal(*r.TLS); err != nil {
			http.Error(w, err.Error(), http.StatusForbidden)
			return
		}
	}
	var answer any
	switch r.URL.Path {
	case "/version":
		answer = struct {
			Server   string `json:"etcdserver"`
			Cluster  string `json:"etcdcluster"`
			Storage  string `json:"storage"`
			Conclave string `json:"conclave"`
		}{version.EtcdServer, version.Cluster, version.Storage, version.Conclave}
	case "/members":
		m := d.running.Load()
		if m == nil {
			http.Error(w, "this member is starting", http.StatusServiceUnavailable)
			return
		}
		list := []listedMember{}
		for _, e := range m.View().Members.All() {
			list = append(list, listedMember{ID: e.ID, PeerURLs: e.PeerURLs, IsLearner: e.Learner, Name: e.Name, ClientURLs: e.ClientURLs})
		}
		w.Header().Set(clusterIDHeader, hex(d.id.ClusterID))
		answer = list
	default:
		http.NotFound(w, r)
		return
	}
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer)
}
