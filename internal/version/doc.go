// Package version holds the version strings conclave reports: its own, and
// those of the etcd surface it speaks. It knows nobody and owns no goroutine.
package version

// Conclave is the version of this program.
const Conclave = "0.1.0"

// The versions reported to etcd clients, which detect features by them; pure
// semantic versions without a suffix.
const (
	// EtcdServer is the etcd release whose API is spoken.
	EtcdServer = "3.7.1"
	// Cluster is the cluster version that capability checks compare.
	Cluster = "3.7.0"
	// Storage is the version of the bucket layout of the state file.
	Storage = "3.7.0"
)
