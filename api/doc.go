// Package api is the door for clients: it speaks the etcd v3 protocol over
// gRPC and, through a gateway, in JSON, and health, version and metrics over
// HTTP, on one port.
//
// A request is checked for its shape here (validate.go), handed to the Backend
// (the member), and the Backend's error is translated by the one table of
// errors.go. TLS ends once, in the door: the accepted connection then goes to
// grpc's own server or to the HTTP server by what the client speaks.
//
// The package must not know how a request is agreed, stored or replicated, how
// certificates are made, or what the command line looks like; addresses, TLS
// settings, logger and metrics registry are given to it.
//
// Use is in three steps, so that a taken port is found before anything is
// written: Listen binds, New assembles, Serve answers until Close.
//
// Goroutines, all owned by Server and waited for by Close: one acceptor per
// socket; one short-lived goroutine per connection that has not yet shown what
// it speaks (bounded by Options.MaxHandshakes); the two HTTP servers and the
// gRPC server with what they start; the gateway's client connection and, for
// streams and WebSockets, one reader per request; for each of these one that pings;
// one leader watch.
package api
