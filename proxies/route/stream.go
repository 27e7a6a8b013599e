package route

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"berth/proxies/internal/frugal"
)

const (
	// frameHeader is the length before each piece that "-ping" frameRooms.
	frameHeader = 4
	// recordSize is what a TLS record holds.
	recordSize = 16 << 10
	// togetherMax is how much is sent as one piece.
	togetherMax = frugal.Size
)

// newStream returns the stream inside conn, whose handshake is over.
func newStream(conn *tls.Conn, on *records, framed bool) *stream {
	return &stream{tls: conn, on: on, framed: framed, more: true}
}

// stream is a connection to a resource: what is inside TLS, and inside the
// frames of "-ping" where that was agreed on. A frame is a length and so many
// bytes; a ping is a frame without any, and is passed over. It is a
// proxies.Gatherer.
//
// One goroutine may read while another one writes.
type stream struct {
	tls *tls.Conn
	on  *records // beneath tls
	raw net.Conn // the socket

	framed bool
	frame  uint32 // bytes of the current frame not read yet
	head   [frameHeader]byte
	have   int  // bytes of head read so far
	more   bool // something may have come that was not looked at
}

// Await waits until something has come that was not looked at yet.
func (s *stream) Await() error {
	if s.more {
		return nil
	}
	return s.on.fill()
}

// Gather reads what has come.
func (s *stream) Gather(p []byte) (n int, err error) {
	s.on.held = true
	defer func() { s.on.held, s.more = false, n == len(p) }()
	for n < len(p) {
		got, err := s.read(p[n:])
		n += got
		if errors.Is(err, errNotYet) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// HungUp reports whether the proxy is known to have ended the connection.
func (s *stream) HungUp() bool {
	tcp, ok := s.raw.(*net.TCPConn)
	return ok && frugal.HungUp(tcp)
}

// Read reads as any other connection does.
func (s *stream) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := s.read(p)
	s.more = true // for all that is known
	return n, err
}

func (s *stream) read(p []byte) (int, error) {
	if !s.framed {
		return s.tls.Read(p)
	}
	for s.frame == 0 {
		n, err := s.tls.Read(s.head[s.have:])
		if s.have += n; s.have == frameHeader {
			s.frame, s.have = binary.BigEndian.Uint32(s.head[:]), 0
		}
		if err != nil && s.frame == 0 {
			return 0, cutShort(err, s.have > 0)
		}
	}
	n, err := s.tls.Read(p[:min(uint32(len(p)), s.frame)])
	s.frame -= uint32(n)
	return n, cutShort(err, s.frame > 0)
}

// cutShort makes an end within a frame known as that.
func cutShort(err error, within bool) error {
	if within && errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Write sends p, as one piece up to togetherMax.
func (s *stream) Write(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		piece := p[n:min(len(p), n+togetherMax)]
		if len(piece) <= recordSize-frameHeader {
			err = s.writeFrames(piece)
		} else {
			err = s.on.together(func() error { return s.writeFrames(piece) })
		}
		if err == nil {
			n += len(piece)
		}
	}
	return n, err
}

// writeFrames sends length and content of each frame in one record.
func (s *stream) writeFrames(p []byte) error {
	if !s.framed {
		_, err := s.tls.Write(p)
		return err
	}
	room := frameRooms.Get().(*[recordSize]byte)
	defer frameRooms.Put(room)
	for len(p) > 0 {
		n := copy(room[frameHeader:], p)
		binary.BigEndian.PutUint32(room[:], uint32(n))
		if _, err := s.tls.Write(room[:frameHeader+n]); err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

var frameRooms = sync.Pool{New: func() any { return new([recordSize]byte) }}

// CloseWrite announces the end of what is sent.
func (s *stream) CloseWrite() error { return s.tls.CloseWrite() }

// Close closes the connection.
func (s *stream) Close() error { return s.tls.Close() }

// LocalAddr returns this end's address.
func (s *stream) LocalAddr() net.Addr { return s.tls.LocalAddr() }

// RemoteAddr returns the proxy's address.
func (s *stream) RemoteAddr() net.Addr { return s.tls.RemoteAddr() }

// SetDeadline sets both deadlines.
func (s *stream) SetDeadline(t time.Time) error { return s.tls.SetDeadline(t) }

// SetReadDeadline bounds reading, Await included.
func (s *stream) SetReadDeadline(t time.Time) error { return s.tls.SetReadDeadline(t) }

// SetWriteDeadline bounds writing.
func (s *stream) SetWriteDeadline(t time.Time) error { return s.tls.SetWriteDeadline(t) }
