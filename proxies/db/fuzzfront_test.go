package db

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// FuzzFront has a client of each protocol say anything first: what is passed on is a
// part of it, or nothing, and the connection ends.
func FuzzFront(f *testing.F) {
	names := []string{"", "postgres", "mysql", "redis", "mongodb", "sqlserver", "elasticsearch", "unheard-of"}
	for i := range names {
		f.Add(i, []byte("\x00\x00\x00\x08\x04\xd2\x16\x2f"))
		f.Add(i, []byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"))
		f.Add(i, []byte("*1\r\n$4\r\nPING\r\n"))
		f.Add(i, []byte("POST / HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: none\r\nContent-Length: 2\r\n\r\n{}GET / HTTP/1.1\r\n\r\n"))
		f.Add(i, []byte("PUT / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: Mozilla/5.0\r\nContent-Length: 9223372036854775807\r\n\r\n{}"))
		f.Add(i, []byte("\x12\x01\x00\x2f\x00\x00\x01\x00"))
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = ln.Close() })
	f.Fuzz(func(t *testing.T, which int, said []byte) {
		out, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close() //nolint:errcheck // nothing is written
		in, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close() //nolint:errcheck // nothing is written
		front := NewFront(in.(*net.TCPConn), nil, FrontConfig{
			Protocol: func() string { return names[uint(which)%uint(len(names))] },
			Cert:     func() (*tls.Certificate, error) { return nil, errors.New("there is none") },
		})
		front.Decide()
		_, _ = out.Write(said) // the front may have hung up
		_ = out.(*net.TCPConn).CloseWrite()
		_ = front.SetReadDeadline(time.Now().Add(2 * time.Second))
		passed, _ := io.ReadAll(front) // it may be refused, or cut
		if len(passed) > len(said) {
			t.Errorf("%q became %q", said, passed)
		}
	})
}
