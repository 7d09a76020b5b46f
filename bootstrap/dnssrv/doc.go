// Package dnssrv finds the first peers through DNS SRV records, and serves
// such records itself.
//
//   - [Resolver] asks DNS: the system's servers and hosts file, or one server
//     given by --discovery-srv-server. It also dials, so that every later
//     connection to a peer is resolved the same way.
//   - [Source] is the bootstrap.Source behind --discovery-srv;
//     [ClientEndpoints] is its counterpart for clients.
//   - [Server] is a small authoritative server for one zone.
//
// What it must not know: TLS, raft, the disk beyond resolv.conf and the hosts
// file. A DNS answer is a hint from an untrusted network: who a peer is, its
// certificate proves.
//
// Goroutines: a lookup's own helpers (at most maxResolving), which end before
// it returns; a dial's attempts (at most maxDials), likewise; a Server's UDP
// loop and TCP server (at most maxConns connections), which Close waits for.
package dnssrv
