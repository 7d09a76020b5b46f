package raftstore

import (
	"reflect"
	"unsafe"

	"github.com/hashicorp/raft"
)

// answerForgotten answers what is in raft's queues after it was shut down: the
// library never does, and those who wait (bounded by their contexts) leave a
// goroutine behind for each, which a bubble does not permit.
func answerForgotten(r *raft.Raft) {
	drain(r, "applyCh", answerFuture)
	drain(r, "leadershipTransferCh", answerFuture)
	drain(r, "fsmMutateCh", func(batch reflect.Value) { // of *commitTuple
		batch = batch.Elem()
		for i := range batch.Len() {
			if future := batch.Index(i).Elem().FieldByName("future"); !future.IsNil() {
				answerFuture(future)
			}
		}
	})
}

// drain takes everything from one of raft's queues.
func drain(r *raft.Raft, name string, take func(reflect.Value)) {
	field := reflect.ValueOf(r).Elem().FieldByName(name)
	queue := reflect.NewAt(field.Type(), unsafe.Pointer(field.UnsafeAddr())).Elem()
	for {
		value, ok := queue.TryRecv()
		if !ok {
			return
		}
		take(value)
	}
}

func answerFuture(future reflect.Value) {
	answers := future.Elem().FieldByName("errCh")
	if answers.IsNil() {
		return // nobody waits
	}
	*(*(chan error))(unsafe.Pointer(answers.UnsafeAddr())) <- raft.ErrRaftShutdown
}
