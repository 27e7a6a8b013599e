package db

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"berth/proxies/internal/early"
)

const (
	// handshakeTimeout is how long a client may take for a TLS handshake.
	handshakeTimeout = 10 * time.Second
	// frontMax is how much a client may say before berth stops looking for TLS
	// in it.
	frontMax = 16 << 10
)

// FrontConfig says what a Front needs to know.
type FrontConfig struct {
	// Protocol returns the name of the tunnel's protocol; empty means that it is
	// not known yet.
	Protocol func() string
	// Cert returns the certificate to show to a client that asks for TLS. After
	// an error the client is served as if berth had no TLS.
	Cert func() (*tls.Certificate, error)
}

// Front is the client's end of a tunnel's connection. It speaks TLS with a
// client that asks for it, in the way of the client's protocol, and what is read
// and written is what the client would have said and heard without: the
// resource sees no TLS. A client that does not ask is served as it is.
//
// One goroutine may read while another one writes.
type Front struct {
	tcp   *net.TCPConn
	cfg   FrontConfig
	late  atomic.Bool         // see Decide
	ended atomic.Bool         // the client with TLS has had the end announced
	via   atomic.Pointer[via] // how the client is spoken to; nil: not known yet

	// said is what the client has sent and Read has not returned, and pass how
	// much of it Read may return. Both are the reader's.
	said []byte
	pass int
	// wary says that a web page may speak next, and body how much is still to come of
	// its last request, which may pass. Both are the reader's.
	wary bool
	body int64
	// asked says that the client has asked for GSSAPI encryption. It is the
	// reader's.
	asked bool

	spoke   chan struct{} // closed when the client has said something, be it plain or TLS
	speak   func()        // closes spoke
	greeted greeting      // for protocols whose server speaks first

	turn sync.Mutex // held during a handshake, and while something is written before via is known

	mu              sync.Mutex // guards everything below
	readBy, writeBy time.Time  // the deadlines
	shaking         bool       // a handshake is under way, with deadlines of its own
}

// via is how a client is spoken to.
type via struct {
	io.Reader
	io.Writer
	closeWrite func() error
	plain      bool // it is the socket itself
}

// NewFront returns the front of a client that has said something already, or not.
func NewFront(client *net.TCPConn, said []byte, cfg FrontConfig) *Front {
	f := &Front{tcp: client, cfg: cfg, said: said, spoke: make(chan struct{})}
	f.speak = sync.OnceFunc(func() { close(f.spoke) })
	return f
}

// handshakeError says that a client asked for TLS, and the handshake failed. It
// has no Unwrap: to a reader the socket's errors mean something else.
type handshakeError struct{ err error }

func (e *handshakeError) Error() string { return "TLS handshake: " + e.err.Error() }

// Decide is called when it is known whether the client gets a connection. Until
// then a client that begins with TLS or HTTP waits if the protocol is not known: some
// protocols have TLS of their own, which is none of berth's business.
func (f *Front) Decide() { f.late.Store(true) }

// Plain reports whether the client speaks without TLS and everything read ahead
// was read, so that the socket itself can be read instead. It is the reader's.
func (f *Front) Plain() bool {
	v := f.via.Load()
	return v != nil && v.plain && f.pass == 0 && !f.wary
}

// Unread returns what the client has said and Read has not returned. It is false
// once the client speaks TLS, whose keys are in this process alone. Not to be called
// while another goroutine reads.
func (f *Front) Unread() ([]byte, bool) {
	if v := f.via.Load(); v != nil && !v.plain {
		return nil, false
	}
	return f.said, true
}

// Read reads what the client says, without its TLS.
func (f *Front) Read(p []byte) (int, error) {
	for {
		if f.pass > 0 {
			n := copy(p, f.said[:f.pass])
			f.said, f.pass = f.said[n:], f.pass-n
			return n, nil
		}
		if v := f.via.Load(); v != nil {
			if f.wary && f.body == 0 {
				if err := f.judge(v); err != nil {
					return 0, err
				}
				continue
			}
			f.said = nil
			if !f.wary {
				return f.readFrom(v, p)
			}
			n, err := f.readFrom(v, p[:min(int64(len(p)), f.body)])
			f.body -= int64(n)
			return n, err
		}
		err := f.open()
		if errors.Is(err, io.EOF) && f.via.Load() == nil && len(f.said) > 0 {
			f.wary = mayBeHTTP(f.said)
			f.plain() // it has ended, and this is all that it said
			continue
		}
		if err != nil {
			return 0, err
		}
	}
}

