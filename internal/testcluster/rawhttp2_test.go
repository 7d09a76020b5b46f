package testcluster_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"net/url"
	"runtime"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/protobuf/proto"
)

// firstRoom is how many bytes of data a server takes before it says that it
// takes more, on a stream and on all of a connection.
const firstRoom = 65535

// A rawConn is a connection to a gRPC server whose client does what no library
// would: it lets the server send nothing but headers, and does not read them.
type rawConn struct {
	t    *testing.T
	conn *net.TCPConn
	fr   *http2.Framer
	next uint32
	room map[uint32]int // that the server has left, by stream; 0: of all
}

func dialRaw(t *testing.T, endpoint string) *rawConn {
	t.Helper()
	u, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	c := &rawConn{t: t, conn: conn.(*net.TCPConn), fr: http2.NewFramer(conn, conn), next: 1, room: map[uint32]int{0: firstRoom}}
	if err := c.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}); err != nil {
		t.Fatal(err)
	}
	return c
}

// open begins a call and returns its stream.
func (c *rawConn) open(method string) uint32 {
	c.t.Helper()
	id := c.next
	c.next += 2
	c.room[id] = firstRoom
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for _, f := range [][2]string{
		{":method", "POST"}, {":scheme", "http"}, {":path", method}, {":authority", "localhost"},
		{"content-type", "application/grpc"}, {"te", "trailers"},
	} {
		if err := enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}); err != nil {
			c.t.Fatal(err)
		}
	}
	if err := c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndHeaders: true}); err != nil {
		c.t.Fatal(err)
	}
	return id
}

// send sends messages on a stream, within firstRoom.
func (c *rawConn) send(stream uint32, msgs ...proto.Message) {
	c.t.Helper()
	var data []byte
	for _, m := range msgs {
		body, err := proto.Marshal(m)
		if err != nil {
			c.t.Fatal(err)
		}
		data = binary.BigEndian.AppendUint32(append(data, 0), uint32(len(body)))
		data = append(data, body...)
	}
	for len(data) > 0 {
		n := min(len(data), 16<<10)
		c.data(stream, data[:n])
		data = data[n:]
	}
}

func (c *rawConn) data(stream uint32, data []byte) {
	c.t.Helper()
	if err := c.fr.WriteData(stream, false, data); err != nil {
		c.t.Fatal(err)
	}
	c.room[0] -= len(data)
	c.room[stream] -= len(data)
}

// flood sends a message up to n times, as the server gives leave to, and returns
// how often. It ends early when the server has given none for two seconds.
func (c *rawConn) flood(stream uint32, msg proto.Message, n int) (sent int) {
	c.t.Helper()
	body, err := proto.Marshal(msg)
	if err != nil {
		c.t.Fatal(err)
	}
	data := append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(body))), body...)
	updates := make(chan http2.WindowUpdateFrame, 16)
	go func() { // ends with the connection
		defer close(updates)
		for {
			f, err := c.fr.ReadFrame()
			switch f := f.(type) {
			case *http2.WindowUpdateFrame:
				updates <- *f
			case *http2.RSTStreamFrame:
				return
			}
			if err != nil {
				return
			}
		}
	}()
	c.t.Cleanup(func() {
		c.conn.Close()
		for range updates {
		}
	})
	for ; sent < n; sent++ {
		for c.room[0] < len(data) || c.room[stream] < len(data) {
			select {
			case u, ok := <-updates:
				if !ok {
					c.t.Fatalf("the server ended the stream after %d messages", sent)
				}
				c.room[u.StreamID] += int(u.Increment)
			case <-time.After(2 * time.Second):
				return sent
			}
		}
		c.data(stream, data)
	}
	return sent
}

// reset ends the connection as the death of a machine's process does: at once,
// with what was sent to it unread.
func (c *rawConn) reset() {
	c.t.Helper()
	if err := c.conn.SetLinger(0); err != nil {
		c.t.Fatal(err)
	}
	c.conn.Close()
}

// goroutinesBack waits until there are no more goroutines than before.
func goroutinesBack(t *testing.T, before int) {
	t.Helper()
	for end := time.Now().Add(time.Minute); runtime.NumGoroutine() > before; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			stacks := make([]byte, 1<<20)
			stacks = stacks[:runtime.Stack(stacks, true)]
			t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, stacks)
		}
	}
}
