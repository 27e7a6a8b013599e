package simkube

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

// The channels of exec and attach over WebSocket: the first byte of each
// message. channelClose is followed by the channel that has ended.
const (
	channelStdin  = 0
	channelStdout = 1
	channelStderr = 2
	channelError  = 3
	channelResize = 4
	channelClose  = 255
)

// webSocket is a connection that speaks WebSocket. One goroutine reads; any
// may write.
type webSocket struct {
	conn   net.Conn
	reader *wsutil.Reader

	mu sync.Mutex // guards writing
}

// upgradeWebSocket takes a connection over that is to speak WebSocket, with
// the first of the client's protocols that is known. A nil webSocket means
// that the client has had its error already.
func upgradeWebSocket(w http.ResponseWriter, r *http.Request, protocols ...string) (*webSocket, error) {
	if r.ProtoMajor != 1 {
		return nil, badRequest("unable to upgrade: an HTTP/1.1 request is needed")
	}
	up := ws.HTTPUpgrader{Protocol: func(p string) bool { return slices.Contains(protocols, p) }}
	conn, buffered, hs, err := up.Upgrade(r, w)
	if err != nil {
		if conn != nil {
			_ = conn.Close() // it is no HTTP server's any more
		}
		return nil, nil // the upgrader answered
	}
	if hs.Protocol == "" {
		_ = conn.Close()
		return nil, nil // no protocol in common: the client sees that none was chosen
	}
	s := &webSocket{conn: &bufferedConn{Conn: conn, r: buffered.Reader}}
	s.reader = &wsutil.Reader{Source: s.conn, State: ws.StateServerSide, OnIntermediate: s.control}
	return s, nil
}

// control answers pings and a close. The answers are written whole.
func (s *webSocket) control(h ws.Header, r io.Reader) error {
	var answer bytes.Buffer
	err := wsutil.ControlHandler{Src: r, Dst: &answer, State: ws.StateServerSide, DisableSrcCiphering: true}.Handle(h)
	if answer.Len() > 0 {
		s.mu.Lock()
		_, werr := s.conn.Write(answer.Bytes())
		s.mu.Unlock()
		err = errors.Join(err, werr)
	}
	return err
}

// next waits for a message and returns what reads it.
func (s *webSocket) next() (io.Reader, error) {
	for {
		h, err := s.reader.NextFrame()
		if err != nil {
			return nil, err
		}
		if !h.OpCode.IsControl() {
			return s.reader, nil
		}
		if err := s.control(h, s.reader); err != nil {
			return nil, err
		}
	}
}

// send writes one message.
func (s *webSocket) send(parts ...[]byte) error {
	return s.frame(ws.NewBinaryFrame(bytes.Join(parts, nil)))
}

func (s *webSocket) frame(f ws.Frame) error {
	raw, err := ws.CompileFrame(f)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err = s.conn.Write(raw)
	return err
}

// bye ends the connection in an orderly way.
func (s *webSocket) bye() error {
	return s.frame(ws.NewCloseFrame(ws.NewCloseFrameBody(ws.StatusNormalClosure, "")))
}

// channel writes to one channel of a webSocket.
type channel struct {
	s  *webSocket
	id byte
}

// maxMessage is the most that one message carries.
const maxMessage = 32 << 10

// Write sends p in messages of a good size.
func (c channel) Write(p []byte) (int, error) {
	n := 0
	for chunk := range slices.Chunk(p, maxMessage) {
		if err := c.s.send([]byte{c.id}, chunk); err != nil {
			return n, err
		}
		n += len(chunk)
	}
	return n, nil
}

// webSocketTerminal upgrades to WebSocket. A nil terminal means that the
// client has had its error or is gone.
func webSocketTerminal(w http.ResponseWriter, r *http.Request, o execOptions, ended context.CancelFunc) (*terminal, error) {
	s, err := upgradeWebSocket(w, r, "v5.channel.k8s.io", "v4.channel.k8s.io")
	if err != nil || s == nil {
		return nil, err
	}
	// The real server says first of all that the connection is established: with
	// an empty message on the lowest channel that the client reads. Source:
	// k8s.io/apiserver, pkg/util/proxy/websocket.go, webSocketServerStreams.
	lowest := byte(channelError)
	switch {
	case o.stdout:
		lowest = channelStdout
	case o.stderr:
		lowest = channelStderr
	}
	if err := s.send([]byte{lowest}); err != nil {
		_ = s.conn.Close()
		return nil, nil // the client is gone
	}
	stdin, toStdin := io.Pipe()
	resize, toResize := io.Pipe()
	go func() {
		err := demux(s, toStdin, toResize)
		_ = toStdin.CloseWithError(err)
		_ = toResize.CloseWithError(err)
		ended()
	}()
	t := &terminal{
		stdin:  emptyReader{},
		stdout: writerOr(channel{s, channelStdout}, o.stdout),
		stderr: writerOr(channel{s, channelStderr}, o.stderr && !o.tty),
		exit: func(err error) error {
			return errors.Join(s.send([]byte{channelError}, mustJSON(exitReport(err))), s.bye())
		},
	}
	if o.stdin {
		t.stdin = stdin
	}
	if o.tty {
		t.resize = resize
	}
	t.abort = func() {
		_ = s.conn.Close()
		_ = stdin.Close() // so that who writes to it goes on
		_ = resize.Close()
	}
	t.close = t.abort // whatever has been sent is on its way
	return t, nil
}

// demux reads messages and passes them on by channel until the client leaves.
func demux(s *webSocket, stdin, resize *io.PipeWriter) error {
	for {
		r, err := s.next()
		if err != nil {
			return err
		}
		var id [1]byte
		if _, err := io.ReadFull(r, id[:]); errors.Is(err, io.EOF) {
			continue // an empty message, sent to keep the connection alive
		} else if err != nil {
			return err
		}
		switch id[0] {
		case channelStdin:
			_, err = io.Copy(stdin, r)
		case channelResize:
			_, err = io.Copy(resize, r)
		case channelClose:
			if _, err = io.ReadFull(r, id[:]); err == nil && id[0] == channelStdin {
				_ = stdin.Close() // the command sees the end of its input
			}
		}
		if err != nil && !errors.Is(err, io.ErrClosedPipe) && !errors.Is(err, io.EOF) {
			return err
		}
		if err := s.reader.Discard(); err != nil { // the rest is not wanted
			return err
		}
	}
}

// webSocketConn is a byte stream carried in messages.
type webSocketConn struct {
	*webSocket
	net.Conn // the connection beneath, for everything but the bytes
	current  io.Reader
}

// Read returns what is in the messages, one after the other.
func (c *webSocketConn) Read(p []byte) (int, error) {
	for {
		if c.current == nil {
			r, err := c.next()
			if err != nil {
				return 0, io.EOF // however the client left
			}
			c.current = r
		}
		n, err := c.current.Read(p)
		if err != nil {
			c.current = nil
		}
		if n > 0 || (err != nil && !errors.Is(err, io.EOF)) {
			return n, ignoreEOF(err)
		}
	}
}

func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// Write sends p as one message.
func (c *webSocketConn) Write(p []byte) (int, error) {
	if err := c.send(p); err != nil {
		return 0, err
	}
	return len(p), nil
}
