// Command bench measures conclave against etcd on one machine.
//
// It starts three members of each system as processes with data directories of
// their own, drives them with etcd's official client from a separate process,
// one system after the other in every round, and compares what was measured in
// the same round. A third system, a gRPC server that answers Put and Range
// with empty responses, shows the limit of the machine. Every server runs with
// its shipped defaults and fsync on; there is no switch for benchmarks.
//
//	go run ./bench run        puts and gets: rates, latencies, CPU, ratios
//	go run ./bench watch      watches and leases: events, delays, memory, renewals
//	go run ./bench leases     puts beside 100,000 leases that are renewed
//	go run ./bench failover   kill -9 of the leader: time to the next write
//	go run ./bench gaps       the leader's death, pause and disk hang: longest time without a write
//	go run ./bench install    a member joins a cluster with a large state under load
//	go run ./bench idle       processor time when nobody asks for anything
//	go run ./bench large      a million keys: memory, rate of puts, restart
//
// With run's -fsync-delay, and for gaps, every member's data directory is on a
// disk of its own, the file system of test/faultfs.
//
// The empty-server and load subcommands are the processes it starts itself.
//
// The command must not know how conclave works: it sees command lines, ports
// and the etcd API. It owns one goroutine per server process (waits for its
// end), one or two per client and one per watch of a load, and one per failover attempt; all end before
// it does, and so does every process it started, also on SIGINT.
package main
