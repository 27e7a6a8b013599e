package db

import (
	"errors"
	"io"
	"net"
	"strings"
)

// Probes reports whether Probe can log in as a user, who may be none.
func (p Protocol) Probes(user string) bool { return p.login != nil && (p.names == nil || user != "") }

// Probe logs in on a new connection as a client would, and out again. The error
// is a *RefusedError with the other side's own words if it says no. The caller
// has set a deadline and closes conn.
func (p Protocol) Probe(conn net.Conn, user, database string) error {
	h := p.Listen()
	login := p.login(user, database)
	// At once where the server speaks first, too: what berth's agent makes of its
	// hanging up depends on who it hung up on.
	h.Client([]byte(login))
	if _, err := io.WriteString(conn, login); err != nil {
		return err
	}
	for buf := make([]byte, 4096); ; {
		n, err := conn.Read(buf)
		if n > 0 {
			if _, answered, refused := h.Server(buf[:n]); answered {
				if refused == nil && p.logout != "" {
					_, _ = io.WriteString(conn, p.logout) // it hangs up anyway
				}
				return refused
			}
		}
		if err != nil {
			if answered, refused := h.Ended(); answered || refused != nil {
				return refused
			}
			if errors.Is(err, io.EOF) {
				return errors.New("the connection is closed without an answer")
			}
			return err
		}
	}
}

// httpProbe asks for what every server has.
func httpProbe(string, string) string {
	return "GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: " + probeMark + "\r\nAccept: */*\r\nConnection: close\r\n\r\n"
}

func redisProbe(string, string) string {
	return "*2\r\n$4\r\nPING\r\n$12\r\n" + probeMark + "\r\n"
}

// bounded is s without what would end it early in a message.
func bounded(s string) string { return strings.ReplaceAll(s, "\x00", "") }
