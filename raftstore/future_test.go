package raftstore

import (
	"context"
	"errors"
	"reflect"
	"testing"

	"github.com/hashicorp/raft"
)

// forgotten is a future that the library will not answer: it went into the queue
// of an instance that has ended. The library chooses by chance whether it refuses.
func forgotten(t *testing.T, in *instance) raft.Future {
	t.Helper()
	for range 1000 {
		future := in.ApplyLog(raft.Log{Data: []byte("x")}, 0)
		if reflect.ValueOf(future).Kind() == reflect.Pointer {
			return future
		}
	}
	t.Fatal("the library refuses always")
	return nil
}

// Who waits for a future that the library forgot is answered when the instance has
// ended, or the wait has.
func TestInstance_answersForgotten(t *testing.T) {
	n := openLone(t, t.TempDir(), &toyMachine{})
	lead(t, n)
	in := n.raft()
	if err := in.stop(); err != nil {
		t.Fatal(err)
	}
	if err := in.answer(context.Background(), forgotten(t, in)); !errors.Is(err, raft.ErrRaftShutdown) {
		t.Errorf("when the instance has ended: %v", err)
	}
	in.ended = context.Background() // it has not
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := in.answer(ctx, forgotten(t, in)); !errors.Is(err, context.Canceled) {
		t.Errorf("when the wait has ended: %v", err)
	}
}
