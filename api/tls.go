package api

import (
	"crypto/tls"
	"slices"
	"sync/atomic"
)

const (
	protoH2    = "h2"
	protoHTTP1 = "http/1.1"
)

// doorTLS derives a door's settings from those given: the door's protocols,
// at least TLS 1.2, and a note of what the client offered.
func doorTLS(given *tls.Config, protocols []string) *tls.Config {
	cfg := ownTLS(given, protocols)
	var last atomic.Pointer[[2]*tls.Config] // given by the callback, derived from it
	inner := given.GetConfigForClient
	cfg.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if c, ok := hello.Conn.(*conn); ok {
			c.protocols, c.serverName = hello.SupportedProtos, hello.ServerName
			if err := c.admit(c, c.protocols); err != nil {
				return nil, err
			}
		}
		if inner == nil {
			return nil, nil
		}
		fresh, err := inner(hello)
		if err != nil || fresh == nil {
			return nil, err
		}
		// Certificates change rarely; a clone per handshake would be waste.
		if p := last.Load(); p != nil && p[0] == fresh {
			return p[1], nil
		}
		own := ownTLS(fresh, protocols)
		last.Store(&[2]*tls.Config{fresh, own})
		return own, nil
	}
	return cfg
}

func ownTLS(given *tls.Config, protocols []string) *tls.Config {
	cfg := given.Clone()
	cfg.NextProtos = protocols
	cfg.MinVersion = max(cfg.MinVersion, tls.VersionTLS12)
	return cfg
}

// speaksGRPC tells a gRPC library from a browser or curl: it offers h2 and no
// older protocol.
func speaksGRPC(offered []string) bool {
	return slices.Contains(offered, protoH2) && !slices.Contains(offered, protoHTTP1)
}
