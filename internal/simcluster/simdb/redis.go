package simdb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/tidwall/redcon"
)

// Redis is a simulated Redis with string keys, shared by all connections. The
// command SESSION IDENTITY tells which client cert a connection was made with.
type Redis struct {
	mu   sync.Mutex
	data map[string]string
	next int64 // client id
}

// NewRedis returns a simulated, empty Redis.
func NewRedis() *Redis { return &Redis{data: make(map[string]string)} }

// redisConn is one client connection.
type redisConn struct {
	r       *Redis
	w       *redcon.Writer
	session Session
	id      int64
	name    string
	resp3   bool
	refused error
}

// Serve speaks RESP with one client.
func (r *Redis) Serve(ctx context.Context, conn net.Conn, s Session) error {
	defer closeOnDone(ctx, conn)()
	r.mu.Lock()
	r.next++
	c := &redisConn{r: r, w: redcon.NewWriter(conn), session: s, id: r.next}
	r.mu.Unlock()
	c.refused = s.authorize(s.DBUser, s.DBName)
	rd := redcon.NewReader(conn)
	for {
		cmds, err := rd.ReadCommands()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			c.w.WriteError("ERR " + err.Error())
			return errors.Join(err, c.w.Flush())
		}
		for _, cmd := range cmds {
			if c.refused != nil { // told in answer to the first command
				c.w.WriteError("ERR " + c.refused.Error())
				return errors.Join(c.refused, c.w.Flush())
			}
			if len(cmd.Args) > 0 && c.answer(cmd.Args) {
				return c.w.Flush()
			}
		}
		if err := c.w.Flush(); err != nil {
			return err
		}
	}
}

// answer answers one command and reports whether it was the last.
func (c *redisConn) answer(args [][]byte) (quit bool) {
	name := strings.ToUpper(string(args[0]))
	rest := make([]string, 0, len(args)-1)
	for _, arg := range args[1:] {
		rest = append(rest, string(arg))
	}
	switch name {
	case "QUIT":
		c.w.WriteString("OK")
		return true
	case "PING":
		if len(rest) == 1 {
			c.w.WriteBulkString(rest[0])
			return false
		}
		c.w.WriteString("PONG")
	case "AUTH", "SELECT", "READONLY":
		c.w.WriteString("OK") // Teleport has authenticated long before
	case "HELLO":
		c.hello(rest)
	case "CLIENT":
		c.client(rest)
	case "COMMAND":
		c.w.WriteArray(0)
	case "CONFIG":
		c.w.WriteArray(0)
	case "INFO":
		c.w.WriteBulkString(c.info())
	case "SESSION":
		c.pairs(c.session.identity())
	default:
		c.keys(name, rest)
	}
	return false
}

func (c *redisConn) hello(args []string) {
	if len(args) > 0 {
		switch args[0] {
		case "2":
			c.resp3 = false
		case "3":
			c.resp3 = true
		default:
			c.w.WriteError("NOPROTO unsupported protocol version")
			return
		}
	}
	proto := "2"
	if c.resp3 {
		proto = "3"
	}
	c.mapHead(7)
	for _, kv := range [][2]string{{"server", "redis"}, {"version", "7.2.5"}, {"mode", "standalone"}, {"role", "master"}} {
		c.w.WriteBulkString(kv[0])
		c.w.WriteBulkString(kv[1])
	}
	c.w.WriteBulkString("proto")
	c.w.WriteRaw([]byte(":" + proto + "\r\n"))
	c.w.WriteBulkString("id")
	c.w.WriteInt64(c.id)
	c.w.WriteBulkString("modules")
	c.w.WriteArray(0)
}

// mapHead begins a map of n pairs, which RESP2 knows as a flat array.
func (c *redisConn) mapHead(n int) {
	if c.resp3 {
		c.w.WriteRaw([]byte("%" + strconv.Itoa(n) + "\r\n"))
		return
	}
	c.w.WriteArray(2 * n)
}

func (c *redisConn) pairs(pairs [][2]string) {
	c.mapHead(len(pairs))
	for _, kv := range pairs {
		c.w.WriteBulkString(kv[0])
		c.w.WriteBulkString(kv[1])
	}
}

func (c *redisConn) client(args []string) {
	sub := ""
	if len(args) > 0 {
		sub = strings.ToUpper(args[0])
	}
	switch sub {
	case "ID":
		c.w.WriteInt64(c.id)
	case "GETNAME":
		c.w.WriteBulkString(c.name)
	case "SETNAME":
		if len(args) > 1 {
			c.name = args[1]
		}
		c.w.WriteString("OK")
	case "INFO", "LIST":
		c.w.WriteBulkString(fmt.Sprintf("id=%d name=%s user=%s\n", c.id, c.name, c.session.DBUser))
	default:
		c.w.WriteString("OK") // SETINFO, NO-EVICT and the like
	}
}

func (c *redisConn) info() string {
	c.r.mu.Lock()
	keys := len(c.r.data)
	c.r.mu.Unlock()
	var b strings.Builder
	b.WriteString("# Server\r\nredis_version:7.2.5\r\nredis_mode:standalone\r\n\r\n# Session\r\n")
	for _, kv := range c.session.identity() {
		fmt.Fprintf(&b, "%s:%s\r\n", kv[0], kv[1])
	}
	fmt.Fprintf(&b, "\r\n# Keyspace\r\ndb0:keys=%d,expires=0,avg_ttl=0\r\n", keys)
	return b.String()
}

// keys answers the commands on keys.
func (c *redisConn) keys(name string, args []string) {
	need := map[string]int{"ECHO": 1, "GET": 1, "SET": 2, "DEL": 1, "EXISTS": 1, "INCR": 1, "KEYS": 1, "STRLEN": 1}[name]
	if len(args) < need {
		c.w.WriteError(fmt.Sprintf("ERR wrong number of arguments for '%s' command", strings.ToLower(name)))
		return
	}
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	data := c.r.data
	switch name {
	case "ECHO":
		c.w.WriteBulkString(args[0])
	case "GET":
		value, ok := data[args[0]]
		if !ok {
			c.null()
			return
		}
		c.w.WriteBulkString(value)
	case "SET":
		data[args[0]] = args[1]
		c.w.WriteString("OK")
	case "DEL", "EXISTS":
		n := 0
		for _, key := range args {
			if _, ok := data[key]; ok {
				n++
			}
			if name == "DEL" {
				delete(data, key)
			}
		}
		c.w.WriteInt(n)
	case "INCR":
		n, err := strconv.ParseInt(data[args[0]], 10, 64)
		if err != nil && data[args[0]] != "" {
			c.w.WriteError("ERR value is not an integer or out of range")
			return
		}
		data[args[0]] = strconv.FormatInt(n+1, 10)
		c.w.WriteInt64(n + 1)
	case "KEYS":
		names := slices.Sorted(maps.Keys(data))
		c.w.WriteArray(len(names))
		for _, key := range names {
			c.w.WriteBulkString(key)
		}
	case "STRLEN":
		c.w.WriteInt(len(data[args[0]]))
	case "DBSIZE":
		c.w.WriteInt(len(data))
	case "FLUSHALL", "FLUSHDB":
		clear(data)
		c.w.WriteString("OK")
	default:
		c.w.WriteError(fmt.Sprintf("ERR unknown command '%s'", name))
	}
}

func (c *redisConn) null() {
	if c.resp3 {
		c.w.WriteRaw([]byte("_\r\n"))
		return
	}
	c.w.WriteNull()
}
