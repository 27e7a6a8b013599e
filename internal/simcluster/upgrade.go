package simcluster

import (
	"bufio"
	"crypto/sha1" // the WebSocket handshake is defined with it
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gobwas/ws"
	"github.com/gravitational/teleport/api/constants"
	"github.com/gravitational/teleport/api/utils/pingconn"
)

// webSocketGUID is what RFC 6455 appends to the client's key.
const webSocketGUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

// handleUpgrade turns an HTTP request into a byte stream for a second TLS
// handshake, so that ALPN reaches the proxy through balancers that end TLS.
func (c *Cluster) handleUpgrade(w http.ResponseWriter, r *http.Request) {
	webSocket, legacy := upgradeKinds(r.Header)
	if webSocket != "" && !c.cfg.LegacyUpgradeOnly {
		c.upgrade(w, r, webSocket, true)
		return
	}
	if legacy != "" && !c.cfg.WebSocketOnly {
		c.upgrade(w, r, legacy, false)
		return
	}
	writeError(w, http.StatusNotFound, "unsupported connection upgrade")
}

// upgradeKinds returns the connection type asked for as a websocket
// subprotocol and in the legacy way; empty means not that way.
func upgradeKinds(h http.Header) (webSocket, legacy string) {
	known := []string{constants.WebAPIConnUpgradeTypeALPN, constants.WebAPIConnUpgradeTypeALPNPing}
	offered := append(h.Values(constants.WebAPIConnUpgradeHeader), h.Values(constants.WebAPIConnUpgradeTeleportHeader)...)
	for _, kind := range offered {
		switch {
		case strings.EqualFold(kind, constants.WebAPIConnUpgradeTypeWebSocket):
			if sub := h.Get("Sec-WebSocket-Protocol"); slices.Contains(known, sub) {
				webSocket = sub
			}
		case slices.Contains(known, kind):
			legacy = kind
		}
	}
	return webSocket, legacy
}

func (c *Cluster) upgrade(w http.ResponseWriter, r *http.Request, kind string, webSocket bool) {
	raw := rawConn(r)
	hijacker, ok := w.(http.Hijacker)
	if !ok || raw == nil {
		writeError(w, http.StatusBadRequest, "connection upgrade needs HTTP/1.1")
		return
	}
	nc, rw, err := hijacker.Hijack()
	if err != nil {
		c.cfg.Log.Debug("hijack", "err", err)
		return
	}
	if err := writeSwitch(nc, r, kind, webSocket); err != nil {
		_ = nc.Close()
		return
	}
	c.counters.upgrades.Add(1)
	var stream net.Conn = &bufferedConn{Conn: nc, r: rw.Reader}
	ping := kind == constants.WebAPIConnUpgradeTypeALPNPing
	switch {
	case webSocket:
		wsc := &webSocketConn{Conn: stream}
		stream = wsc
		if ping {
			c.keepPinging(raw, func() error { return wsc.writeFrame(ws.NewPingFrame(nil)) })
		}
	case ping:
		pc := pingconn.New(stream)
		stream = pc
		c.keepPinging(raw, pc.WritePing)
	}
	if !c.spawn(func() { c.route(raw, stream, true) }) {
		_ = nc.Close()
	}
}

// keepPinging pings until the connection is closed.
func (c *Cluster) keepPinging(raw *conn, ping func() error) {
	if c.cfg.PingInterval <= 0 {
		return
	}
	c.spawn(func() {
		t := time.NewTicker(c.cfg.PingInterval)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				if ping() != nil {
					return
				}
				c.counters.pings.Add(1)
			case <-raw.done:
				return
			case <-c.ctx.Done():
				return
			}
		}
	})
}

// writeSwitch answers 101.
func writeSwitch(w io.Writer, r *http.Request, kind string, webSocket bool) error {
	h := http.Header{}
	h.Set(constants.WebAPIConnUpgradeConnectionHeader, constants.WebAPIConnUpgradeConnectionType)
	if webSocket {
		h.Set(constants.WebAPIConnUpgradeHeader, constants.WebAPIConnUpgradeTypeWebSocket)
		h.Set("Sec-WebSocket-Protocol", kind)
		h.Set("Sec-WebSocket-Accept", acceptKey(r.Header.Get("Sec-WebSocket-Key")))
	} else {
		h.Set(constants.WebAPIConnUpgradeHeader, kind)
		h.Set(constants.WebAPIConnUpgradeTeleportHeader, kind)
	}
	if _, err := io.WriteString(w, "HTTP/1.1 101 Switching Protocols\r\n"); err != nil {
		return err
	}
	if err := h.Write(w); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\r\n")
	return err
}

func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + webSocketGUID)) // see the import
	return base64.StdEncoding.EncodeToString(sum[:])
}

// bufferedConn reads first what the HTTP server had read ahead.
type bufferedConn struct {
	net.Conn
	r *bufio.Reader
}

// Read reads through the buffer.
func (b *bufferedConn) Read(p []byte) (int, error) { return b.r.Read(p) }

// webSocketConn is a byte stream in binary frames, the server's side of it.
type webSocketConn struct {
	net.Conn
	wmu  sync.Mutex
	rest []byte // what is left of the frame read last
}

// Read returns the payload of binary frames, and answers pings on the way.
func (w *webSocketConn) Read(p []byte) (int, error) {
	for len(w.rest) == 0 {
		frame, err := ws.ReadFrame(w.Conn)
		if err != nil {
			return 0, err
		}
		if frame.Header.Masked {
			ws.Cipher(frame.Payload, frame.Header.Mask, 0)
		}
		switch frame.Header.OpCode {
		case ws.OpBinary, ws.OpContinuation:
			w.rest = frame.Payload
		case ws.OpClose:
			return 0, io.EOF
		case ws.OpPing:
			if err := w.writeFrame(ws.NewPongFrame(frame.Payload)); err != nil {
				return 0, err
			}
		default: // neither text nor pongs matter here
		}
	}
	n := copy(p, w.rest)
	w.rest = w.rest[n:]
	return n, nil
}

// Write sends p as one binary frame.
func (w *webSocketConn) Write(p []byte) (int, error) {
	if err := w.writeFrame(ws.NewBinaryFrame(p)); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (w *webSocketConn) writeFrame(f ws.Frame) error {
	w.wmu.Lock()
	defer w.wmu.Unlock()
	return ws.WriteFrame(w.Conn, f)
}
