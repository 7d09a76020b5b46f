// Conclave is the one program of the project. Without a command word it is the
// server; with one it is a client or a tool.
//
//	conclave --discovery-srv example.com     a member that finds its peers in DNS
//	conclave --config-file node1.yaml        a member described by a file
//	conclave get foo --prefix                a client, with etcdctl's flags and output
//	conclave dev                             a cluster on this machine, to try things with
//
// The package turns words on the command line into one call and prints what
// comes back. Its parts:
//
//   - args.go puts arguments in order, since flags may stand anywhere, and
//     server_*.go fill daemon.Config from flags, environment and file;
//   - one file per command, named after it, and printer_*.go, one per output
//     format, whose bytes are those of etcdctl;
//   - dev*.go run the processes of a cluster: dev_dir.go and dev_state.go say what
//     is kept, dev_cluster.go keeps members running, dev_clients.go asks them;
//   - run.go chooses between the two and turns errors into exit codes.
//
// It must not know how anything is done: no consensus, no certificates, no
// storage. It owns one goroutine, which waits for signals in the server form
// (serve.go), those of "endpoint health", one per endpoint, and those of "dev":
// two per member, which run and wait for its process, one for signals, and in
// each member the one that waits for dev's end (dev_lifeline.go).
package main
