//go:build interop

package cluster_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"testing"
	"time"
)

var late = flag.Duration("late", 15*time.Second, "how much later the third member of TestForming starts, while two serve")

// Any start order forms one cluster: two serve, and the third finds them.
func TestForming_anyOrder(t *testing.T) {
	t.Parallel()
	g := newGroup(t, 3, true)
	server := onLoopback(t, g.zone())
	g.findBy(server)
	for i, order := range [][3]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		t.Run(fmt.Sprint(order), func(t *testing.T) {
			g.t, g.admin = t, ""
			for _, m := range g.members {
				if err := os.RemoveAll(m.data); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.RemoveAll(g.dir + "/admin"); err != nil {
				t.Fatal(err)
			}
			pause := time.Duration(0)
			if i == 0 {
				pause = *late
			}
			form(t, g, order, pause)
		})
	}
}

// The same with another name server.
func TestForming_knot(t *testing.T) {
	t.Parallel()
	g := newGroup(t, 3, false)
	g.findBy(knot(t, g.zone(), "127.0.0.1", freePort(t, "127.0.0.1")))
	form(t, g, [3]int{2, 0, 1}, 0)
}

// form starts the members in an order, each when the one before can do no more
// without it.
func form(t *testing.T, g *group, order [3]int, pause time.Duration) {
	first, second, third := g.members[order[0]], g.members[order[1]], g.members[order[2]]
	first.proc, second.proc, third.proc = nil, nil, nil
	first.launch().says(serveTimeout, "found the first peers")
	second.launch()
	first.serves()
	second.serves()
	until := time.Now().Add(pause)
	clients := g.dial(first, second)
	writes := 0
	for ; time.Now().Before(until) || writes < 3; writes++ {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		_, err := clients.Put(ctx, "before", fmt.Sprint(writes))
		cancel()
		if err != nil {
			t.Fatalf("put while the third member is late: %v", err)
		}
		time.Sleep(50 * time.Millisecond) // a client's pace
	}
	third.launch()
	third.serves()
	g.one()
	for _, m := range g.members {
		out, err := m.ctl(realTool(t, "etcdctl"), "get", "before", "--print-value-only")
		if want := fmt.Sprintf("%d\n", writes-1); err != nil || out != want {
			t.Errorf("etcdctl through %s reads %q, %v; want %q", m.name, out, err, want)
		}
	}
	for _, m := range g.members {
		m.proc.stop()
	}
}
