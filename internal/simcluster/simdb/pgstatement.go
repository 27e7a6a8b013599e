package simdb

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// Object ids of PostgreSQL's types.
const (
	oidBool = 16
	oidInt8 = 20
	oidText = 25
	oidVoid = 2278
)

func (k valueKind) oid() uint32 {
	switch k {
	case kindInt:
		return oidInt8
	case kindBool:
		return oidBool
	case kindVoid:
		return oidVoid
	default:
		return oidText
	}
}

// pgColumn is a column of a result.
type pgColumn struct {
	name string
	kind valueKind
}

// pgStatement is a parsed statement.
type pgStatement struct {
	tag     string // of CommandComplete, without the number of rows
	columns []pgColumn
	params  []valueKind
	rows    func(ctx context.Context, c *pgConn, params []any, emit func([]any) error) (int, error)
	change  func(c *pgConn) // what it changes in the connection; nil means nothing
}

// pgPortal is a statement with its parameters.
type pgPortal struct {
	stmt    *pgStatement
	params  []any
	formats []int16
}

func noRows(context.Context, *pgConn, []any, func([]any) error) (int, error) { return 0, nil }

// fixedRows returns a statement with rows of text that are known already.
func fixedRows(tag string, columns []string, rows ...[]any) *pgStatement {
	stmt := &pgStatement{tag: tag}
	for _, name := range columns {
		stmt.columns = append(stmt.columns, pgColumn{name: name})
	}
	stmt.rows = func(_ context.Context, _ *pgConn, _ []any, emit func([]any) error) (int, error) {
		for _, row := range rows {
			if err := emit(row); err != nil {
				return 0, err
			}
		}
		return len(rows), nil
	}
	return stmt
}

// parse parses one statement.
func (c *pgConn) parse(sql string) (*pgStatement, error) {
	tokens, err := lexSQL(sql)
	if err != nil {
		return nil, err
	}
	for len(tokens) > 0 && tokens[len(tokens)-1].text == ";" {
		tokens = tokens[:len(tokens)-1]
	}
	if len(tokens) == 0 {
		return &pgStatement{rows: noRows}, nil
	}
	if isIdentityQuery(tokens) {
		return c.identityStatement(), nil
	}
	switch word := tokens[0].text; word {
	case "select":
		return c.parseSelect(tokens)
	case "show":
		name := ""
		if len(tokens) > 1 {
			name = tokens[1].text
		}
		return fixedRows("SHOW", []string{name}, []any{pgSetting(name)}), nil
	case "begin", "start":
		return &pgStatement{tag: "BEGIN", rows: noRows, change: func(c *pgConn) { c.inTransaction = true }}, nil
	case "commit", "end", "rollback", "abort":
		tag := "COMMIT"
		if word == "rollback" || word == "abort" {
			tag = "ROLLBACK"
		}
		return &pgStatement{tag: tag, rows: noRows, change: func(c *pgConn) { c.inTransaction = false }}, nil
	case "set", "reset", "discard", "deallocate", "listen", "unlisten", "vacuum":
		return &pgStatement{tag: strings.ToUpper(word), rows: noRows}, nil
	default:
		return nil, fmt.Errorf("the simulated PostgreSQL does not know %q", tokens[0].text)
	}
}

// isIdentityQuery reports whether the statement asks which cert the connection
// was made with.
func isIdentityQuery(tokens []token) bool {
	return len(tokens) == 3 && (tokens[0].text == "select" || tokens[0].text == "show") &&
		tokens[1].text == "session" && tokens[2].text == "identity"
}

func (c *pgConn) identityStatement() *pgStatement {
	var rows [][]any
	for _, kv := range c.session.identity() {
		rows = append(rows, []any{kv[0], kv[1]})
	}
	return fixedRows("SELECT", []string{"name", "value"}, rows...)
}

func pgSetting(name string) string {
	switch name {
	case "server_version":
		return pgVersion
	case "transaction", "transaction_isolation", "default_transaction_isolation":
		return "read committed"
	case "standard_conforming_strings", "integer_datetimes":
		return "on"
	case "server_encoding", "client_encoding":
		return "UTF8"
	case "transaction_read_only", "default_transaction_read_only", "in_hot_standby":
		return "off"
	default:
		return ""
	}
}

