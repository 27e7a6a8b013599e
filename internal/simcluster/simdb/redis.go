package simdb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"

	"github.com/tidwall/redcon"
)

// Redis is a simulated Redis with string keys, shared by all connections. As
// in Teleport, it does not know HELLO.
type Redis struct {
	mu   sync.Mutex
	data map[string]string
}

// NewRedis returns a simulated, empty Redis.
func NewRedis() *Redis { return &Redis{data: make(map[string]string)} }

// Serve speaks RESP with one client.
func (r *Redis) Serve(ctx context.Context, conn net.Conn, s Session) error {
	defer closeOnDone(ctx, conn)()
	w := redcon.NewWriter(conn)
	refused := s.authorize(s.DBUser, s.DBName)
	if denied := new(DeniedError); errors.As(refused, &denied) { // even to a silent client
		w.WriteError("ERR Teleport: " + refused.Error())
		return errors.Join(refused, w.Flush())
	}
	rd := redcon.NewReader(conn)
	for {
		cmds, err := rd.ReadCommands()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			w.WriteError("ERR Teleport: " + err.Error())
			return errors.Join(err, w.Flush())
		}
		for _, cmd := range cmds {
			if refused != nil && len(cmd.Args) > 0 && !teleportAnswers(cmd.Args) { // in answer to the first that the database would get
				w.WriteError("ERR Teleport: " + refused.Error())
				return errors.Join(refused, w.Flush())
			}
			if len(cmd.Args) > 0 && r.answer(w, cmd.Args) {
				return w.Flush()
			}
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
}

// teleportAnswers reports whether Teleport answers a command by itself.
func teleportAnswers(args [][]byte) bool {
	name := strings.ToUpper(string(args[0]))
	return name == "HELLO" || name == "AUTH" && len(args) == 2
}

// answer answers one command and reports whether it was the last.
func (r *Redis) answer(w *redcon.Writer, args [][]byte) (quit bool) {
	name := strings.ToUpper(string(args[0]))
	if need := map[string]int{"ECHO": 2, "GET": 2, "SET": 3}[name]; len(args) < need {
		w.WriteError(fmt.Sprintf("ERR wrong number of arguments for '%s' command", strings.ToLower(name)))
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch name {
	case "PING":
		w.WriteString("PONG")
	case "ECHO":
		w.WriteBulk(args[1])
	case "SET":
		r.data[string(args[1])] = string(args[2])
		w.WriteString("OK")
	case "GET":
		if value, ok := r.data[string(args[1])]; ok {
			w.WriteBulkString(value)
		} else {
			w.WriteNull()
		}
	case "COMMAND": // redis-cli asks for what it may complete
		w.WriteArray(0)
	case "AUTH": // Teleport has authenticated long before, without a password
		if len(args) == 2 {
			w.WriteError("ERR Teleport: failed to authenticate as the default user. Please provide the db username when connecting to Redis")
		} else {
			w.WriteError("WRONGPASS invalid username-password pair or user is disabled.")
		}
	case "SELECT", "CLIENT", "QUIT":
		w.WriteString("OK")
		return name == "QUIT"
	default:
		w.WriteError(fmt.Sprintf("ERR unknown command '%s', with args beginning with: '%s'", name, bytes.Join(args[1:], []byte("' '"))))
	}
	return false
}
