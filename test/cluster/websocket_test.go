//go:build interop

package cluster_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/coder/websocket"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// socketTalk is a conversation over a WebSocket, as text.
type socketTalk struct {
	t    *testing.T
	ctx  context.Context
	conn *websocket.Conn
	said strings.Builder
}

func openSocket(t *testing.T, m *member, path string) *socketTalk {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), serveTimeout)
	t.Cleanup(cancel)
	conn, _, err := websocket.Dial(ctx, m.clientURL()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.CloseNow() })
	return &socketTalk{t: t, ctx: ctx, conn: conn}
}

func (s *socketTalk) say(message string) {
	s.t.Helper()
	fmt.Fprintln(&s.said, message)
	if err := s.conn.Write(s.ctx, websocket.MessageText, []byte(message)); err != nil {
		s.t.Fatal(err)
	}
}

// hear takes a message, and writes it down without what differs from server to
// server.
func (s *socketTalk) hear() {
	s.t.Helper()
	_, message, err := s.conn.Read(s.ctx)
	if err != nil {
		s.t.Fatalf("%v after\n%s", err, s.said.String())
	}
	var m map[string]any
	if err := json.Unmarshal(message, &m); err != nil {
		s.t.Fatalf("%v: %s", err, message)
	}
	if result, ok := m["result"].(map[string]any); ok {
		result["header"] = result["header"].(map[string]any)["revision"]
	}
	text, err := json.Marshal(m)
	if err != nil {
		s.t.Fatal(err)
	}
	fmt.Fprintf(&s.said, "  %s\n", text)
}

// A watch and a keep-alive over WebSockets are answered as by etcd. The other
// calls are not: there etcd waits for more until the client goes.
func TestWebSocket_answersAsEtcd(t *testing.T) {
	t.Parallel()
	s, _, their, _ := besideEtcd(t)
	play := func(m *member) string {
		client := m.dial()
		w := openSocket(t, m, "/v3/watch")
		for _, create := range []string{
			`{"create_request":{"key":"YQ=="}}`, `{"create_request":{"key":"YQ==","range_end":"Yg==","prev_kv":true,"watch_id":"5"}}`,
			`{"create_request":{"key":"Yg==","range_end":"YQ=="}}`, `{"create_request":{"key":"YQ==","watch_id":5}}`,
		} {
			w.say(create)
			w.hear()
		}
		w.say(`{"cancel_request":{"watch_id":"0"}}`)
		w.hear()
		for i := range 2 {
			if _, err := client.Put(t.Context(), "a1", fmt.Sprint(i)); err != nil {
				t.Fatal(err)
			}
			w.hear()
		}
		w.say(`{"progress_request":{}}`)
		w.hear()
		if _, err := client.Delete(t.Context(), "a1"); err != nil {
			t.Fatal(err)
		}
		w.hear()

		id := clientv3.LeaseID(77)
		k := openSocket(t, m, "/v3/lease/keepalive")
		newTalk(t, m).lease(int64(id))
		for range 2 {
			k.say(`{"ID":"77"}`)
			k.hear()
		}
		k.say(`{"ID":78}`)
		k.hear()
		return w.said.String() + k.said.String()
	}
	got, want := play(s.member), play(their.member)
	if got != want {
		t.Errorf("conclave:\n%s\netcd:\n%s", got, want)
	}
	t.Log(want)
}