func (c *pgConn) parseSelect(tokens []token) (*pgStatement, error) {
	q, err := parseSelect(tokens, pgDialect{})
	if err != nil {
		return nil, err
	}
	stmt := &pgStatement{tag: "SELECT", params: q.params}
	for _, item := range q.items {
		stmt.columns = append(stmt.columns, pgColumn{name: item.name, kind: item.kind})
	}
	stmt.rows = func(ctx context.Context, c *pgConn, params []any, emit func([]any) error) (int, error) {
		return evaluator{call: c.call, params: params}.rows(ctx, q, emit)
	}
	return stmt, nil
}

// pgDialect knows PostgreSQL's functions.
type pgDialect struct{}

func (pgDialect) kindOf(name string, args int) (valueKind, bool) {
	switch name {
	case "current_user", "session_user", "user", "current_role", "current_database", "current_catalog", "version",
		"now", "current_timestamp", "clock_timestamp", "current_schema", "inet_server_addr":
		return kindText, args == 0
	case "repeat":
		return kindText, args == 2
	case "pg_backend_pid", "inet_server_port":
		return kindInt, args == 0
	case "pg_sleep":
		return kindVoid, args == 1
	case "pg_is_in_recovery":
		return kindBool, args == 0
	case "length":
		return kindInt, args == 1
	case "current_setting":
		return kindText, args == 1
	default:
		return kindText, false
	}
}

// call evaluates a function.
func (c *pgConn) call(ctx context.Context, name string, args []any) (any, error) {
	switch name {
	case "current_user", "session_user", "user", "current_role":
		return c.user, nil
	case "current_database", "current_catalog":
		return c.db, nil
	case "version":
		return "PostgreSQL " + pgVersion + " (simulated)", nil
	case "now", "current_timestamp", "clock_timestamp":
		return time.Now().UTC().Format("2006-01-02 15:04:05.999999-07"), nil
	case "current_schema":
		return "public", nil
	case "inet_server_addr":
		return "127.0.0.1", nil
	case "inet_server_port":
		return int64(5432), nil
	case "pg_backend_pid":
		return int64(c.pid), nil
	case "pg_sleep":
		return "", pause(ctx, args[0])
	case "pg_is_in_recovery":
		return false, nil
	case "length":
		return int64(len([]rune(textOf(args[0])))), nil
	case "current_setting":
		return pgSetting(textOf(args[0])), nil
	default:
		return nil, fmt.Errorf("function %s does not exist", name)
	}
}

// extended answers a message of the extended protocol.
func (c *pgConn) extended(ctx context.Context, msg pgproto3.FrontendMessage) {
	var err error
	switch msg := msg.(type) {
	case *pgproto3.Parse:
		var stmt *pgStatement
		if stmt, err = c.parse(msg.Query); err == nil {
			c.statements[msg.Name] = stmt
			c.be.Send(&pgproto3.ParseComplete{})
		}
	case *pgproto3.Bind:
		err = c.bind(msg)
	case *pgproto3.Describe:
		err = c.describe(msg)
	case *pgproto3.Execute:
		portal, ok := c.portals[msg.Portal]
		switch {
		case !ok:
			err = fmt.Errorf("portal %q does not exist", msg.Portal)
		case portal.stmt.tag == "":
			c.be.Send(&pgproto3.EmptyQueryResponse{})
		default:
			err = c.run(ctx, portal.stmt, portal.params, portal.formats)
		}
	case *pgproto3.Close:
		if msg.ObjectType == 'S' {
			delete(c.statements, msg.Name)
		} else {
			delete(c.portals, msg.Name)
		}
		c.be.Send(&pgproto3.CloseComplete{})
	default:
		err = fmt.Errorf("the simulated PostgreSQL does not know the message %T", msg)
	}
	if err != nil {
		c.fail(err)
		c.failed = true
	}
}

