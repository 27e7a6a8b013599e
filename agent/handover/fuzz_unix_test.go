//go:build unix

package handover

import (
	"encoding/binary"
	"net"
	"os"
	"path/filepath"
	"testing"
)

// FuzzReceive reads what an agent of another version might send: messages or an
// error, and no more descriptors than came.
func FuzzReceive(f *testing.F) {
	frame := func(text string) []byte {
		return append(binary.BigEndian.AppendUint32(nil, uint32(len(text))), text...)
	}
	f.Add(frame(`{"kind":"ready","format":1}`))
	f.Add(frame(`{"kind":"take","fds":3}`))
	f.Add(frame(`{"kind":"client","fds":-1,"said":"AAAA"}`))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	dir, err := os.MkdirTemp("", "berth")
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = os.RemoveAll(dir) })
	ln, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = ln.Close() })
	f.Fuzz(func(t *testing.T, said []byte) {
		out, err := net.Dial("unix", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		in, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close() //nolint:errcheck // nothing is written
		go func() {
			_, _ = out.Write(said) // the line may be closed first
			_ = out.Close()
		}()
		l := &Line{conn: in.(*net.UnixConn)}
		for {
			_, passed, err := l.Receive()
			if len(passed) > 0 {
				t.Fatalf("%d descriptors came from nowhere", len(passed))
			}
			if err != nil {
				return
			}
		}
	})
}
