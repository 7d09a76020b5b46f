package fsm

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
)

// answersTo applies requests, size of them in an entry, and
// returns the answers and everything that members have to agree on.
func answersTo(t *testing.T, requests []request, size func() int) (answers []string, state string) {
	t.Helper()
	m := openMachine(t, filepath.Join(t.TempDir(), "db"))
	defer m.Close()
	sink := &recorder{wants: map[uint64]bool{}, delivered: map[uint64][]Result{}}
	m.SetSink(sink)
	m.Configure(1, 1, members(1))
	for batch := uint64(1); len(requests) > 0; batch++ {
		data := AppendHeader(nil, 2, batch)
		n := min(size(), len(requests))
		for _, r := range requests[:n] {
			data = AppendRaw(data, r.kind, Origin{User: string(r.user), AuthRevision: r.authRevision}, r.body)
		}
		requests = requests[n:]
		sink.wants[batch] = true
		m.Command(1+batch, 2, data)
		m.Publish()
		for _, r := range sink.delivered[batch] {
			answer := fmt.Sprint(r.Response, r.Err)
			if r.Owed != nil {
				answer = "owed"
			}
			answers = append(answers, answer)
		}
	}
	for i := range m.tasks {
		if held := &m.tasks[i]; held.msg != nil || held.body != nil || held.put.Value != nil {
			t.Error("a request is kept in memory after it was applied")
		}
	}
	m.at.index = 0
	m.view.Store(m.publishView())
	return answers, hashOf(t, m)
}

// Requests that share an entry are decoded and looked up together: their answers
// and what they leave are those of entries with one each.
func TestMachine_requestsOfAnEntry(t *testing.T) {
	for seed := range uint64(10) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var requests []request
		for _, data := range history(t, rng, 150) {
			e, err := decodeEntry(data)
			for err == nil && len(e.rest) > 0 {
				var r request
				r, _, err = e.next()
				requests = append(requests, r)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		want, wantState := answersTo(t, requests, func() int { return 1 })
		got, gotState := answersTo(t, requests, func() int { return 1 + rng.IntN(70) })
		if len(want) != len(requests) || len(got) != len(requests) {
			t.Fatalf("seed %d: %d and %d answers to %d requests", seed, len(want), len(got), len(requests))
		}
		for i := range want {
			// What is owed depends on how much a batch has answered already.
			if want[i] != got[i] && want[i] != "owed" && got[i] != "owed" {
				t.Fatalf("seed %d: the answer to request %d, kind %d, is %s, alone %s", seed, i, requests[i].kind, got[i], want[i])
			}
		}
		if gotState != wantState {
			t.Fatalf("seed %d:\n got %s\nwant %s", seed, gotState, wantState)
		}
	}
}
