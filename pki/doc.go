// Package pki decides who may speak: it makes the CAs and certificates of a
// cluster, keeps a member's own ones valid, and gives listeners and dialers
// their TLS settings.
//
// Secret is the cluster secret file: the trust domain, the admission CA and the
// seal key. Authority is one CA; names, dates and uses of what it signs are
// decided here and never by a certificate request. A Renewer is the PKI of a
// running member: it starts from an admission certificate it issues to itself,
// has the running CAs created and replicated with their private keys sealed,
// then lives on certificates of those, renewed in place. FileTLS is the same
// surface for certificates of one's own (etcd's --cert-file and so on).
//
// The package must not know raft, the state file, gRPC or the command line. It
// asks the cluster through the Cluster interface and reads the agreed state as
// ledger.View. cfssl is the signing engine and is not seen outside.
//
// Goroutines: none of its own. Renewer.Run works on its caller's goroutine
// until its context ends; TLS callbacks run on those of their connections.
package pki
