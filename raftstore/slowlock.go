package raftstore

import "sync"

// slowLock is a lock that is held while a disk or a peer is waited for. Who
// waits for it sleeps on a condition: in the bubbles of testing/synctest time
// stands still while anybody waits for a sync.Mutex.
type slowLock struct {
	mu   sync.Mutex
	free *sync.Cond
	held bool
}

// Lock waits until nobody holds the lock, and takes it.
func (l *slowLock) Lock() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.free == nil {
		l.free = sync.NewCond(&l.mu)
	}
	for l.held {
		l.free.Wait()
	}
	l.held = true
}

// Unlock gives the lock to one who waits for it.
func (l *slowLock) Unlock() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = false
	l.free.Signal()
}
