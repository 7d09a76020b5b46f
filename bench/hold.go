package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"time"
)

// holdSettle is how long servers are left alone before their resident memory is
// looked at: Go's runtime gives free memory back in the background.
const holdSettle = 3 * time.Second

// servedMemory is what all servers have together, in bytes: in memory, and of
// that as live objects and stacks.
type servedMemory struct{ resident, live float64 }

// hold measures what the watches take of the servers' memory. Their connections
// are there before.
func (w *watchers) hold(ctx context.Context) (result loadResult, err error) {
	w.touch(ctx)
	before, err := w.serverMemory(ctx)
	if err != nil {
		return result, err
	}
	if err := w.open(ctx); err != nil {
		return result, err
	}
	after, err := w.serverMemory(ctx)
	if err != nil {
		return result, err
	}
	n := float64(w.spec.Watch.Idle)
	result.Resident, result.Live = (after.resident-before.resident)/n, (after.live-before.live)/n
	return result, nil
}

// touch makes a watch at every member, which then has in memory what of its
// program and its tables the first one takes, and ends it.
func (w *watchers) touch(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, client := range w.clients[:min(len(w.clients), len(w.spec.Endpoints))] {
		client.Watch(ctx, "idle/")
	}
}

// serverMemory has every server collect its garbage, and looks.
func (w *watchers) serverMemory(ctx context.Context) (all servedMemory, err error) {
	transport := &http.Transport{}
	if w.certs != nil {
		transport.TLSClientConfig = &tls.Config{Certificates: w.certs.tls.Certificates, RootCAs: w.certs.tls.RootCAs, MinVersion: tls.VersionTLS12}
	}
	defer transport.CloseIdleConnections()
	for _, endpoint := range w.spec.Endpoints {
		url := w.certs.scheme() + endpoint + "/debug/pprof/heap?gc=1&debug=1"
		var live float64
		// What is in pools goes at the second collection, and the runtime keeps a
		// tenth more than was in use when the last one began: as after some minutes,
		// in which it collects by itself.
		for range 3 {
			if live, err = liveMemory(ctx, &http.Client{Transport: transport, Timeout: opTimeout}, url); err != nil {
				return all, err
			}
		}
		all.live += live
	}
	if err := pause(ctx, holdSettle); err != nil {
		return all, err
	}
	for _, pid := range w.spec.Pids {
		m, err := memoryOf(pid)
		if err != nil {
			return all, err
		}
		all.resident += m.now * (1 << 20)
	}
	return all, nil
}

// liveMemory asks a server's profile of its heap, which begins with a collection
// and ends with the runtime's statistics.
func liveMemory(ctx context.Context, client *http.Client, url string) (float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return 0, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", url, err)
	}
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("read %s: %s", url, resp.Status)
	}
	return parseLive(string(text))
}

var (
	heapAlloc  = regexp.MustCompile(`(?m)^# HeapAlloc = (\d+)$`)
	stackInuse = regexp.MustCompile(`(?m)^# Stack = (\d+) /`)
)

func parseLive(profile string) (sum float64, err error) {
	for _, line := range []*regexp.Regexp{heapAlloc, stackInuse} {
		found := line.FindStringSubmatch(profile)
		if found == nil {
			return 0, fmt.Errorf("read a profile of the heap: no line %s", line)
		}
		n, err := strconv.ParseFloat(found[1], 64)
		if err != nil {
			return 0, fmt.Errorf("read a profile of the heap: %w", err)
		}
		sum += n
	}
	return sum, nil
}
