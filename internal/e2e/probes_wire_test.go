//go:build e2e && linux

package e2e

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// wireProbes are about connections to databases through the proxy.
var wireProbes = []probe{
	{name: "ping_protocol_is_preferred", want: alpnPostgres + "-ping", ask: func(ctx context.Context, w *world) string {
		return w.negotiated(ctx, w.db, alpnPostgres+"-ping", alpnPostgres)
	}},
	{name: "plain_protocol", want: "agreed on " + alpnPostgres, ask: func(ctx context.Context, w *world) string {
		return w.negotiated(ctx, w.db, alpnPostgres)
	}},
	{name: "unknown_protocol", want: "EOF", ask: func(ctx context.Context, w *world) string {
		return w.negotiated(ctx, w.db, "teleport-unheard-of")
	}},
	{name: "no_protocol", ask: func(ctx context.Context, w *world) string { return w.negotiated(ctx, w.db) }},
	{name: "ssl_request_is_answered_no", want: `"N"`, ask: func(ctx context.Context, w *world) string {
		return w.talk(ctx, w.db, nil, sslRequest(), 1)
	}},
	{name: "startup_is_answered", want: `"R"`, ask: func(ctx context.Context, w *world) string {
		return w.talk(ctx, w.db, nil, startup("app", "appdb"), 1)
	}},
	{name: "unknown_database_hangs_up", want: "EOF", ask: func(ctx context.Context, w *world) string {
		cert, err := w.mint(ctx, w.clt, w.request("nowhere"))
		if err != nil {
			return err.Error()
		}
		return w.talk(ctx, cert, nil, startup("app", "appdb"), 1)
	}},
	{name: "no_client_cert", ask: func(ctx context.Context, w *world) string { return w.refusal(ctx, nil, "app", "appdb") }},
	{name: "session_cert_instead_of_a_database_cert", ask: func(ctx context.Context, w *world) string {
		cert, err := w.session(w.home)
		if err != nil {
			return err.Error()
		}
		return w.refusal(ctx, &cert, "app", "appdb")
	}},
	{name: "database_user_not_allowed", want: "access to db denied", ask: func(ctx context.Context, w *world) string {
		return w.refusal(ctx, w.db, "postgres", "appdb")
	}},
	{name: "database_name_not_allowed", want: "access to db denied", ask: func(ctx context.Context, w *world) string {
		return w.refusal(ctx, w.db, "app", "otherdb")
	}},
	{name: "cert_without_user_and_database", want: `"R"`, ask: func(ctx context.Context, w *world) string {
		req := w.request("pg")
		req.RouteToDatabase.Username, req.RouteToDatabase.Database = "", ""
		cert, err := w.mint(ctx, w.clt, req)
		if err != nil {
			return err.Error()
		}
		return w.talk(ctx, cert, nil, startup("app", "appdb"), 1)
	}},
	{name: "resumed_session_keeps_the_old_identity", want: `second resumed=true, "R"`, ask: func(ctx context.Context, w *world) string {
		cache := tls.NewLRUClientSessionCache(4)
		first := w.talk(ctx, w.db, cache, startup("app", "appdb"), 1)
		other, err := w.mint(ctx, w.clt, w.request("nowhere"))
		if err != nil {
			return err.Error()
		}
		return "first " + first + "\nsecond " + w.talk(ctx, other, cache, startup("app", "appdb"), 1)
	}},
	{name: "web_cert_is_shown_to_databases", want: "localhost", ask: func(ctx context.Context, w *world) string {
		conn, err := w.dial(ctx, w.db, nil, alpnPostgres)
		if err != nil {
			return err.Error()
		}
		defer conn.Close()
		leaf := conn.ConnectionState().PeerCertificates[0]
		return fmt.Sprintf("localhost %s, 127.0.0.1 %s", endOf(leaf.VerifyHostname("localhost")), endOf(leaf.VerifyHostname("127.0.0.1")))
	}},
	{name: "connection_upgrade", want: "101", ask: func(ctx context.Context, w *world) string {
		var lines []string
		for _, kind := range []string{"alpn", "alpn-ping", "websocket", "nonsense"} {
			lines = append(lines, kind+": "+w.upgrade(ctx, kind))
		}
		return strings.Join(lines, "\n")
	}},
}