func (c *pgConn) bind(msg *pgproto3.Bind) error {
	stmt, ok := c.statements[msg.PreparedStatement]
	if !ok {
		return fmt.Errorf("prepared statement %q does not exist", msg.PreparedStatement)
	}
	if len(msg.Parameters) != len(stmt.params) {
		return fmt.Errorf("bind message supplies %d parameters, but the statement requires %d",
			len(msg.Parameters), len(stmt.params))
	}
	portal := &pgPortal{stmt: stmt, formats: append([]int16(nil), msg.ResultFormatCodes...)}
	for i, raw := range msg.Parameters {
		v, err := decodeParam(raw, stmt.params[i], formatOf(msg.ParameterFormatCodes, i))
		if err != nil {
			return err
		}
		portal.params = append(portal.params, v)
	}
	c.portals[msg.DestinationPortal] = portal
	c.be.Send(&pgproto3.BindComplete{})
	return nil
}

// formatOf returns the format of column or parameter i: none given means text,
// one holds for all.
func formatOf(codes []int16, i int) int16 {
	switch {
	case len(codes) == 0:
		return pgproto3.TextFormat
	case len(codes) == 1:
		return codes[0]
	case i < len(codes):
		return codes[i]
	default:
		return pgproto3.TextFormat
	}
}

func decodeParam(raw []byte, kind valueKind, format int16) (any, error) {
	switch {
	case raw == nil:
		return nil, nil // null is a value
	case format != pgproto3.BinaryFormat || kind == kindText:
		return string(raw), nil
	case kind == kindInt && len(raw) == 8:
		return int64(binary.BigEndian.Uint64(raw)), nil
	case kind == kindBool && len(raw) == 1:
		return raw[0] != 0, nil
	default:
		return nil, fmt.Errorf("incorrect binary data format in bind parameter")
	}
}

func (c *pgConn) describe(msg *pgproto3.Describe) error {
	var stmt *pgStatement
	var formats []int16
	if msg.ObjectType == 'S' {
		stmt = c.statements[msg.Name]
	} else if portal := c.portals[msg.Name]; portal != nil {
		stmt, formats = portal.stmt, portal.formats
	}
	if stmt == nil {
		return fmt.Errorf("there is no statement or portal %q", msg.Name)
	}
	if msg.ObjectType == 'S' {
		desc := &pgproto3.ParameterDescription{}
		for _, kind := range stmt.params {
			desc.ParameterOIDs = append(desc.ParameterOIDs, kind.oid())
		}
		c.be.Send(desc)
	}
	if len(stmt.columns) == 0 {
		c.be.Send(&pgproto3.NoData{})
		return nil
	}
	c.be.Send(stmt.describe(formats))
	return nil
}

// describe returns the description of a statement's rows.
func (s *pgStatement) describe(formats []int16) *pgproto3.RowDescription {
	desc := &pgproto3.RowDescription{}
	for i, col := range s.columns {
		size := int16(-1)
		switch col.kind {
		case kindInt:
			size = 8
		case kindBool:
			size = 1
		case kindVoid:
			size = 4
		default:
		}
		desc.Fields = append(desc.Fields, pgproto3.FieldDescription{
			Name: []byte(col.name), DataTypeOID: col.kind.oid(), DataTypeSize: size, TypeModifier: -1,
			Format: formatOf(formats, i),
		})
	}
	return desc
}

// encode returns a row as the client wants it, and its size.
func (s *pgStatement) encode(row []any, formats []int16) (*pgproto3.DataRow, int) {
	data := &pgproto3.DataRow{Values: make([][]byte, len(row))}
	size := 0
	for i, v := range row {
		if v == nil {
			continue
		}
		data.Values[i] = encodeValue(v, formatOf(formats, i))
		size += len(data.Values[i])
	}
	return data, size
}

func encodeValue(v any, format int16) []byte {
	if format != pgproto3.BinaryFormat {
		return []byte(textOf(v))
	}
	switch v := v.(type) {
	case int64:
		return binary.BigEndian.AppendUint64(nil, uint64(v))
	case bool:
		if v {
			return []byte{1}
		}
		return []byte{0}
	default:
		return []byte(textOf(v))
	}
}
