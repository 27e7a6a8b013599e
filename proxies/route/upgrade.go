package route

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha1"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gobwas/ws"
	"github.com/gravitational/teleport/api/constants"

	"berth/internal/plain"
)

// upgrade speaks TLS with whatever stands before the proxy and asks the proxy,
// over HTTP, to carry raw bytes from then on. The api module can do the same,
// but waits for the answer without a deadline.
func (r Route) upgrade(ctx context.Context, conn net.Conn) (net.Conn, error) {
	name := r.ServerName
	if r.ClusterCert { // a name that only the cluster knows
		name = r.host
	}
	outer := tls.Client(conn, &tls.Config{
		ServerName: name,
		RootCAs:    r.RootCAs,
		MinVersion: tls.VersionTLS12,
		// What is inside is verified by ClusterCAs, unless the user chose not to.
		InsecureSkipVerify:          r.Insecure || r.ClusterCAs != nil, //nolint:gosec // G402: see above
		DynamicRecordSizingDisabled: true,
	})
	if err := outer.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	upgraded, err := requestUpgrade(ctx, outer, r.ProxyAddr)
	if err != nil {
		return nil, fmt.Errorf("connection upgrade: %w", err)
	}
	return upgraded, nil
}

func requestUpgrade(ctx context.Context, conn net.Conn, addr string) (net.Conn, error) {
	url := "https://" + addr + constants.WebAPIConnUpgrade
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, 16)
	_, _ = rand.Read(nonce) // never fails
	key := base64.StdEncoding.EncodeToString(nonce)
	h := req.Header
	h.Set(constants.WebAPIConnUpgradeConnectionHeader, constants.WebAPIConnUpgradeConnectionType)
	h.Add(constants.WebAPIConnUpgradeHeader, constants.WebAPIConnUpgradeTypeWebSocket)
	h.Add(constants.WebAPIConnUpgradeHeader, constants.WebAPIConnUpgradeTypeALPN) // before v15
	h.Set(constants.WebAPIConnUpgradeTeleportHeader, constants.WebAPIConnUpgradeTypeALPN)
	h.Set("Sec-WebSocket-Protocol", constants.WebAPIConnUpgradeTypeALPN)
	h.Set("Sec-WebSocket-Version", "13")
	h.Set("Sec-WebSocket-Key", key)
	if err := req.Write(conn); err != nil {
		return nil, err
	}

	head := &io.LimitedReader{R: conn, N: maxUpgradeHead}
	br := bufio.NewReader(head)
	resp, err := http.ReadResponse(br, req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }() // a 101 has no body
	switch {
	case resp.StatusCode != http.StatusSwitchingProtocols:
		return nil, fmt.Errorf("the answer is %q", plain.Short(resp.Status, maxStatus))
	case resp.Header.Get(constants.WebAPIConnUpgradeHeader) != constants.WebAPIConnUpgradeTypeWebSocket:
		return conn, nil // the old way: nothing around the bytes
	case resp.Header.Get("Sec-WebSocket-Protocol") != constants.WebAPIConnUpgradeTypeALPN,
		resp.Header.Get("Sec-WebSocket-Accept") != acceptKey(key):
		return nil, errors.New("the answer is not to our request")
	}
	head.N = math.MaxInt64 // the bytes that follow are the client's own
	return &wsConn{Conn: conn, br: br}, nil
}

// maxUpgradeHead bounds what is read of an answer to an upgrade before it is known to
// be one: net/http reads a header of any length here.
const maxUpgradeHead = 64 << 10

// acceptKey is how a WebSocket server proves that it read the request, RFC
// 6455, 4.2.2. It protects nothing.
func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// wsConn carries bytes in the binary frames of a WebSocket client.
type wsConn struct {
	net.Conn
	br       *bufio.Reader
	left     int64                     // bytes of the current frame not read yet
	writing  sync.Mutex                // held while a frame is written, however long that takes
	ping     atomic.Pointer[[]byte]    // the payload of the newest ping that has no answer yet
	deadline atomic.Pointer[time.Time] // for binary frames; nil: none
}

