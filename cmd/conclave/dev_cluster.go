package main

import (
	"fmt"
	"sync"
	"syscall"
	"time"
)

const (
	// devGrace is how long a member may take to stop before it is killed.
	devGrace = 10 * time.Second
	// devSettled is how long a member must run for its next end not to count
	// as one more in a row; after devMaxFailures in a row it is left stopped.
	devSettled     = 10 * time.Second
	devMaxFailures = 5
	// devFirstPause is before the first restart; it doubles with each failure.
	devFirstPause = 500 * time.Millisecond
)

// devCluster keeps the members' processes running.
type devCluster struct {
	out     *devOut
	members []*devMember
	failed  chan string   // names of members that were given up; never blocks
	allGone chan struct{} // closed when every member was given up
	left    sync.WaitGroup

	mu     sync.Mutex
	gaveUp int // members left stopped
	size   int // members started
}

// devMember is one member, in whichever process. A goroutine of its own
// restarts it.
type devMember struct {
	name    string
	program string
	args    []string
	log     string
	quit    chan struct{}   // closed to stop it
	stopped chan struct{}   // closed when it is stopped or given up
	hurry   <-chan struct{} // set before quit is closed: do not wait
}

func newDevCluster(out *devOut) *devCluster {
	return &devCluster{out: out, failed: make(chan string, devMaxMembers), allGone: make(chan struct{})}
}

// start adds a member and starts it.
func (c *devCluster) start(name string, dir devDir, args []string) error {
	m := &devMember{
		name: name, program: dir.programPath(), args: args, log: dir.logPath(name),
		quit: make(chan struct{}), stopped: make(chan struct{}),
	}
	if err := rotateLog(m.log, dir.oldLogPath(name)); err != nil {
		return err
	}
	p, err := startDevProcess(m.program, m.args, m.log)
	if err != nil {
		return err
	}
	c.out.line(name, "process %d, log in %s", p.pid, m.log)
	c.members = append(c.members, m)
	c.mu.Lock()
	c.size++
	c.mu.Unlock()
	c.left.Go(func() { c.keep(m, p) })
	return nil
}

// keep restarts a member that ends by itself, until it is told to stop or the
// member ended too often.
func (c *devCluster) keep(m *devMember, p *devProcess) {
	defer close(m.stopped)
	failures := 0
	for {
		select {
		case <-m.quit:
			m.end(p, c.out)
			return
		case <-p.exited:
		}
		if time.Since(p.started) > devSettled {
			failures = 0
		}
		failures++
		c.out.line(m.name, "%s", p.describeExit())
		c.out.line("", "its last words: %s", lastWords(m.log))
		var err error
		if p, err = c.restart(m, failures); p == nil {
			if err != nil {
				c.giveUp(m, err)
			}
			return
		}
	}
}

// restart starts a member again after a pause. Without a process it was told
// to stop, or with an error it cannot be started.
func (c *devCluster) restart(m *devMember, failures int) (*devProcess, error) {
	if failures >= devMaxFailures {
		return nil, fmt.Errorf("ended %d times in a row", failures)
	}
	pause := devFirstPause << (failures - 1)
	c.out.line("", "starting it again in %s; its log: %s", pause, m.log)
	wait := time.NewTimer(pause)
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-m.quit:
		return nil, nil
	}
	p, err := startDevProcess(m.program, m.args, m.log)
	if err != nil {
		return nil, err
	}
	c.out.line(m.name, "process %d", p.pid)
	return p, nil
}

// giveUp leaves a member stopped and says how to go on.
func (c *devCluster) giveUp(m *devMember, err error) {
	c.out.line(m.name, "left stopped: %s; the reason is in %s", err, m.log)
	c.out.line("", "when that is mended, Ctrl-C and the same command start everything again")
	c.failed <- m.name // as many places as members
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gaveUp++; c.gaveUp == c.size {
		close(c.allGone)
	}
}

// stop ends the members in the given order, one after the other, and waits for
// each. After hurry is closed nobody is waited for: the rest is killed.
func (c *devCluster) stop(order []string, hurry <-chan struct{}) {
	byName := map[string]*devMember{}
	for _, m := range c.members {
		m.hurry = hurry
		byName[m.name] = m
	}
	for _, name := range order {
		m := byName[name]
		if m == nil {
			continue // dev ended before it was started
		}
		close(m.quit)
		<-m.stopped
	}
	c.left.Wait()
}

// end stops a member's process: first kindly, then not.
func (m *devMember) end(p *devProcess, out *devOut) {
	began := time.Now()
	grace := time.NewTimer(devGrace)
	defer grace.Stop()
	p.signal(syscall.SIGTERM)
	select {
	case <-p.exited:
		out.line(m.name, "stopped in %s", time.Since(began).Round(10*time.Millisecond))
		return
	case <-grace.C:
		out.line(m.name, "did not stop in %s, so it was killed; its last words: %s", devGrace, lastWords(m.log))
	case <-m.hurry:
		out.line(m.name, "killed")
	}
	p.signal(syscall.SIGKILL)
	<-p.exited // the kernel sees to it
}
