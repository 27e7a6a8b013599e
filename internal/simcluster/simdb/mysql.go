package simdb

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
)

// mysqlVersion is the release that the simulated MySQL passes for.
const mysqlVersion = "8.0.36"

// MySQL is a simulated MySQL. It takes no password, since Teleport has checked
// who the client is, and refuses one. It knows the select of what is known of the connection,
// sleep, and the statements that clients send on their own. It has no tables and
// no prepared statements.
type MySQL struct {
	// Release is the server's version; empty means one of MySQL 8.0.
	Release string

	lastID atomic.Uint32
}

// NewMySQL returns a simulated MySQL.
func NewMySQL() *MySQL { return &MySQL{} }

// myConn is one client connection.
type myConn struct {
	wire     *myWire
	session  Session
	release  string
	id       uint32
	user, db string
}

// Version returns the server's version.
func (my *MySQL) Version(context.Context) (string, error) { return my.release(), nil }

func (my *MySQL) release() string { return cmp.Or(my.Release, mysqlVersion) }

// Serve speaks MySQL's protocol with one client.
func (my *MySQL) Serve(ctx context.Context, conn net.Conn, s Session) error {
	defer closeOnDone(ctx, conn)()
	c := &myConn{wire: newMyWire(conn), session: s, release: my.release(), id: my.lastID.Add(1)}
	if err := c.greet(); err != nil {
		return err
	}
	reply, err := c.wire.read()
	if err != nil {
		return err
	}
	var password bool
	if c.user, c.db, password, err = parseLogin(reply); err != nil {
		return err
	}
	if password {
		return errors.Join(errPassword, c.wire.refuse(errPassword))
	}
	if err := s.authorize(c.user, c.db); err != nil {
		return errors.Join(err, c.wire.refuse(err))
	}
	if err := c.wire.ok(); err != nil {
		return err
	}
	return c.loop(ctx)
}

// greet sends the first packet: in MySQL the server speaks first.
func (c *myConn) greet() error {
	const salt = "abcdefghijklmnopqrst" // any 20 bytes: passwords are not checked
	caps := uint32(myCapabilities)
	b := append([]byte{myProtocol}, c.session.ServerVersion...)
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

// errPassword is what Teleport says to a client that has a password.
var errPassword = errors.New("access denied without password")

// parseLogin returns the user and the database of a client's answer to the
// greeting, and whether it has a password.
func parseLogin(reply []byte) (user, db string, password bool, err error) {
	r := &myReader{b: reply}
	caps := r.uint32()
	r.take(4 + 1 + 23) // largest packet, character set, filler
	if caps&myProtocol41 == 0 || r.err != nil {
		return "", "", false, errors.New("client does not speak MySQL's protocol 4.1")
	}
	user = r.zeroString()
	switch {
	case caps&myLenencAuth != 0:
		password = len(r.lenenc()) > 0
	case caps&mySecureConnection != 0:
		password = len(r.take(int(r.byte()))) > 0
	default:
		password = r.zeroString() != ""
	}
	if caps&myConnectWithDB != 0 {
		db = r.zeroString()
	}
	return user, db, password, r.err
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
		if err := c.command(ctx, msg[0], string(msg[1:])); err != nil {
			return err
		}
	}
}

func (c *myConn) command(ctx context.Context, com byte, arg string) error {
	switch com {
	case myComPing, myComReset:
		return c.wire.ok()
	case myComInitDB:
		c.db = arg
		return c.wire.ok()
	case myComFieldList:
		return c.wire.eof()
	case myComQuery:
	default:
		return c.wire.fail(1047, "08S01", "Unknown command")
	}
	r, err := c.answer(ctx, arg)
	switch {
	case err != nil:
		return c.wire.fail(1064, "42000", err.Error())
	case len(r.Columns) == 0:
		return c.wire.ok()
	}
	return c.wire.result(r)
}

// answer answers the first statement of a script; drivers send one at a time.
func (c *myConn) answer(ctx context.Context, script string) (*Result, error) {
	all := statements(script)
	if len(all) == 0 {
		return nil, errors.New("Query was empty") // MySQL's words
	}
	sql := all[0]
	switch firstWord(sql) {
	case "set", "begin", "start", "commit", "rollback":
		return &Result{}, nil
	case "use":
		c.db = strings.Trim(sql[len("use"):], " `")
		return &Result{}, nil
	case "show":
		return &Result{Columns: []string{"Name"}}, nil
	}
	if identityQuery.MatchString(sql) {
		return identityResult(c.session), nil
	}
	r, ok, err := selectList(ctx, sql, c.value)
	if !ok && err == nil {
		err = fmt.Errorf("the simulated MySQL does not know %q", sql)
	}
	return r, err
}

// value returns the value of a function without arguments, or of a variable.
func (c *myConn) value(name string) (any, bool) {
	switch name {
	case "version", "@@version":
		return c.release, true
	case "@@version_comment":
		return "simulated MySQL", true
	case "@@max_allowed_packet":
		return int64(myMaxPayload), true
	case "user", "current_user", "session_user":
		return c.user + "@localhost", true
	case "database", "schema":
		if c.db == "" {
			return nil, true
		}
		return c.db, true
	case "connection_id":
		return int64(c.id), true
	}
	return nil, false
}
