package simdb

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/jackc/pgx/v5/pgproto3"
)

// pgVersion is what the simulated PostgreSQL passes for.
const pgVersion = "16.4"

// Postgres is a simulated PostgreSQL. It knows the statements that clients send
// on their own, a select of numbers, texts and what it knows of the connection,
// pg_sleep, and "select * from session_identity". It has no tables.
type Postgres struct {
	// Query answers what else clients ask of a database; nil means an error.
	Query func(ctx context.Context, db, sql string) (*Result, error)

	mu      sync.Mutex
	nextPID uint32
	running map[uint32]*pgConn
}

// NewPostgres returns a simulated PostgreSQL.
func NewPostgres() *Postgres {
	return &Postgres{nextPID: 1000, running: make(map[uint32]*pgConn)}
}

// pgConn is one client connection.
type pgConn struct {
	pg       *Postgres
	be       *pgproto3.Backend
	session  Session
	pid      uint32
	secret   []byte
	user, db string

	inTransaction, failed bool // failed: skip messages until Sync
	statements            map[string]*pgStatement
	portals               map[string]*pgPortal

	mu     sync.Mutex
	cancel context.CancelCauseFunc // of the query that runs; nil between queries
}

// Serve speaks PostgreSQL's protocol with one client.
func (pg *Postgres) Serve(ctx context.Context, conn net.Conn, s Session) error {
	defer closeOnDone(ctx, conn)()
	c := &pgConn{
		pg:         pg,
		be:         pgproto3.NewBackend(conn, conn),
		session:    s,
		statements: make(map[string]*pgStatement),
		portals:    make(map[string]*pgPortal),
	}
	start, err := c.startup(conn)
	if err != nil || start == nil {
		return err
	}
	c.user, c.db = start.Parameters["user"], start.Parameters["database"]
	if c.db == "" {
		c.db = c.user
	}
	if err := s.authorize(c.user, c.db); err != nil {
		return errors.Join(err, refusePostgres(conn, err))
	}
	c.secret = make([]byte, 4)
	if _, err := rand.Read(c.secret); err != nil {
		return fmt.Errorf("make cancel key: %w", err)
	}
	pg.register(c)
	defer pg.forget(c)
	if err := c.welcome(); err != nil {
		return err
	}
	return c.loop(ctx)
}

// startup reads until the client's start-up message, and says no to
// encryption. It returns nil after a cancel request.
func (c *pgConn) startup(conn net.Conn) (*pgproto3.StartupMessage, error) {
	for {
		msg, err := c.be.ReceiveStartupMessage()
		if err != nil {
			return nil, err
		}
		switch msg := msg.(type) {
		case *pgproto3.StartupMessage:
			return msg, nil
		case *pgproto3.CancelRequest:
			c.pg.cancel(msg.ProcessID, string(msg.SecretKey))
			return nil, nil // nothing follows a cancel request
		case *pgproto3.SSLRequest, *pgproto3.GSSEncRequest:
			if _, err := conn.Write([]byte{'N'}); err != nil {
				return nil, err
			}
		default:
			return nil, fmt.Errorf("unexpected start-up message %T", msg)
		}
	}
}

func (pg *Postgres) register(c *pgConn) {
	pg.mu.Lock()
	defer pg.mu.Unlock()
	pg.nextPID++
	c.pid = pg.nextPID
	pg.running[c.pid] = c
}

func (pg *Postgres) forget(c *pgConn) {
	pg.mu.Lock()
	defer pg.mu.Unlock()
	delete(pg.running, c.pid)
}

func (pg *Postgres) cancel(pid uint32, secret string) {
	pg.mu.Lock()
	c := pg.running[pid]
	pg.mu.Unlock()
	if c == nil || string(c.secret) != secret {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cancel != nil {
		c.cancel(errCanceled)
	}
}

// welcome ends the log-in.
func (c *pgConn) welcome() error {
	c.be.Send(&pgproto3.AuthenticationOk{})
	for _, p := range [][2]string{
		{"server_version", pgVersion},
		{"server_encoding", "UTF8"},
		{"client_encoding", "UTF8"},
		{"DateStyle", "ISO, MDY"},
		{"TimeZone", "UTC"},
		{"integer_datetimes", "on"},
		{"standard_conforming_strings", "on"},
		{"session_authorization", c.user},
	} {
		c.be.Send(&pgproto3.ParameterStatus{Name: p[0], Value: p[1]})
	}
	c.be.Send(&pgproto3.BackendKeyData{ProcessID: c.pid, SecretKey: c.secret})
	return c.ready()
}

// ready tells the client that it may send the next query.
func (c *pgConn) ready() error {
	status := byte('I')
	if c.inTransaction {
		status = 'T'
	}
	c.be.Send(&pgproto3.ReadyForQuery{TxStatus: status})
	return c.be.Flush()
}

// loop answers messages until the client leaves.
func (c *pgConn) loop(ctx context.Context) error {
	for {
		msg, err := c.be.Receive()
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil // hung up
		}
		if err != nil {
			return err
		}
		switch msg := msg.(type) {
		case *pgproto3.Query:
			c.simpleQuery(ctx, msg.String)
			err = c.ready()
		case *pgproto3.Sync:
			c.failed = false
			err = c.ready()
		case *pgproto3.Flush:
			err = c.be.Flush()
		case *pgproto3.Terminate:
			return nil
		default:
			if !c.failed {
				c.extended(ctx, msg)
			}
		}
		if err != nil {
			return err
		}
	}
}

// simpleQuery answers a script of statements, up to the first that fails.
func (c *pgConn) simpleQuery(ctx context.Context, script string) {
	all := statements(script)
	if len(all) == 0 {
		c.be.Send(&pgproto3.EmptyQueryResponse{})
		return
	}
	for _, sql := range all {
		r, err := c.run(ctx, sql)
		if err != nil {
			c.fail(err)
			return
		}
		if len(r.Columns) > 0 {
			c.be.Send(describe(r, nil))
		}
		c.send(r, nil)
	}
}

// run runs a statement that another connection may cancel.
func (c *pgConn) run(ctx context.Context, sql string) (*Result, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	c.setCancel(cancel)
	defer c.setCancel(nil)
	return c.answer(ctx, sql)
}

func (c *pgConn) setCancel(cancel context.CancelCauseFunc) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cancel = cancel
}

// fail tells the client of an error.
func (c *pgConn) fail(err error) {
	code := "42601" // syntax error: what most of them are
	if errors.Is(err, errCanceled) {
		code = "57014"
	}
	c.be.Send(&pgproto3.ErrorResponse{Severity: "ERROR", SeverityUnlocalized: "ERROR", Code: code, Message: err.Error()})
}

// refusePostgres tells a client that it may not log in, the way Teleport does:
// a message and nothing else, so that there is no SQLSTATE to look at.
func refusePostgres(w io.Writer, reason error) error {
	be := pgproto3.NewBackend(nil, w)
	be.Send(&pgproto3.ErrorResponse{Message: reason.Error()})
	return be.Flush()
}
