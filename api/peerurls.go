package api

import (
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Bounds of the peer URLs of one member: they are in every membership entry of
// the log.
const (
	maxPeerURLs     = 16
	maxPeerURLBytes = 1024
)

// peerURLs reads the peer URLs of a member that is added or changed: sorted,
// and each once. Etcd takes more: unix sockets, which no member of conclave
// listens on, and URLs without a host, which nobody could dial.
func peerURLs(texts []string) ([]string, bool) {
	if len(texts) == 0 || len(texts) > maxPeerURLs {
		return nil, false
	}
	var urls []string
	for _, text := range texts {
		u, ok := peerURL(strings.TrimSpace(text))
		if !ok {
			return nil, false
		}
		urls = append(urls, u)
	}
	slices.Sort(urls)
	return slices.Compact(urls), true
}

func peerURL(text string) (string, bool) {
	u, err := url.Parse(text)
	if err != nil || len(text) > maxPeerURLBytes || u.Scheme != "http" && u.Scheme != "https" {
		return "", false
	}
	if u.Path != "" || u.RawQuery != "" || u.ForceQuery || u.User != nil || strings.ContainsAny(text, "#, ") {
		return "", false
	}
	host, port, err := net.SplitHostPort(u.Host)
	if err != nil || host == "" {
		return "", false
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", false
	}
	return u.String(), true
}
