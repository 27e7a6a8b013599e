package simkube

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// protocolHeader names the protocols a client offers over SPDY, and the one
// that is chosen.
const protocolHeader = "X-Stream-Protocol-Version"

// upgradeSPDY takes a connection over that is to speak SPDY. It answers with
// the first of the protocols that the client offers.
func upgradeSPDY(w http.ResponseWriter, r *http.Request, protocols ...string) (net.Conn, error) {
	offered := r.Header.Values(protocolHeader)
	i := slices.IndexFunc(protocols, func(p string) bool {
		return slices.ContainsFunc(offered, func(o string) bool { return slices.Contains(split(strings.ReplaceAll(o, ",", " ")), p) })
	})
	if i < 0 {
		for _, p := range protocols {
			w.Header().Add("X-Accepted-Stream-Protocol-Versions", p)
		}
		return nil, &apiError{
			code: http.StatusForbidden, reason: "Forbidden",
			message: fmt.Sprintf("unable to negotiate protocol: client supports %v, server accepts %v", offered, protocols),
		}
	}
	if !strings.Contains(strings.ToLower(r.Header.Get("Connection")), "upgrade") {
		return nil, badRequest("unable to upgrade: missing upgrade headers in request")
	}
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, badRequest("unable to upgrade: " + err.Error())
	}
	_, err = fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n%s: %s\r\n\r\n",
		protocolHeader, protocols[i])
	if err != nil {
		_ = conn.Close()
		return nil, nil // the client is gone
	}
	return &bufferedConn{Conn: conn, r: buffered.Reader}, nil
}

// bufferedConn is a hijacked connection of which something may have been read.
type bufferedConn struct {
	net.Conn
	r    *bufio.Reader
	once sync.Once
}

// Close closes the connection. Closing it again is no mistake: spdystream
// holds on to a connection for a second that it could not close.
func (c *bufferedConn) Close() error {
	var err error
	c.once.Do(func() { err = c.Conn.Close() })
	return err
}

func (c *bufferedConn) Read(p []byte) (int, error) { return c.r.Read(p) }

// CloseWrite passes a half-close on, where the connection knows such a thing.
func (c *bufferedConn) CloseWrite() error {
	if cw, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite()
	}
	return c.Close()
}

// writerOr returns w, or a writer for what a client did not ask for.
func writerOr(w io.Writer, wanted bool) io.Writer {
	if !wanted {
		return io.Discard
	}
	return w
}