func (f *Front) readFrom(v *via, p []byte) (int, error) {
	n, err := v.Read(p)
	if err != nil && f.ended.Load() && !errors.Is(err, os.ErrDeadlineExceeded) {
		// A client that has closed its socket answers the end of TLS,
		// which is a message, with a reset.
		err = io.EOF
	}
	return n, err
}

// open looks at what the client has said. It returns without an error when that
// was enough for a decision, or Read should return some of it.
func (f *Front) open() error {
	if err := f.need(1); err != nil {
		return err
	}
	name := f.cfg.Protocol()
	if name == "" && !f.late.Load() && (f.said[0] == tlsHandshake || mayBeHTTP(f.said)) && len(f.said) < frontMax {
		return f.need(len(f.said) + 1)
	}
	secure := secureUnknown
	if name != "" {
		p, _ := Lookup(name)
		secure = p.secure
	}
	if secure == nil {
		f.plain()
		return nil
	}
	return secure(f)
}

// need reads on until the client has said n bytes.
func (f *Front) need(n int) error {
	for len(f.said) < n {
		buf := make([]byte, max(512, n-len(f.said)))
		got, err := f.tcp.Read(buf)
		f.said = append(f.said, buf[:got]...)
		if err != nil && len(f.said) < n {
			return err
		}
	}
	return nil
}

// plain decides that the client does not speak TLS.
func (f *Front) plain() {
	f.turn.Lock()
	defer f.turn.Unlock()
	if !f.wary {
		f.pass = len(f.said)
	}
	_ = f.greeted.release(f.tcp) // a client that is gone is noticed by whoever writes or reads next
	f.decide(&via{f.tcp, f.tcp, f.tcp.CloseWrite, true})
}

func (f *Front) decide(v *via) {
	f.via.Store(v)
	f.speak()
}

// let has Read return the first n bytes of what the client has said; the next
// ones may ask for TLS yet.
func (f *Front) let(n int) {
	f.pass = n
	f.speak()
}

// handshake is one TLS handshake with a client.
type handshake struct {
	skip   int                       // the bytes by which the client asked for it
	answer []byte                    // what is sent before it
	protos []string                  // for ALPN
	max    uint16                    // the highest version; 0: any
	over   func(net.Conn) net.Conn   // what the handshake goes over; nil: the socket
	then   func(conn *tls.Conn) *via // how to speak afterwards; nil: TLS
	first  []byte                    // what Read returns first
}

// shake makes the handshake. Without a certificate it does nothing and returns
// the error of FrontConfig.Cert as a *noCertError.
func (f *Front) shake(h handshake) error {
	cert, err := f.cfg.Cert()
	if err != nil {
		return &noCertError{err}
	}
	f.turn.Lock()
	defer f.turn.Unlock()
	if !f.beginShaking() {
		return os.ErrDeadlineExceeded
	}
	defer f.endShaking()
	over := net.Conn(&early.Conn{Conn: f.tcp, Said: f.said[h.skip:]})
	if h.over != nil {
		over = h.over(over)
	}
	conn := tls.Server(over, &tls.Config{
		Certificates: []tls.Certificate{*cert}, MinVersion: tls.VersionTLS12, MaxVersion: h.max, NextProtos: h.protos,
		SessionTicketsDisabled:      true, // few of these protocols' clients resume sessions
		DynamicRecordSizingDisabled: true, // small first records help web pages to render, not queries to run
	})
	if _, err = f.tcp.Write(h.answer); err == nil {
		err = conn.HandshakeContext(context.Background()) // it has a deadline
	}
	if err != nil {
		err = &handshakeError{err}
		f.decide(&via{failing{err}, failing{err}, f.tcp.CloseWrite, false})
		return err
	}
	f.said, f.pass = h.first, len(h.first)
	v := &via{conn, conn, f.closeTLS(conn), false}
	if h.then != nil {
		v = h.then(conn)
	}
	f.decide(v)
	return nil
}

// closeTLS ends the sending half of conn and of the socket beneath it, on which
// nothing can follow.
func (f *Front) closeTLS(conn *tls.Conn) func() error {
	return func() error {
		f.ended.Store(true)
		return errors.Join(conn.CloseWrite(), f.tcp.CloseWrite())
	}
}

