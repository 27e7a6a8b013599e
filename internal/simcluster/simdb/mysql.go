package simdb

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

// mysqlVersion is what Teleport's proxy greets MySQL clients with by default.
const mysqlVersion = "8.0.0-Teleport"

// MySQL is a simulated MySQL. It takes any password, for Teleport has checked
// who the client is, and knows the same select as Postgres does, with MySQL's
// functions and variables.
type MySQL struct {
	mu      sync.Mutex
	nextID  uint32
	running map[uint32]*myConn
}

// NewMySQL returns a simulated MySQL.
func NewMySQL() *MySQL { return &MySQL{running: make(map[uint32]*myConn)} }

// myConn is one client connection.
type myConn struct {
	my         *MySQL
	wire       *myWire
	session    Session
	id         uint32
	user, db   string
	version    string
	statements map[uint32]*myPrepared
	nextStmt   uint32

	mu     sync.Mutex
	cancel context.CancelCauseFunc // of the query that runs; nil between queries
}

// myStatement is a parsed statement: a query, or fixed rows, or just OK.
type myStatement struct {
	q       *query
	columns []pgColumn
	fixed   [][]any
	use     string // the database to switch to
	kill    uint32 // the connection whose query is to end
}

// myPrepared is a statement of the binary protocol.
type myPrepared struct {
	*myStatement
	types []byte // of the parameters, as bound last
}

// Serve speaks MySQL's protocol with one client.
func (my *MySQL) Serve(ctx context.Context, conn net.Conn, s Session) error {
	defer closeOnDone(ctx, conn)()
	c := &myConn{my: my, wire: newMyWire(conn), session: s, version: s.ServerVersion, statements: make(map[uint32]*myPrepared)}
	if c.version == "" {
		c.version = mysqlVersion
	}
	my.register(c)
	defer my.forget(c)
	if err := c.greet(); err != nil {
		return err
	}
	reply, err := c.wire.read()
	if err != nil {
		return err
	}
	if err := c.parseLogin(reply); err != nil {
		return err
	}
	if err := s.authorize(c.user, c.db); err != nil {
		return errors.Join(err, c.wire.fail(1105, "HY000", err.Error()), c.wire.flush())
	}
	if err := c.wire.ok(); err != nil {
		return err
	}
	return c.loop(ctx)
}

func (my *MySQL) register(c *myConn) {
	my.mu.Lock()
	defer my.mu.Unlock()
	my.nextID++
	c.id = my.nextID
	my.running[c.id] = c
}

func (my *MySQL) forget(c *myConn) {
	my.mu.Lock()
	defer my.mu.Unlock()
	delete(my.running, c.id)
}

func (my *MySQL) kill(id uint32) {
	my.mu.Lock()
	c := my.running[id]
	my.mu.Unlock()
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cancel != nil {
		c.cancel(errCanceled)
	}
}

// greet sends the first packet: in MySQL the server speaks first.
func (c *myConn) greet() error {
	const salt = "abcdefghijklmnopqrst" // any 20 bytes: passwords are not checked
	caps := uint32(myCapabilities)
	b := append([]byte{10}, c.version...)
	b = binary.LittleEndian.AppendUint32(append(b, 0), c.id)
	b = append(b, salt[:8]...)
	b = binary.LittleEndian.AppendUint16(append(b, 0), uint16(caps))
	b = append(b, 45, 2, 0) // utf8mb4, autocommit
	b = binary.LittleEndian.AppendUint16(b, uint16(caps>>16))
	b = append(append(b, 21), make([]byte, 10)...)
	b = append(append(b, salt[8:]...), 0)
	b = append(append(b, "mysql_native_password"...), 0)
	if err := c.wire.write(b); err != nil {
		return err
	}
	return c.wire.flush()
}

func (c *myConn) parseLogin(reply []byte) error {
	r := &myReader{b: reply}
	caps := r.uint32()
	r.take(4 + 1 + 23) // largest packet, character set, filler
	if caps&myProtocol41 == 0 || r.err != nil {
		return errors.New("client does not speak MySQL's protocol 4.1")
	}
	c.user = r.zeroString()
	switch {
	case caps&myLenencAuth != 0:
		r.lenenc()
	case caps&mySecureConnection != 0:
		r.take(int(r.byte()))
	default:
		r.zeroString()
	}
	if caps&myConnectWithDB != 0 {
		c.db = r.zeroString()
	}
	return r.err
}

// loop answers commands until the client leaves.
func (c *myConn) loop(ctx context.Context) error {
	for {
		if err := c.wire.flush(); err != nil {
			return err
		}
		msg, err := c.wire.read()
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil // hung up
		}
		if err != nil {
			return err
		}
		if len(msg) == 0 || msg[0] == myComQuit {
			return nil
		}
		err = c.command(ctx, msg[0], msg[1:])
		if my := (*mySQLError)(nil); errors.As(err, &my) {
			err = c.wire.fail(my.code, my.state, my.text)
		}
		if err != nil {
			return err
		}
	}
}

