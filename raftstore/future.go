package raftstore

import (
	"cmp"
	"context"
	"errors"
	"reflect"
	"sync"

	"github.com/hashicorp/raft"
)

// answer waits for the answer to a future of this instance, until ctx or the
// instance ends. Errors: those of the library, which has raft.ErrRaftShutdown when
// the instance ends first; ctx.Err().
//
// The library answers nothing that is in its queues when it is shut down: who
// waits for such a future would wait for ever. Every future that it answers later
// has a channel that, closed, ends the wait. The library sets it for some of its
// own; whoever has the future may, too, until it waits. The field is exported and
// its type is not, so that this takes reflection; a library without the field
// panics here.
func (in *instance) answer(ctx context.Context, future raft.Future) error {
	value := reflect.ValueOf(future)
	if value.Kind() != reflect.Pointer {
		return future.Error() // was answered by who made it
	}
	ended := make(chan struct{})
	end := sync.OnceFunc(func() { close(ended) })
	defer context.AfterFunc(ctx, end)()
	defer context.AfterFunc(in.ended, end)()
	value.Elem().FieldByName("ShutdownCh").Set(reflect.ValueOf(ended))
	err := future.Error()
	if errors.Is(err, raft.ErrRaftShutdown) {
		return cmp.Or(ctx.Err(), err)
	}
	return err
}
