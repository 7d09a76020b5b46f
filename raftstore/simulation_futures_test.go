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
	for _, name := range []string{"applyCh", "leadershipTransferCh"} {
		field := reflect.ValueOf(r).Elem().FieldByName(name)
		queue := reflect.NewAt(field.Type(), unsafe.Pointer(field.UnsafeAddr())).Elem()
		for {
			future, ok := queue.TryRecv()
			if !ok {
				break
			}
			answers := future.Elem().FieldByName("errCh")
			if answers.IsNil() {
				continue // nobody waits
			}
			*(*(chan error))(unsafe.Pointer(answers.UnsafeAddr())) <- raft.ErrRaftShutdown
		}
	}
}