func sslRequest() []byte { return binary.BigEndian.AppendUint32([]byte{0, 0, 0, 8}, 80877103) }

func startup(user, database string) []byte {
	body := binary.BigEndian.AppendUint32(nil, 196608)
	for _, s := range []string{"user", user, "database", database} {
		body = append(append(body, s...), 0)
	}
	body = append(body, 0)
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body)+4)), body...)
}

// negotiated tells which protocol is agreed on.
func (w *world) negotiated(ctx context.Context, cert *tls.Certificate, alpn ...string) string {
	conn, err := w.dial(ctx, cert, nil, alpn...)
	if err != nil {
		return endOf(err)
	}
	defer conn.Close()
	return "agreed on " + conn.ConnectionState().NegotiatedProtocol
}

// talk sends one packet to a database and tells how the answer begins.
func (w *world) talk(ctx context.Context, cert *tls.Certificate, cache tls.ClientSessionCache, packet []byte, n int) string {
	conn, err := w.dial(ctx, cert, cache, alpnPostgres)
	if err != nil {
		return "handshake: " + endOf(err)
	}
	defer conn.Close()
	resumed := fmt.Sprintf("resumed=%t, ", conn.ConnectionState().DidResume)
	answer := make([]byte, n)
	_, err = conn.Write(packet)
	if err == nil {
		_, err = io.ReadFull(conn, answer)
	}
	if err != nil {
		return resumed + endOf(err)
	}
	return resumed + fmt.Sprintf("%q", answer)
}

// refusal tells the fields of the PostgreSQL error a connection is met with.
func (w *world) refusal(ctx context.Context, cert *tls.Certificate, user, database string) string {
	conn, err := w.dial(ctx, cert, nil, alpnPostgres)
	if err != nil {
		return "handshake: " + endOf(err)
	}
	defer conn.Close()
	if _, err := conn.Write(startup(user, database)); err != nil {
		return endOf(err)
	}
	head := make([]byte, 5)
	if _, err := io.ReadFull(conn, head); err != nil {
		return endOf(err)
	}
	if head[0] != 'E' {
		return fmt.Sprintf("it is let in: %q", head[0])
	}
	body := make([]byte, binary.BigEndian.Uint32(head[1:])-4)
	if _, err := io.ReadFull(conn, body); err != nil {
		return endOf(err)
	}
	var fields []string
	for f := range strings.SplitSeq(string(body), "\x00") {
		if f != "" {
			fields = append(fields, f[:1]+": "+f[1:])
		}
	}
	_, err = conn.Read(head)
	return w.anonymous(strings.Join(fields, "\n") + "\nthen " + endOf(err))
}

// upgrade asks the web API for a connection upgrade.
func (w *world) upgrade(ctx context.Context, kind string) string {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+w.proxyAddr+"/webapi/connectionupgrade", nil)
	if err != nil {
		return err.Error()
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", kind)
	if kind == "websocket" {
		req.Header.Set("Sec-WebSocket-Version", "13")
		req.Header.Set("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
		req.Header.Set("Sec-WebSocket-Protocol", "alpn")
	}
	conn, err := w.dial(ctx, nil, nil, "http/1.1")
	if err != nil {
		return err.Error()
	}
	defer conn.Close()
	if err := req.Write(conn); err != nil {
		return err.Error()
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), req)
	if err != nil {
		return endOf(err)
	}
	defer resp.Body.Close()
	return fmt.Sprintf("%d, Upgrade %q, protocol %q", resp.StatusCode, resp.Header.Get("Upgrade"), resp.Header.Get("Sec-WebSocket-Protocol"))
}