// beginShaking sets the deadlines of a handshake; it returns false if the
// deadline for reading is over already.
func (f *Front) beginShaking() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	until := now.Add(handshakeTimeout)
	if !f.readBy.IsZero() {
		if f.readBy.Before(now) {
			return false
		}
		if f.readBy.Before(until) {
			until = f.readBy
		}
	}
	f.shaking = true
	_ = f.tcp.SetDeadline(until) // fails on a closed connection only
	return true
}

// endShaking sets the deadlines that were set meanwhile.
func (f *Front) endShaking() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.shaking = false
	_ = f.tcp.SetReadDeadline(f.readBy) // these fail on a closed connection only
	_ = f.tcp.SetWriteDeadline(f.writeBy)
}

// Write writes to the client, with TLS if it asked for that. While it has said
// nothing Write waits for a moment, unless its protocol's server speaks first.
func (f *Front) Write(p []byte) (int, error) {
	if v := f.via.Load(); v != nil {
		return v.Write(p)
	}
	name := f.cfg.Protocol()
	proto, known := Lookup(name)
	if known && proto.secure != nil && proto.greet == nil {
		moment := time.NewTimer(speaksFirst)
		select {
		case <-f.spoke:
		case <-moment.C:
		}
		moment.Stop()
	}
	f.turn.Lock()
	defer f.turn.Unlock()
	if v := f.via.Load(); v != nil {
		return v.Write(p)
	}
	if known && proto.greet != nil {
		return proto.greet(f, p)
	}
	return f.tcp.Write(p)
}

// CloseWrite tells the client that nothing more follows.
func (f *Front) CloseWrite() error {
	f.turn.Lock()
	defer f.turn.Unlock()
	if v := f.via.Load(); v != nil {
		return v.closeWrite()
	}
	return errors.Join(f.greeted.release(f.tcp), f.tcp.CloseWrite())
}

// Close closes the socket. A client with TLS sees that no end was announced.
func (f *Front) Close() error { return f.tcp.Close() }

// LocalAddr returns the tunnel's address.
func (f *Front) LocalAddr() net.Addr { return f.tcp.LocalAddr() }

// RemoteAddr returns the client's address.
func (f *Front) RemoteAddr() net.Addr { return f.tcp.RemoteAddr() }

// SetDeadline sets both deadlines.
func (f *Front) SetDeadline(t time.Time) error {
	return errors.Join(f.SetReadDeadline(t), f.SetWriteDeadline(t))
}

// SetReadDeadline sets the deadline for reading. A handshake that is under way
// goes on regardless.
func (f *Front) SetReadDeadline(t time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.readBy = t
	if f.shaking {
		return nil
	}
	return f.tcp.SetReadDeadline(t)
}

// SetWriteDeadline sets the deadline for writing, with the same exception.
func (f *Front) SetWriteDeadline(t time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.writeBy = t
	if f.shaking {
		return nil
	}
	return f.tcp.SetWriteDeadline(t)
}

// noCertError says that there is no certificate to speak TLS with.
type noCertError struct{ err error }

func (e *noCertError) Error() string { return fmt.Sprintf("no certificate for local TLS: %v", e.err) }

func (e *noCertError) Unwrap() error { return e.err }

// failing is a stream whose handshake failed.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error)  { return 0, f.err }
func (f failing) Write([]byte) (int, error) { return 0, f.err }

// tlsHandshake is the first byte of a TLS connection.
const tlsHandshake = 0x16

// secureDirect is for protocols whose clients begin with TLS if they want it.
func secureDirect(protos ...string) func(*Front) error {
	return func(f *Front) error { return f.direct(protos...) }
}

// direct speaks TLS with a client that begins with it.
func (f *Front) direct(protos ...string) error {
	if f.said[0] == tlsHandshake {
		if err := f.need(3); err != nil {
			return err
		}
		if f.said[1] == 3 && f.said[2] <= 4 { // the version; MongoDB has no first message of that length
			err := f.shake(handshake{protos: protos})
			if _, no := errors.AsType[*noCertError](err); !no {
				return err
			}
		}
	}
	f.plain()
	return nil
}

// secureUnknown is for clients of a protocol that is not known yet: their first
// bytes show which of them ask for TLS.
func secureUnknown(f *Front) error {
	switch f.said[0] {
	case 0: // a length
		return securePostgres(f)
	case tdsPrelogin:
		return secureSQLServer(f)
	default:
		f.wary = true
		return f.direct(alpnPostgres, alpnTDS, alpnHTTP)
	}
}
