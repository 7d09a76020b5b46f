package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// devOnePress is how long further signals count as the first: a wrapper that
// forwards what the terminal has sent to the whole group doubles it.
const devOnePress = time.Second

// devInterrupt is the user's wish to stop: the first signal ends ctx, a later
// one closes hurry.
type devInterrupt struct {
	ctx     context.Context
	hurry   <-chan struct{}
	release func()
}

// catchInterrupts takes over the signals that end programs, until release. One
// goroutine waits for them.
func catchInterrupts(parent context.Context) *devInterrupt {
	ctx, cancel := context.WithCancel(parent)
	hurry := make(chan struct{})
	quit, done := make(chan struct{}), make(chan struct{})
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) { // as under nohup
		signal.Notify(signals, syscall.SIGHUP)
	}
	go func() {
		defer close(done)
		var first time.Time
		for {
			select {
			case <-signals:
			case <-quit:
				return
			}
			switch {
			case first.IsZero():
				first = time.Now()
				cancel()
			case time.Since(first) > devOnePress:
				close(hurry)
				return
			}
		}
	}()
	return &devInterrupt{ctx: ctx, hurry: hurry, release: func() {
		signal.Stop(signals)
		close(quit)
		<-done
		cancel()
	}}
}
