package simcluster

import (
	"errors"
	"io"
	"net"
	"testing"

	"github.com/gobwas/ws"
)

// The api module's client masks with zeroes; others do as the standard says.
func TestWebSocketStream(t *testing.T) {
	client, server := net.Pipe()
	defer client.Close()
	defer server.Close()
	conn := &webSocketConn{Conn: server}
	go func() {
		for _, f := range []ws.Frame{
			ws.MaskFrame(ws.NewBinaryFrame([]byte("hello, "))),
			ws.MaskFrame(ws.NewPingFrame([]byte("are you there"))),
			ws.MaskFrame(ws.NewBinaryFrame([]byte("world"))),
			ws.MaskFrame(ws.NewCloseFrame(nil)),
		} {
			_ = ws.WriteFrame(client, f)
			if f.Header.OpCode == ws.OpPing {
				if pong, err := ws.ReadFrame(client); err != nil || pong.Header.OpCode != ws.OpPong || string(pong.Payload) != "are you there" {
					t.Errorf("ping answered %+v, %v", pong, err)
				}
			}
		}
	}()
	small := make([]byte, 3) // smaller than a frame
	var got []byte
	for {
		n, err := conn.Read(small)
		got = append(got, small[:n]...)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if string(got) != "hello, world" {
		t.Errorf("read %q", got)
	}
	written := make(chan error, 1)
	go func() {
		_, err := conn.Write([]byte("answer"))
		written <- err
	}()
	frame, err := ws.ReadFrame(client)
	if err != nil || frame.Header.OpCode != ws.OpBinary || frame.Header.Masked || string(frame.Payload) != "answer" {
		t.Errorf("wrote %+v, %v", frame, err)
	}
	if err := <-written; err != nil {
		t.Error(err)
	}
}
