//go:build e2e && linux

package e2e

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"time"
)

// refusalProbes are about what a database service says to a client that it does
// not serve, after it or the proxy has greeted it.
var refusalProbes = []probe{
	{name: "postgres_away", want: "Mconnection refused", ask: func(ctx context.Context, w *world) string {
		return w.says(ctx, "pg-away", "postgres", "app", string(startup("app", "appdb")))
	}},
	{name: "postgres_stranger", want: "EOF", ask: func(ctx context.Context, w *world) string {
		return w.says(ctx, "pg", "postgres", "app", "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
	}},
	{name: "postgres_cancel_with_a_long_key", want: "EOF", ask: func(ctx context.Context, w *world) string {
		return w.says(ctx, "pg", "postgres", "app", "\x00\x00\x00\x2c\x04\xd2\x16\x2e\x00\x00\x10\x92"+strings.Repeat("k", 32))
	}},
	{name: "mysql_denied", want: "#HY000access to db denied", ask: func(ctx context.Context, w *world) string {
		return w.says(ctx, "my-away", "mysql", "app", mysqlLogin("root", ""))
	}},
	{name: "mysql_away", want: "#HY000connection refused", ask: func(ctx context.Context, w *world) string {
		return w.says(ctx, "my-away", "mysql", "app", mysqlLogin("app", ""))
	}},
	{name: "mysql_password", want: "#HY000access denied without password", ask: func(ctx context.Context, w *world) string {
		return w.says(ctx, "my-away", "mysql", "app", mysqlLogin("app", strings.Repeat("x", 20)))
	}},
	{name: "redis_denied", want: "-ERR Teleport: access to db denied", ask: func(ctx context.Context, w *world) string {
		return w.says(ctx, "re-away", "redis", "default", "")
	}},
	{name: "redis_away", want: "-ERR Teleport: failed to connect to the target database", ask: func(ctx context.Context, w *world) string {
		return w.says(ctx, "re-away", "redis", "app", "*1\r\n$4\r\nPING\r\n")
	}},
	{name: "redis_password", want: "-ERR Teleport: failed to authenticate as the default user", ask: func(ctx context.Context, w *world) string {
		return w.says(ctx, "re-away", "redis", "app", "*2\r\n$4\r\nAUTH\r\n$1\r\nx\r\n")
	}},
	{name: "redis_hello", want: "-ERR unknown command 'HELLO'", ask: func(ctx context.Context, w *world) string {
		return w.says(ctx, "re-away", "redis", "app", "*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n")
	}},
}

// says tells what a database service says to a client that says words, and how
// that ends.
func (w *world) says(ctx context.Context, service, protocol, user, words string) string {
	req := w.request(service)
	req.RouteToDatabase.Protocol, req.RouteToDatabase.Username = protocol, user
	cert, err := w.mint(ctx, w.clt, req)
	if err != nil {
		return err.Error()
	}
	conn, err := w.dial(ctx, cert, nil, "teleport-"+protocol)
	if err != nil {
		return "handshake: " + endOf(err)
	}
	defer conn.Close()
	var heard strings.Builder
	read := func(patience time.Duration) error {
		for buf := make([]byte, 4096); ; patience = 700 * time.Millisecond {
			if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
				return err
			}
			n, err := conn.Read(buf)
			heard.Write(buf[:n])
			if err != nil {
				return err
			}
		}
	}
	if protocol == "mysql" { // no two greetings are the same
		if err := read(3 * time.Second); endOf(err) != "silence" {
			return fmt.Sprintf("no greeting: %q, %s", heard.String(), endOf(err))
		}
		heard.Reset()
	}
	if _, err := conn.Write([]byte(words)); err != nil {
		return endOf(err)
	}
	err = read(3 * time.Second)
	return fmt.Sprintf("%q, %s", heard.String(), endOf(err))
}

// mysqlLogin is a client's answer to MySQL's greeting; auth is made of a password.
func mysqlLogin(user, auth string) string {
	const capabilities = 1<<0 | 1<<2 | 1<<9 | 1<<13 | 1<<15 | 1<<19
	b := binary.LittleEndian.AppendUint32(nil, capabilities)
	b = binary.LittleEndian.AppendUint32(b, 1<<24)
	b = append(append(b, 45), make([]byte, 23)...)
	b = append(append(b, user...), 0)
	b = append(append(b, byte(len(auth))), auth...)
	b = append(append(b, "mysql_native_password"...), 0)
	return string(append([]byte{byte(len(b)), 0, 0, 1}, b...))
}
