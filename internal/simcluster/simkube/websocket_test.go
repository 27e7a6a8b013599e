package simkube

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"strings"
	"testing"

	"github.com/gobwas/ws"
)

// TestWebSocketOrder reads the frames of commands as the real server orders
// them: an empty message that says that the connection is established, the
// output, how the command ended, and a close.
func TestWebSocketOrder(t *testing.T) {
	e, err := Start(Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(e.CAPEM)
	d := ws.Dialer{
		Protocols: []string{"v5.channel.k8s.io"},
		Header:    ws.HandshakeHeaderHTTP(http.Header{"Authorization": {"Bearer " + e.Token}}),
		TLSConfig: &tls.Config{RootCAs: roots},
	}
	for query, want := range map[string][]string{
		"stdout=true&stderr=true": {"\x01", "\x01hello\n", "\x03{", "close"},
		"stderr=true":             {"\x02", "\x03{", "close"},
		"stdin=true":              {"\x03", "\x03{", "close"},
	} {
		url := "wss" + strings.TrimPrefix(e.URL, "https") + "/api/v1/namespaces/default/pods/" + PodWeb +
			"/exec?command=echo&command=hello&" + query
		conn, buffered, _, err := d.Dial(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		if buffered == nil { // nothing came together with the answer to the handshake
			buffered = bufio.NewReader(conn)
		}
		for i, want := range want {
			f, err := ws.ReadFrame(buffered)
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case want == "close" && f.Header.OpCode != ws.OpClose,
				want == "\x03{" && !bytes.HasPrefix(f.Payload, []byte(want)),
				len(want) == 1 && string(f.Payload) != want,
				strings.HasSuffix(want, "\n") && string(f.Payload) != want:
				t.Errorf("%s: frame %d is %+v %q, want %q", query, i, f.Header, f.Payload, want)
			}
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
}
