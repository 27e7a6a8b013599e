package kube

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"

	"berth/internal/testwait"
)

// TestClientsThatDoNotRead: a tunnel ends although its clients take nothing of what
// they are sent: a pager stands still, kubectl was suspended, or it does not hang up.
func TestClientsThatDoNotRead(t *testing.T) {
	t.Parallel()
	c := newCluster(t, func(w http.ResponseWriter, r *http.Request) {
		var to io.Writer = w
		if r.Header.Get("Upgrade") != "" {
			conn, rw := switches(t, w)
			defer conn.Close()
			if r.URL.Query().Get("watch") == "true" {
				_, _ = io.Copy(io.Discard, rw)
				return
			}
			to = conn
		}
		for text, err := make([]byte, 32<<10), error(nil); err == nil; {
			_, err = to.Write(text)
		}
	})
	const logs = "/api/v1/namespaces/default/pods/web-0/log?follow=true"
	// asks leaves the answer to a request unread. still has the client read nothing at all.
	asks := func(version string, still bool) func(t *testing.T, addr string) {
		return func(t *testing.T, addr string) {
			var stands atomic.Bool
			cfg := tlsFor(t, "prod")
			cfg.NextProtos = []string{version}
			tr := &http.Transport{ForceAttemptHTTP2: version == "h2", DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				var d net.Dialer
				conn, err := d.DialContext(ctx, "tcp", addr)
				if err != nil {
					return nil, err
				}
				if still {
					_ = conn.(*net.TCPConn).SetReadBuffer(64 << 10) // else the system takes all of it
				}
				over := tls.Client(&stalling{Conn: conn, stands: &stands, closed: make(chan struct{})}, cfg)
				return over, over.HandshakeContext(ctx)
			}}
			t.Cleanup(tr.CloseIdleConnections)
			for range 4 { // what all of them may be sent is more than the system has room for
				resp, err := (&http.Client{Transport: tr}).Get("https://" + addr + logs)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { resp.Body.Close() })
			}
			stands.Store(still)
		}
	}
	for name, open := range map[string]func(t *testing.T, addr string){
		"h2_stream":     asks("h2", false),
		"h2_connection": asks("h2", true),
		"http1":         asks("http/1.1", true),
		"exec":          func(t *testing.T, addr string) { upgrade(t, addr, "/exec") },
		"exec_watch":    func(t *testing.T, addr string) { upgrade(t, addr, "/exec?watch=true") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := run(t, Config{Listener: shared(t), Source: always(c.upstream())}) // one of its own would end with the tunnel
			open(t, r.addr())
			testwait.Eventually(t, "nothing moves", func() bool {
				before := r.Status()
				testwait.Moment()
				return before.Connections > 0 && before.BytesIn == r.Status().BytesIn
			})
			stopped := make(chan struct{})
			go func() { defer close(stopped); r.stop() }()
			testwait.Eventually(t, "the tunnel has ended", func() bool {
				select {
				case <-stopped:
					return true
				default:
					return false
				}
			})
		})
	}
}

// stalling is a connection of which nothing is read any longer once it stands still.
type stalling struct {
	net.Conn
	stands *atomic.Bool
	closed chan struct{}
}

func (s *stalling) Read(p []byte) (int, error) {
	if s.stands.Load() {
		<-s.closed
		return 0, net.ErrClosed
	}
	return s.Conn.Read(p[:min(len(p), 4<<10)])
}

func (s *stalling) Close() error {
	close(s.closed)
	return s.Conn.Close()
}
