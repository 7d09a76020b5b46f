package main

import (
	"io"
	"testing"
)

func TestLifeline_endsWithPipe(t *testing.T) {
	theirs, ours := io.Pipe()
	ended := make(chan struct{})
	go awaitLifeline(theirs, func() { close(ended) })
	if _, err := ours.Write([]byte("noise")); err != nil { // returns when it was read
		t.Fatal(err)
	}
	select {
	case <-ended:
		t.Fatal("ended while the pipe was open")
	default:
	}
	if err := ours.Close(); err != nil {
		t.Fatal(err)
	}
	<-ended
}
