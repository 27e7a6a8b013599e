package route

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
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
