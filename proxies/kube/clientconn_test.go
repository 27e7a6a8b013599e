package kube

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"berth/internal/testwait"
	"berth/proxies"
)

// named stands in for the names of package db.
func named(said []byte) error { return fmt.Errorf("%.3s", said) }

// TestStrangersLeaveAnEvent: a client that speaks no TLS is named to every tunnel of
// the port, and one that says nothing, or TLS, to none.
func TestStrangersLeaveAnEvent(t *testing.T) {
	for name, tt := range map[string]struct{ said, want string }{
		"http2":  {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "PRI"},
		"http":   {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "GET"},
		"nuls":   {strings.Repeat("\x00", 9), "\x00\x00\x00"},
		"short":  {"G", "G"},
		"half":   {"\x16", "\x16"},
		"silent": {"", ""},
		"tls":    {"\x16\x03\x01\x00\x05hello", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := startListener(t, ListenerConfig{CA: testCA})
			tunnels := []*running{run(t, Config{Listener: l, Source: always(nil), Stranger: named}), run(t, Config{Name: "b", Listener: l, Source: always(nil), Stranger: named})}
			client, err := net.Dial("tcp", l.Status().Addresses[0])
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.WriteString(client, tt.said)
			_ = client.(*net.TCPConn).CloseWrite()
			_, _ = io.Copy(io.Discard, client) // until the listener hangs up
			_ = client.Close()
			testwait.Eventually(t, "the connection ends", func() bool { return l.open.Load() == 0 })
			for _, r := range tunnels {
				r.events.mu.Lock()
				all := r.events.all
				r.events.mu.Unlock()
				switch {
				case tt.want == "" && len(all) > 0:
					t.Errorf("reported: %+v", all)
				case tt.want == "":
				case len(all) != 1 || all[0].Kind != proxies.EventClosed || all[0].Err.Error() != tt.want:
					t.Errorf("reported: %+v, want %q", all, tt.want)
				}
			}
		})
	}
}
