package kv

import "testing"

func newRoomyHub(t testing.TB) *hubFixture {
	return newHubFixture(t, hubLimits{streamBytes, streamEvents, inboxBytes, hubBytes, defaultReplay})
}

// A consumer that waits for Wake after Next had nothing gets the progress it asked for,
// also where it had to read history in which there is nothing for its watch.
func TestStream_progressAfterEmptyHistory(t *testing.T) {
	f := newRoomyHub(t)
	f.put("other", "1", "other", "2")
	f.hub.Reset(f.s.View())
	f.hub.Route()
	s := f.hub.NewStream()
	defer s.Close()
	if _, err := s.Create(0, Watch{Key: []byte("k"), Start: 2}); err != nil {
		t.Fatal(err)
	}
	s.AskProgress()
	for {
		select {
		case <-s.Wake():
		default:
			t.Fatal("the consumer sleeps, and progress is not told")
		}
		for {
			u, ok, err := s.Next()
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				break
			}
			if u.Kind == Progress {
				return
			}
		}
	}
}

// Who waits for room is told when progress requests are given up.
func TestStream_roomWhenProgressIsGivenUp(t *testing.T) {
	for name, end := range map[string]bool{"early watch": false, "no watch": true} {
		t.Run(name, func(t *testing.T) {
			f := newRoomyHub(t)
			s, w := f.watching(Watch{Key: []byte("k"), Start: 100})
			if end {
				s.Cancel(w.id)
				f.rest(s)
			}
			select {
			case <-s.Room(): // of the answers
			default:
			}
			for range maxAnswers {
				s.AskProgress()
			}
			if !s.Crowded() {
				t.Fatal("there is room")
			}
			f.rest(s)
			if s.Crowded() {
				t.Fatal("there is no room")
			}
			select {
			case <-s.Room():
			default:
				t.Fatal("who waits for room is not woken")
			}
		})
	}
}

// No progress is behind events that were told.
func TestStream_progressNotBehindEvents(t *testing.T) {
	f := newRoomyHub(t)
	s := f.hub.NewStream()
	defer s.Close()
	for range 2 {
		if _, err := s.Create(0, Watch{Key: []byte("k")}); err != nil {
			t.Fatal(err)
		}
	}
	f.rest(s)
	f.tell("k", "1")
	s.AskProgress()
	told := map[int64]int64{}
	progress := false
	for i := 0; ; i++ {
		u, ok, err := s.Next()
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		switch u.Kind {
		case Events:
			told[u.ID] = u.Events[len(u.Events)-1].Rev()
		case Progress:
			progress = true
			for id, rev := range told {
				if rev > u.Rev {
					t.Errorf("progress of %d after watch %d was told %d", u.Rev, id, rev)
				}
			}
		}
		if i == 0 {
			f.tell("k", "2")
		}
	}
	if !progress {
		t.Error("no progress")
	}
}

// The same where Route is late: a watch has read what is not routed yet.
func TestStream_progressNotBehindHistory(t *testing.T) {
	f := newRoomyHub(t)
	s, _ := f.watching(Watch{Key: []byte("k"), Start: 1})
	f.rest(s)
	f.tell("k", "1")
	f.rest(s)
	if _, err := s.Create(0, Watch{Key: []byte("k"), Start: 2}); err != nil {
		t.Fatal(err)
	}
	s.AskProgress()
	v := f.put("k", "2")
	f.hub.Publish(v, f.queue[len(f.queue)-1]) // Route comes later
	told, progress := int64(0), false
	take := func() {
		for {
			u, ok, err := s.Next()
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				return
			}
			switch u.Kind {
			case Events:
				told = max(told, u.Events[len(u.Events)-1].Rev())
			case Progress:
				progress = true
				if told > u.Rev {
					t.Errorf("progress of %d after events up to %d", u.Rev, told)
				}
			}
		}
	}
	take()
	f.hub.Route()
	take()
	if !progress {
		t.Error("no progress")
	}
}

// A notification of progress is not behind what the creation told.
func TestStream_notifyNotBehindCreation(t *testing.T) {
	f := newRoomyHub(t)
	f.watching(Watch{Key: []byte("l")}) // so that there are publications
	v := f.put("k", "1", "k", "2")
	f.hub.Publish(v, f.queue[len(f.queue)-1]) // Route comes later
	s := f.hub.NewStream()
	defer s.Close()
	if _, err := s.Create(0, Watch{Key: []byte("k"), Notify: true}); err != nil {
		t.Fatal(err)
	}
	created, _, _ := s.Next()
	s.Notify()
	if u, ok, _ := s.Next(); !ok || u.Kind != Progress || u.Rev < created.Rev {
		t.Errorf("created at %d, then %+v", created.Rev, u)
	}
}

// Progress is not told before the end of a watch that it leaves out: Next lets go of mu
// between its look at the answers and progress.
func TestStream_progressAfterCanceled(t *testing.T) {
	f := newRoomyHub(t)
	s, _ := f.watching(Watch{Key: []byte("l")})
	owed, err := s.Create(0, Watch{Key: []byte("k")})
	if err != nil {
		t.Fatal(err)
	}
	f.rest(s)
	f.tell("k", "1") // revision 2
	s.AskProgress()
	s.Cancel(owed) // when Next has found no answer
	if u, ok := s.progress(); ok {
		t.Errorf("%+v, but the client has neither revision 2 of watch %d nor its end", u, owed)
	}
}