// pongTimeout is how long a pong may take to be sent.
const pongTimeout = 5 * time.Second

// maxControl is the longest payload of a control frame, RFC 6455, 5.5.
const maxControl = 125

// Read returns bytes of one binary frame.
func (c *wsConn) Read(p []byte) (int, error) {
	for c.left == 0 {
		if err := c.nextFrame(); err != nil {
			return 0, err
		}
	}
	n, err := c.br.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// nextFrame reads a frame's header, and all of a control frame.
func (c *wsConn) nextFrame() error {
	h, err := ws.ReadHeader(c.br)
	if err != nil {
		return err
	}
	if h.Masked {
		return errors.New("websocket: the server masks its frames")
	}
	if !h.OpCode.IsControl() {
		c.left = h.Length
		return nil
	}
	if h.Length > maxControl {
		return fmt.Errorf("websocket: control frame of %d bytes", h.Length)
	}
	payload := make([]byte, h.Length)
	if _, err := io.ReadFull(c.br, payload); err != nil {
		return err
	}
	switch h.OpCode {
	case ws.OpClose:
		return io.EOF
	case ws.OpPing:
		c.ping.Store(&payload)
		c.answerPing()
		return nil
	default:
		return nil
	}
}

// answerPing sends the pong that is due, unless a write is under way, which does so
// when it ends: the reader must not wait for a proxy that reads nothing until it is read.
func (c *wsConn) answerPing() {
	for c.ping.Load() != nil && c.writing.TryLock() {
		if payload := c.ping.Swap(nil); payload != nil {
			_ = c.writeFrame(ws.OpPong, *payload) // a broken conn may still have something to read
		}
		c.writing.Unlock()
	}
}

// Write sends p as one binary frame.
func (c *wsConn) Write(p []byte) (int, error) {
	c.writing.Lock()
	err := c.writeFrame(ws.OpBinary, p)
	c.writing.Unlock()
	c.answerPing()
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

// SetWriteDeadline bounds the coming writes. It is kept apart from the one of
// the Conn below: after its half-close the TLS inside sets one in the past,
// and pings must still be answered.
func (c *wsConn) SetWriteDeadline(t time.Time) error {
	c.deadline.Store(&t)
	return nil
}

// SetDeadline bounds reads and the coming writes.
func (c *wsConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// writeFrame sends header and payload in one piece. Client frames must be
// masked, but Teleport's servers do not unmask: a mask of zeros suits both. The caller
// holds c.writing.
func (c *wsConn) writeFrame(op ws.OpCode, payload []byte) error {
	buf := framePool.Get().(*frame)
	defer framePool.Put(buf)
	w := appendTo{buf[:0]}
	h := ws.Header{Fin: true, OpCode: op, Masked: true, Length: int64(len(payload))}
	if err := ws.WriteHeader(&w, h); err != nil {
		return err
	}
	w.b = append(w.b, payload...)
	var deadline time.Time
	if op.IsControl() {
		deadline = time.Now().Add(pongTimeout)
	} else if set := c.deadline.Load(); set != nil {
		deadline = *set
	}
	if err := c.Conn.SetWriteDeadline(deadline); err != nil {
		return err
	}
	_, err := c.Conn.Write(w.b)
	return err
}

// frame has room for one frame of the TLS inside: a record of 16 KiB and what
// TLS and the WebSocket add. Frames are pooled since most connections are idle
// most of the time.
type frame [17 << 10]byte

var framePool = sync.Pool{New: func() any { return new(frame) }}

// appendTo is a Writer that appends, beyond the buffer it was given if need be.
type appendTo struct{ b []byte }

func (a *appendTo) Write(p []byte) (int, error) {
	a.b = append(a.b, p...)
	return len(p), nil
}
