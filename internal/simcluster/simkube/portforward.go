package simkube

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"

	"github.com/moby/spdystream"
)

// The protocols of port-forward: over SPDY, and that within a WebSocket.
const (
	forwardProtocol = "portforward.k8s.io"
	tunnelProtocol  = "SPDY/3.1+" + forwardProtocol
)

// servePortForward answers "kubectl port-forward".
func (s *Server) servePortForward(w http.ResponseWriter, r *http.Request, rec *record) error {
	ctx, done := s.streaming(r)
	defer done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var conn net.Conn
	var err error
	switch strings.ToLower(r.Header.Get("Upgrade")) {
	case "websocket":
		var ws *webSocket
		if ws, err = upgradeWebSocket(w, r, tunnelProtocol); ws != nil {
			conn = &webSocketConn{webSocket: ws, Conn: ws.conn}
		}
	case "spdy/3.1":
		conn, err = upgradeSPDY(w, r, forwardProtocol)
	default:
		return badRequest("Upgrade request required")
	}
	if err != nil || conn == nil {
		return err
	}
	_, streams, err := serveStreams(conn, cancel)
	if err != nil {
		return nil // it is no HTTP connection any more
	}
	s.streams.Add(1)
	defer s.streams.Add(-1)
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	forwardAll(ctx, key{rec.namespace, rec.name}, streams)
	return nil
}

// forwardAll serves the connections a client forwards: two streams each, one
// for data and one for errors, which their headers tell apart.
func forwardAll(ctx context.Context, k key, streams <-chan *spdystream.Stream) {
	var wg sync.WaitGroup
	defer wg.Wait()
	type pair struct{ data, fail *spdystream.Stream }
	open := make(map[string]*pair)
	for {
		var st *spdystream.Stream
		select {
		case st = <-streams:
		case <-ctx.Done():
			return
		}
		id := st.Headers().Get("requestID")
		p := open[id]
		if p == nil {
			p = new(pair)
			open[id] = p
		}
		switch st.Headers().Get(streamType) {
		case "data":
			p.data = st
		case "error":
			p.fail = st
		}
		if p.data == nil || p.fail == nil {
			continue
		}
		delete(open, id)
		port := p.data.Headers().Get("port")
		wg.Go(func() {
			stop := context.AfterFunc(ctx, func() { _ = p.data.Reset() })
			defer stop()
			if err := serveContainerPort(k, port, p.data); err != nil {
				_, _ = io.WriteString(p.fail, err.Error()) // or the client left
			}
			_ = p.fail.Close() // nothing more follows
			_ = p.data.Close()
		})
	}
}

// serveContainerPort plays a pod's listeners: HTTP on 80 and 8080, an echo on 7,
// and nothing elsewhere.
func serveContainerPort(k key, port string, conn io.ReadWriter) error {
	switch port {
	case "7":
		_, _ = io.Copy(conn, conn) // ends with the connection
		return nil
	case "80", "8080":
		serveContainerHTTP(k, port, conn)
		return nil
	default:
		return refusal(k, port)
	}
}

func serveContainerHTTP(k key, port string, conn io.ReadWriter) {
	in := bufio.NewReader(conn)
	for {
		req, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			return
		}
		text := fmt.Sprintf("%s/%s port %s: %s %s\n", k.namespace, k.name, port, req.Method, req.URL)
		_, err = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
		if err != nil || req.Close {
			return
		}
	}
}
