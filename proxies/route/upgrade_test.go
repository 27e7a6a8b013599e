package route

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"berth/internal/testwait"
)

// memConn reads from memory and forgets what is written.
type memConn struct {
	net.Conn
	r io.Reader
	w bytes.Buffer
}

func (c *memConn) Read(p []byte) (int, error)       { return c.r.Read(p) }
func (c *memConn) Write(p []byte) (int, error)      { return c.w.Write(p) }
func (c *memConn) SetWriteDeadline(time.Time) error { return nil }

func newWS(data []byte) (*wsConn, *memConn) {
	m := &memConn{r: bytes.NewReader(data)}
	return &wsConn{Conn: m, br: bufio.NewReader(m)}, m
}

// frames writes frames as a server does.
func frames(t testing.TB, fs ...ws.Frame) []byte {
	t.Helper()
	var b bytes.Buffer
	for _, f := range fs {
		if err := ws.WriteFrame(&b, f); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

func TestWebSocketFrames(t *testing.T) {
	long := bytes.Repeat([]byte("z"), 70_000)
	tests := []struct {
		name    string
		data    []byte
		want    string
		wantErr string // empty means a clean end
	}{
		{"binary", frames(t, ws.NewBinaryFrame([]byte("a")), ws.NewBinaryFrame(nil), ws.NewBinaryFrame([]byte("b"))), "ab", ""},
		{"long", frames(t, ws.NewBinaryFrame(long)), string(long), ""},
		{"fragments", frames(t, ws.NewFrame(ws.OpBinary, false, []byte("a")), ws.NewFrame(ws.OpContinuation, true, []byte("b"))), "ab", ""},
		{"ping_between", frames(t, ws.NewBinaryFrame([]byte("a")), ws.NewPingFrame([]byte("hi")), ws.NewBinaryFrame([]byte("b"))), "ab", ""},
		{"pong_between", frames(t, ws.NewPongFrame([]byte("hi")), ws.NewBinaryFrame([]byte("b"))), "b", ""},
		{"close", frames(t, ws.NewBinaryFrame([]byte("a")), ws.NewCloseFrame(nil), ws.NewBinaryFrame([]byte("b"))), "a", ""},
		{"masked", frames(t, ws.MaskFrame(ws.NewBinaryFrame([]byte("a")))), "", "masks"},
		{"cut_short", frames(t, ws.NewBinaryFrame([]byte("abc")))[:4], "ab", "unexpected EOF"},
		{"long_ping", frames(t, ws.NewFrame(ws.OpPing, true, long)), "", "control frame"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, _ := newWS(tt.data)
			got, err := io.ReadAll(c)
			if string(got) != tt.want {
				t.Errorf("read %d bytes, want %d", len(got), len(tt.want))
			}
			if (err == nil) != (tt.wantErr == "") || err != nil && !strings.Contains(err.Error(), tt.wantErr) {
				t.Errorf("error %v, want %q", err, tt.wantErr)
			}
		})
	}
}

func TestWebSocketAnswersPings(t *testing.T) {
	c, m := newWS(frames(t, ws.NewPingFrame([]byte("are you there"))))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("data")); err != nil {
		t.Fatal(err)
	}
	for _, want := range []struct {
		op      ws.OpCode
		payload string
	}{{ws.OpPong, "are you there"}, {ws.OpBinary, "data"}} {
		f, err := ws.ReadFrame(&m.w)
		if err != nil {
			t.Fatal(err)
		}
		if f.Header.OpCode != want.op || string(f.Payload) != want.payload || !f.Header.Masked || f.Header.Mask != [4]byte{} {
			t.Errorf("sent %+v %q, want %v %q masked with zeros", f.Header, f.Payload, want.op, want.payload)
		}
	}
}

// TestWebSocketPingsDuringAWrite has the proxy read nothing until it was read, pings
// among what it sends.
func TestWebSocketPingsDuringAWrite(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	defer time.AfterFunc(testwait.Patience, func() { near.Close() }).Stop()
	c := &wsConn{Conn: near, br: bufio.NewReader(near)}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer near.Close()
	wrote := make(chan error, 1)
	wg.Go(func() {
		_, err := c.Write([]byte("data"))
		wrote <- err
	})
	begun := make([]byte, 1) // of the frame: the write waits for the rest to be read
	if _, err := io.ReadFull(far, begun); err != nil {
		t.Fatal(err)
	}
	wg.Go(func() {
		_, _ = far.Write(frames(t, ws.NewPingFrame([]byte("one")), ws.NewPingFrame([]byte("two")), ws.NewBinaryFrame([]byte("answer"))))
	})
	got := make([]byte, len("answer"))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "answer" {
		t.Fatalf("during the write it reads %q, %v", got, err)
	}
	proxy := io.MultiReader(bytes.NewReader(begun), far)
	for _, want := range []string{"data", "two"} {
		if f, err := ws.ReadFrame(proxy); err != nil || string(f.Payload) != want {
			t.Errorf("the proxy reads %q, %v, want %q", f.Payload, err, want)
		}
	}
	if err := <-wrote; err != nil {
		t.Error(err)
	}
}

func FuzzWebSocketRead(f *testing.F) {
	f.Add(frames(f, ws.NewBinaryFrame([]byte("a")), ws.NewPingFrame(nil), ws.NewCloseFrame(nil)))
	f.Add([]byte{0x82, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3})
	f.Fuzz(func(t *testing.T, data []byte) {
		c, _ := newWS(data)
		got, err := io.ReadAll(c)
		if len(got) > len(data) {
			t.Errorf("%d bytes became %d (%v)", len(data), len(got), err)
		}
	})
}
