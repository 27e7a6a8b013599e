// Package simdb holds simulated database servers. They speak the real wire
// protocols, far enough for real clients to log in and run small queries, and
// every one can be asked which client cert a connection was made with.
package simdb

import (
	"context"
	"io"
	"net"
	"strings"
	"time"
)

// Backend is a database server behind a Teleport database service.
type Backend interface {
	// Serve speaks with one client until the client leaves, the connection
	// breaks or ctx ends; the caller closes the connection. A client that
	// s.Authorize refuses gets an error in its own protocol.
	Serve(ctx context.Context, conn net.Conn, s Session) error
}

// Versioned is a Backend whose version a database service finds out when it
// begins to serve it.
type Versioned interface {
	Version(ctx context.Context) (string, error)
}

// Session is what the database service knows about a connection: what the
// client cert said.
type Session struct {
	User           string // Teleport user
	Cluster        string // the cluster the cert is routed to
	Roles          []string
	ActiveRequests []string
	Service        string // the database's name in Teleport
	DBUser         string // as in the cert; empty where the client may name it
	DBName         string
	Serial         string // the client cert's serial number
	NotAfter       time.Time
	// ServerVersion is what a MySQL client is greeted with, as the database
	// service has it; empty where the service knows none.
	ServerVersion string
	// Authorize decides whether the client may be that database user on that
	// database; nil means yes.
	Authorize func(dbUser, dbName string) error
}

func (s Session) authorize(dbUser, dbName string) error {
	if s.Authorize == nil {
		return nil
	}
	return s.Authorize(dbUser, dbName)
}

// identity returns the session as rows of name and value: the answer to
// "select * from session_identity".
func (s Session) identity() [][2]string {
	return [][2]string{
		{"serial", s.Serial},
		{"teleport_user", s.User},
		{"cluster", s.Cluster},
		{"service", s.Service},
		{"roles", strings.Join(s.Roles, ",")},
		{"requests", strings.Join(s.ActiveRequests, ",")},
		{"not_after", s.NotAfter.UTC().Format(time.RFC3339)},
	}
}

// DeniedError is a refusal for want of rights, in Teleport's words.
type DeniedError struct{ Words string }

func (e *DeniedError) Error() string { return e.Words }

// ForProtocol returns a simulated server for a Teleport protocol name, or an
// echo for those that have none.
func ForProtocol(protocol string) Backend {
	switch protocol {
	case "postgres", "cockroachdb":
		return NewPostgres()
	case "mysql", "mariadb":
		return NewMySQL()
	case "redis":
		return NewRedis()
	default:
		return Echo{}
	}
}

// Echo sends back what it gets. A refused client is hung up on.
type Echo struct{}

// Serve echoes until the client half-closes, and then half-closes too.
func (Echo) Serve(ctx context.Context, conn net.Conn, s Session) error {
	if err := s.authorize(s.DBUser, s.DBName); err != nil {
		return err
	}
	defer closeOnDone(ctx, conn)()
	if _, err := io.Copy(conn, conn); err != nil {
		return err
	}
	return closeWrite(conn)
}

// closeOnDone closes the connection when ctx ends; the func returned calls
// that off.
func closeOnDone(ctx context.Context, conn net.Conn) func() bool {
	return context.AfterFunc(ctx, func() { _ = conn.Close() }) // cut on purpose
}

// closeWrite half-closes conn where it can be.
func closeWrite(conn net.Conn) error {
	if cw, ok := conn.(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite()
	}
	return nil
}
