// Package memsql is a MySQL server in this process, with its data in memory, for
// a demo on a machine without one. It promises what go-mysql-server does, which
// is most of MySQL, and answers single statements for the demo's Postgres too.
// Nothing but the demo may link it: it is larger than all of berth.
package memsql

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"time"

	sqle "github.com/dolthub/go-mysql-server"
	"github.com/dolthub/go-mysql-server/memory"
	"github.com/dolthub/go-mysql-server/server"
	"github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/types"
	"github.com/sirupsen/logrus"

	"berth/internal/simcluster/simdb"
)

// version is the MySQL release the server passes for.
const version = "8.0.31"

// Server is a running server.
type Server struct {
	engine   *sqle.Engine
	provider *memory.DbProvider
	wire     *server.Server
	conns    *conns
	lastID   atomic.Uint32
	done     chan struct{}
}

// New starts a server with one empty database.
func New(database string) (*Server, error) {
	logrus.SetOutput(io.Discard) // the library writes to it, and the demo's terminal is for people
	db := memory.NewDatabase(database)
	db.EnablePrimaryKeyIndexes()
	s := &Server{provider: memory.NewDBProvider(db), conns: newConns(), done: make(chan struct{})}
	s.engine = sqle.NewDefault(s.provider)
	cfg := server.Config{Listener: s.conns, Version: version, MaxConnections: 100}
	var err error
	s.wire, err = server.NewServer(cfg, s.engine, sql.NewContext, memory.NewSessionBuilder(s.provider), nil)
	if err != nil {
		return nil, fmt.Errorf("start a MySQL server: %w", err)
	}
	go func() {
		defer close(s.done)
		_ = s.wire.Start() // it returns nil, when it is closed
	}()
	return s, nil
}

// Close ends the server and its connections.
func (s *Server) Close() error {
	err := s.wire.Close()
	s.conns.closeAll()
	<-s.done
	return err
}

// Dial connects to the server, which lets in whoever comes.
func (s *Server) Dial(ctx context.Context) (net.Conn, error) { return s.conns.dial(ctx) }

// Query answers one statement, written as Postgres has it as far as the two
// agree: names stand in double quotes.
func (s *Server) Query(ctx context.Context, database, query string) (*simdb.Result, error) {
	base := sql.NewBaseSessionWithClientServer("memsql", sql.Client{User: "demo", Address: "localhost"}, s.lastID.Add(1))
	qctx := sql.NewContext(ctx, sql.WithSession(memory.NewSession(base, s.provider)))
	qctx.SetCurrentDatabase(database)
	if err := qctx.SetSessionVariable(qctx, "sql_mode", "ANSI_QUOTES"); err != nil {
		return nil, err
	}
	schema, rows, _, err := s.engine.Query(qctx, query)
	if err != nil {
		return nil, err
	}
	all, err := sql.RowIterToRows(qctx, rows)
	if err != nil {
		return nil, err
	}
	if types.IsOkResultSchema(schema) {
		return done(query, all), nil
	}
	r := &simdb.Result{}
	for _, column := range schema {
		r.Columns = append(r.Columns, column.Name)
	}
	for _, row := range all {
		values := make([]any, len(row))
		for i, v := range row {
			if values[i], err = value(qctx, schema[i].Type, v); err != nil {
				return nil, err
			}
		}
		r.Rows = append(r.Rows, values)
	}
	return r, nil
}

// done words what a statement without rows has done, as Postgres does.
func done(query string, rows []sql.Row) *simdb.Result {
	words := strings.Fields(strings.ToUpper(query))
	affected := uint64(0)
	if len(rows) == 1 {
		affected = types.GetOkResult(rows[0]).RowsAffected
	}
	switch words[0] {
	case "INSERT":
		return &simdb.Result{Tag: fmt.Sprintf("INSERT 0 %d", affected)}
	case "UPDATE", "DELETE":
		return &simdb.Result{Tag: fmt.Sprintf("%s %d", words[0], affected)}
	}
	return &simdb.Result{Tag: strings.Join(words[:min(2, len(words))], " ")}
}

// value returns a value of a row as the simulated servers have them.
func value(ctx *sql.Context, t sql.Type, v any) (any, error) {
	switch v := v.(type) {
	case nil, int64, string:
		return v, nil
	case int8:
		return int64(v), nil
	case int16:
		return int64(v), nil
	case int32:
		return int64(v), nil
	case uint8:
		return int64(v), nil
	case uint16:
		return int64(v), nil
	case uint32:
		return int64(v), nil
	case time.Time:
		if types.IsDateType(t) {
			return v.Format(time.DateOnly), nil
		}
		return v.Format(time.DateTime), nil
	}
	text, err := t.SQL(ctx, nil, v)
	if err != nil {
		return nil, err
	}
	return text.ToString(), nil
}
