package raftstore

import "time"

// Durable is the newest index on stable storage.
func (s *logStore) Durable() uint64 { last, _ := s.LastIndex(); return last }

// AwaitDurable returns when index is on stable storage.
func (s *logStore) AwaitDurable(uint64, <-chan struct{}) error { return nil }

// Flush returns when everything stored before is on stable storage.
func (s *logStore) Flush(<-chan struct{}) error { return nil }

// Stuck is how long the write under way has taken.
func (s *logStore) Stuck() time.Duration { return 0 }
