//go:build interop

package cluster_test

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// idleTime is how long idle members are looked at.
const idleTime = 5 * time.Second

// What three idle members cost is printed, for who reads the log; a limit would
// measure the machine.
func TestIdle_cost(t *testing.T) {
	g := start(t, 3, true)
	g.settle()
	before := map[*member]float64{}
	for _, m := range g.members {
		before[m] = cpuSeconds(t, m.proc)
	}
	window, cancel := context.WithTimeout(t.Context(), idleTime)
	defer cancel()
	<-window.Done()
	for _, m := range g.members {
		used := cpuSeconds(t, m.proc) - before[m]
		t.Logf("%s: %.1f %% of a core, %s resident, %s threads", m.name, 100*used/idleTime.Seconds(),
			procStatus(t, m.proc, "VmRSS"), procStatus(t, m.proc, "Threads"))
	}
}

// ticksPerSecond is the unit of CPU times in /proc on every Linux that Go runs
// on.
const ticksPerSecond = 100

// cpuSeconds is the processor time a process has used: fields 14 and 15 of
// proc(5)'s stat. Field 2 may itself hold spaces.
func cpuSeconds(t *testing.T, p *process) float64 {
	t.Helper()
	text := procFile(t, p, "stat")
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	var ticks float64
	for _, field := range fields[11:13] {
		n, err := strconv.ParseFloat(field, 64)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return ticks / ticksPerSecond
}

func procStatus(t *testing.T, p *process, name string) string {
	t.Helper()
	for line := range strings.Lines(procFile(t, p, "status")) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	t.Fatalf("no %s", name)
	return ""
}

func procFile(t *testing.T, p *process, name string) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", p.cmd.Process.Pid, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
