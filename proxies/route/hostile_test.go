package route

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"berth/internal/testwait"
)

// endless writes the same until the client has gone, and counts the bytes.
func endless(w http.ResponseWriter, text string, sent *atomic.Int64) {
	chunk := []byte(strings.Repeat(text, 1+4096/len(text)))
	for {
		n, err := w.Write(chunk)
		sent.Add(int64(n))
		if err != nil {
			return
		}
	}
}

// TestPingOfAHostileProxy: answers of any size, at any pace, that lead anywhere or are
// of other types cost little memory and end in time with an error of one line.
func TestPingOfAHostileProxy(t *testing.T) {
	t.Parallel()
	const good = `{"server_version":"17.0.0","min_client_version":"16.0.0","auth":{"type":"saml"}}`
	var sent atomic.Int64
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"endless_text": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"server_version":"`)
			endless(w, "x", &sent)
		}, "is not Teleport's"},
		"endless_list": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"auth":[`)
			endless(w, "[],", &sent)
		}, "is not Teleport's"},
		"endless_refusal": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusTeapot)
			endless(w, "x", &sent)
		}, "the answer is \"418"},
		"long_header": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X", strings.Repeat("x", 4<<20))
		}, "headers exceeded"},
		"slow_drip": {func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "{")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}, "does not come to its end"},
		"loop":       {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) }, "leads elsewhere"},
		"plain_http": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "http://"+r.Host, http.StatusFound) }, "leads elsewhere"},
		"a_file": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
		}, "leads elsewhere"},
		"a_number":   {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "7") }, "is not Teleport's"},
		"a_page":     {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }, "is not Teleport's"},
		"wrong_type": {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"server_version":{}}`) }, "is not Teleport's"},
		"deep":       {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, strings.Repeat("[", 1<<19)) }, "is not Teleport's"},
		"good":       {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, good) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewTLSServer(c.answer)
			defer s.Close()
			roots := x509.NewCertPool()
			roots.AddCert(s.Certificate())
			patience := testwait.Patience
			if name == "slow_drip" { // which it takes all of: the answer must have begun by then
				patience = 8 * time.Second
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			sent.Store(0)
			began := time.Now()
			pong, err := Ping(ctx, s.Listener.Addr().String(), "", roots, false)
			s.CloseClientConnections()
			if n := sent.Load(); n > 16<<20 {
				t.Errorf("%d MB were taken", n>>20)
			}
			testwait.Soon(t, "the answer", time.Since(began), 10*time.Second)
			switch {
			case c.want == "":
				if err != nil || pong.Version != "17.0.0" || pong.Auth != "saml" || pong.Date.IsZero() {
					t.Errorf("%+v, %v", pong, err)
				}
			case err == nil || !strings.Contains(err.Error(), c.want) || len(err.Error()) > 500 || strings.Contains(err.Error(), "\n"):
				t.Errorf("%.300v, want %q", err, c.want)
			}
		})
	}
}

// torrent is a connection whose other end answers the same for ever.
type torrent struct {
	net.Conn
	head string
	text string
	read int64
}

func (c *torrent) Write(p []byte) (int, error) { return len(p), nil }
func (c *torrent) Close() error                { return nil }

func (c *torrent) Read(p []byte) (int, error) {
	if n := copy(p, c.head); n > 0 {
		c.head = c.head[n:]
		return n, nil
	}
	n := copy(p, bytes.Repeat([]byte(c.text), 1+len(p)/len(c.text)))
	if c.read += int64(n); c.read > 64<<20 {
		return 0, errors.New("berth reads without end")
	}
	return n, nil
}

// TestUpgradeOfAHostileProxy: an answer to an upgrade that does not end is given up
// after little of it.
func TestUpgradeOfAHostileProxy(t *testing.T) {
	for name, c := range map[string]*torrent{
		"status":  {text: "HTTP/1.1 "},
		"headers": {head: "HTTP/1.1 101 Switching Protocols\r\n", text: "X-Y: z\r\n"},
		"header":  {head: "HTTP/1.1 101 Switching Protocols\r\nX: ", text: "z"},
		"refusal": {head: "HTTP/1.1 403 Forbidden\r\nContent-Length: 9999999999\r\n\r\n", text: "z"},
		"chunks":  {head: "HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n", text: "1\r\nz\r\n"},
		"rubbish": {text: "\x00"},
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := requestUpgrade(t.Context(), c, "proxy.example.com:443")
			runtime.ReadMemStats(&after)
			if err == nil || c.read > 2*maxUpgradeHead || len(err.Error()) > 500 {
				t.Errorf("after %d bytes: %.300v", c.read, err)
			}
			if grown := after.TotalAlloc - before.TotalAlloc; grown > 8<<20 {
				t.Errorf("%d MB were used", grown>>20)
			}
		})
	}
}

// TestUpgradeReadsOn: the bound is of the answer alone.
func TestUpgradeReadsOn(t *testing.T) {
	here, there := net.Pipe()
	defer here.Close()
	done := make(chan error, 1)
	go func() {
		defer there.Close()
		req := make([]byte, 4096)
		n, err := there.Read(req)
		if err != nil {
			done <- err
			return
		}
		_, key, _ := strings.Cut(string(req[:n]), "Sec-Websocket-Key: ")
		key, _, _ = strings.Cut(key, "\r\n")
		_, err = fmt.Fprintf(there, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
			"Sec-WebSocket-Protocol: alpn\r\nSec-WebSocket-Accept: %s\r\n\r\n", acceptKey(key))
		for sent := 0; err == nil && sent < 4*maxUpgradeHead; sent += 1000 {
			_, err = there.Write(append([]byte{0x82, 126, 1000 >> 8, 1000 & 0xff}, make([]byte, 1000)...))
		}
		done <- err
	}()
	c, err := requestUpgrade(t.Context(), here, "proxy.example.com:443")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 3*maxUpgradeHead)); err != nil {
		t.Error(err)
	}
	_ = here.Close()
	<-done
}
