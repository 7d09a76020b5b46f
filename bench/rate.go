package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// rateWriter is clients that put without pause, spread over members, and count.
type rateWriter struct {
	cancel context.CancelFunc
	wait   sync.WaitGroup
	count  atomic.Int64
	failed atomic.Pointer[error] // the first failure: none is expected
}

// newRateWriter starts them. Close it.
func newRateWriter(ctx context.Context, members []*member, clients, value int) *rateWriter {
	ctx, cancel := context.WithCancel(ctx)
	w := &rateWriter{cancel: cancel}
	for n := range clients {
		m, prefix, value := members[n%len(members)], fmt.Sprintf("bench/rate/%03d/", n), make([]byte, value)
		w.wait.Go(func() {
			w.write(ctx, m, func(n int) *pb.PutRequest {
				return &pb.PutRequest{Key: []byte(prefix + strconv.Itoa(n%1000)), Value: value}
			})
		})
	}
	return w
}

// newKeyWriter starts one client that puts one key, with stamps. Close it.
func newKeyWriter(ctx context.Context, m *member, key string, value int) *rateWriter {
	ctx, cancel := context.WithCancel(ctx)
	w := &rateWriter{cancel: cancel}
	rest := strings.Repeat("v", value)
	w.wait.Go(func() {
		w.write(ctx, m, func(int) *pb.PutRequest {
			return &pb.PutRequest{Key: []byte(key), Value: []byte(stamped(rest))}
		})
	})
	return w
}

func (w *rateWriter) write(ctx context.Context, m *member, next func(n int) *pb.PutRequest) {
	for n := 0; ctx.Err() == nil; n++ {
		once, cancel := context.WithTimeout(ctx, opTimeout)
		_, err := pb.NewKVClient(m.conn).Put(once, next(n))
		cancel()
		if err == nil {
			w.count.Add(1)
		} else if ctx.Err() == nil {
			err = fmt.Errorf("put through %s: %w", m.name, err)
			w.failed.CompareAndSwap(nil, &err)
			return
		}
	}
}

// rate is the writes per second while something happens.
func (w *rateWriter) rate(while func() error) (float64, error) {
	began, before := time.Now(), w.count.Load()
	if err := while(); err != nil {
		return 0, err
	}
	rate := float64(w.count.Load()-before) / time.Since(began).Seconds()
	if err := w.failed.Load(); err != nil {
		return rate, *err
	}
	return rate, nil
}

func (w *rateWriter) close() {
	w.cancel()
	w.wait.Wait()
}

// memory is what a process has in memory, in MiB: all of it, the most it ever
// was, and what of it is not pages of mapped files.
type memory struct{ now, peak, private float64 }

func (m memory) String() string { return fmt.Sprintf("%.0f MiB (private %.0f)", m.peak, m.private) }

// memoryWatch looks at processes again and again.
type memoryWatch struct {
	cancel context.CancelFunc
	wait   sync.WaitGroup
	peaks  []memory
}

func watchMemory(ctx context.Context, pids ...int) *memoryWatch {
	ctx, cancel := context.WithCancel(ctx)
	w := &memoryWatch{cancel: cancel, peaks: make([]memory, len(pids))}
	w.wait.Go(func() {
		for {
			for i, pid := range pids {
				if now, err := memoryOf(pid); err == nil {
					w.peaks[i] = memory{now: now.now, peak: max(w.peaks[i].peak, now.peak), private: max(w.peaks[i].private, now.private)}
				}
			}
			if pause(ctx, levelEvery) != nil {
				return
			}
		}
	})
	return w
}

// close ends the watch and returns the peaks, in the order of the processes.
func (w *memoryWatch) close() []memory {
	w.cancel()
	w.wait.Wait()
	return w.peaks
}

// memoryOf reads VmRSS, VmHWM and RssAnon of proc(5)'s status.
func memoryOf(pid int) (memory, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return memory{}, err
	}
	return parseMemory(string(text))
}

func parseMemory(status string) (m memory, err error) {
	for line := range strings.Lines(status) {
		for name, into := range map[string]*float64{"VmRSS:": &m.now, "VmHWM:": &m.peak, "RssAnon:": &m.private} {
			rest, ok := strings.CutPrefix(line, name)
			if !ok {
				continue
			}
			kib, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 64)
			if err != nil {
				return m, fmt.Errorf("read memory: unexpected line %q", line)
			}
			*into = kib / 1024
		}
	}
	if m.peak == 0 {
		return m, fmt.Errorf("read memory: no VmHWM")
	}
	return m, nil
}