// mySQLError is an error to tell the client, after which the connection goes
// on.
type mySQLError struct {
	code        uint16
	state, text string
}

func (e *mySQLError) Error() string { return e.text }

func myError(err error) error {
	if errors.Is(err, errCanceled) {
		return &mySQLError{1317, "70100", "Query execution was interrupted"}
	}
	return &mySQLError{1064, "42000", err.Error()}
}

func (c *myConn) command(ctx context.Context, com byte, arg []byte) error {
	switch com {
	case myComPing, myComSetOption, myComReset, myComStmtReset:
		return c.wire.ok()
	case myComInitDB:
		c.db = string(arg)
		return c.wire.ok()
	case myComQuery:
		return c.query(ctx, string(arg))
	case myComFieldList:
		return c.wire.eof()
	case myComStatistics:
		return c.wire.write([]byte("Uptime: 1  Threads: 1  Questions: 1"))
	case myComProcessKill:
		c.my.kill((&myReader{b: arg}).uint32())
		return c.wire.ok()
	case myComChangeUser:
		c.user = (&myReader{b: arg}).zeroString()
		return c.wire.ok()
	case myComStmtPrepare:
		return c.prepare(string(arg))
	case myComStmtExecute:
		return c.execute(ctx, arg)
	case myComStmtClose:
		delete(c.statements, (&myReader{b: arg}).uint32())
		return nil // no answer
	case myComStmtLong:
		return nil // no answer; such parameters stay empty
	default:
		return &mySQLError{1047, "08S01", "Unknown command"}
	}
}

// query answers the first statement of a script; drivers send one at a time.
func (c *myConn) query(ctx context.Context, sql string) error {
	stmt, err := c.parse(sql)
	if err != nil {
		return myError(err)
	}
	return c.run(ctx, stmt, nil, func(row []any) error { return c.wire.textRow(row) })
}

// run executes a statement and sends its result.
func (c *myConn) run(ctx context.Context, stmt *myStatement, params []any, emit func([]any) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	c.mu.Lock()
	c.cancel = cancel
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.cancel = nil
		c.mu.Unlock()
	}()
	if stmt.use != "" {
		c.db = stmt.use
	}
	if stmt.kill != 0 {
		c.my.kill(stmt.kill)
	}
	if len(stmt.columns) == 0 {
		return c.wire.ok()
	}
	if err := c.wire.write(appendLenencInt(nil, uint64(len(stmt.columns)))); err != nil {
		return err
	}
	if err := c.wire.columns(stmt.columns); err != nil {
		return err
	}
	if err := c.rows(ctx, stmt, params, emit); err != nil {
		return err
	}
	return c.wire.eof()
}

func (c *myConn) rows(ctx context.Context, stmt *myStatement, params []any, emit func([]any) error) error {
	if stmt.q == nil {
		for _, row := range stmt.fixed {
			if err := emit(row); err != nil {
				return err
			}
		}
		return nil
	}
	var broken error
	_, err := evaluator{call: c.call, params: params}.rows(ctx, stmt.q, func(row []any) error {
		broken = emit(row)
		return broken
	})
	if err != nil && broken == nil {
		return myError(err)
	}
	return broken
}

// call evaluates a function or variable.
func (c *myConn) call(ctx context.Context, name string, args []any) (any, error) {
	switch name {
	case "version", "@@version":
		return c.version, nil
	case "user", "current_user", "session_user", "system_user":
		return c.user + "@localhost", nil
	case "database", "schema":
		if c.db == "" {
			return nil, nil // null is a value
		}
		return c.db, nil
	case "connection_id":
		return int64(c.id), nil
	case "now", "current_timestamp":
		return time.Now().UTC().Format("2006-01-02 15:04:05"), nil
	case "sleep":
		return int64(0), pause(ctx, args[0])
	case "length":
		return int64(len(textOf(args[0]))), nil
	}
	if variable, ok := strings.CutPrefix(name, "@@"); ok {
		return myVariable(variable), nil
	}
	return nil, fmt.Errorf("FUNCTION %s does not exist", name)
}

func myVariable(name string) string {
	name = strings.TrimPrefix(strings.TrimPrefix(name, "session."), "global.")
	switch name {
	case "version_comment":
		return "simulated MySQL"
	case "max_allowed_packet":
		return "67108864"
	case "autocommit", "auto_increment_increment":
		return "1"
	case "character_set_client", "character_set_connection", "character_set_results", "character_set_server":
		return "utf8mb4"
	case "collation_server", "collation_connection":
		return "utf8mb4_general_ci"
	case "transaction_isolation", "tx_isolation":
		return "REPEATABLE-READ"
	case "time_zone", "system_time_zone":
		return "UTC"
	case "net_write_timeout", "interactive_timeout", "wait_timeout":
		return "28800"
	default:
		return "0"
	}
}
