package simdb

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"
)

// Object ids of PostgreSQL's types.
const (
	oidBool = 16
	oidInt8 = 20
	oidInt2 = 21
	oidInt4 = 23
	oidText = 25
)

// pgTags are the statements that are done by saying so, with what PostgreSQL
// calls them.
var pgTags = map[string]string{
	"begin": "BEGIN", "start": "BEGIN", "commit": "COMMIT", "end": "COMMIT", "rollback": "ROLLBACK",
	"abort": "ROLLBACK", "set": "SET", "reset": "RESET", "discard": "DISCARD ALL", "deallocate": "DEALLOCATE",
	"listen": "LISTEN", "vacuum": "VACUUM",
}

// pgSettings is what SHOW says; the others are empty.
var pgSettings = map[string]string{
	"server_version": pgVersion, "server_encoding": "UTF8", "client_encoding": "UTF8", "search_path": `"$user", public`,
	"transaction isolation level": "read committed", "transaction_isolation": "read committed",
	"transaction_read_only": "off", "default_transaction_read_only": "off", "in_hot_standby": "off",
	"standard_conforming_strings": "on", "integer_datetimes": "on", "max_index_keys": "32",
}

// answer answers one statement.
func (c *pgConn) answer(ctx context.Context, sql string) (*Result, error) {
	word := firstWord(sql)
	tag, known := pgTags[word]
	switch {
	case identityQuery.MatchString(sql):
		return identityResult(c.session), nil
	case known:
		switch tag {
		case "BEGIN":
			c.inTransaction = true
		case "COMMIT", "ROLLBACK":
			c.inTransaction = false
		}
		return &Result{Tag: tag}, nil
	case word == "show":
		name := strings.ToLower(strings.TrimSpace(sql[len(word):]))
		column := strings.ReplaceAll(strings.TrimSuffix(name, " level"), " ", "_")
		return &Result{Columns: []string{column}, Rows: [][]any{{pgSettings[name]}}, Tag: "SHOW"}, nil
	}
	if r, ok, err := selectList(ctx, sql, c.value); ok || err != nil {
		return r, err
	}
	if c.pg.Query != nil {
		return c.pg.Query(ctx, c.db, sql)
	}
	return nil, fmt.Errorf("the simulated PostgreSQL does not know %q", sql)
}

// value returns the value of a function without arguments.
func (c *pgConn) value(name string) (any, bool) {
	switch name {
	case "current_user", "session_user", "user", "current_role":
		return c.user, true
	case "current_database", "current_catalog":
		return c.db, true
	case "current_schema":
		return "public", true
	case "version":
		return "PostgreSQL " + pgVersion + " (simulated)", true
	case "pg_backend_pid":
		return int64(c.pid), true
	case "pg_is_in_recovery":
		return false, true
	}
	return nil, false
}

// pgStatement is a prepared statement.
type pgStatement struct {
	sql    string
	params []uint32 // object ids
}

// pgPortal is a statement with its parameters. It runs when it is first asked
// what its rows look like.
type pgPortal struct {
	sql     string
	formats []int16
	result  *Result // nil until it has run
}

// param is a parameter in a statement.
var param = regexp.MustCompile(`\$([1-9]\d?)\b`)

// extended answers a message of the extended protocol.
func (c *pgConn) extended(ctx context.Context, msg pgproto3.FrontendMessage) {
	var err error
	switch msg := msg.(type) {
	case *pgproto3.Parse:
		err = c.parse(msg)
	case *pgproto3.Bind:
		err = c.bind(msg)
	case *pgproto3.Describe:
		err = c.describe(ctx, msg)
	case *pgproto3.Execute:
		portal := c.portals[msg.Portal]
		if portal == nil {
			err = fmt.Errorf("portal %q does not exist", msg.Portal)
		} else if err = c.runPortal(ctx, portal); err == nil {
			c.send(portal.result, portal.formats)
			portal.result = nil
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

func (c *pgConn) parse(msg *pgproto3.Parse) error {
	stmt := &pgStatement{}
	switch all := statements(msg.Query); len(all) {
	case 0:
	case 1:
		stmt.sql = all[0]
	default:
		return errors.New("cannot insert multiple commands into a prepared statement")
	}
	for _, m := range param.FindAllStringSubmatch(stmt.sql, -1) {
		n, err := strconv.Atoi(m[1])
		if err != nil {
			return err
		}
		for len(stmt.params) < n {
			stmt.params = append(stmt.params, oidText)
		}
	}
	for i, oid := range msg.ParameterOIDs {
		if i < len(stmt.params) && oid != 0 {
			stmt.params[i] = oid
		}
	}
	c.statements[msg.Name] = stmt
	c.be.Send(&pgproto3.ParseComplete{})
	return nil
}

// bind puts the parameters into the text of the statement.
func (c *pgConn) bind(msg *pgproto3.Bind) error {
	stmt := c.statements[msg.PreparedStatement]
	if stmt == nil {
		return fmt.Errorf("prepared statement %q does not exist", msg.PreparedStatement)
	}
	if len(msg.Parameters) != len(stmt.params) {
		return fmt.Errorf("bind message supplies %d parameters, but the statement requires %d",
			len(msg.Parameters), len(stmt.params))
	}
	literals := make([]string, len(msg.Parameters))
	for i, raw := range msg.Parameters {
		literal, err := literalOf(raw, stmt.params[i], formatOf(msg.ParameterFormatCodes, i))
		if err != nil {
			return err
		}
		literals[i] = literal
	}
	c.portals[msg.DestinationPortal] = &pgPortal{
		sql: substitute(stmt.sql, literals), formats: append([]int16(nil), msg.ResultFormatCodes...),
	}
	c.be.Send(&pgproto3.BindComplete{})
	return nil
}

// substitute replaces the parameters of a statement; those without a literal
// become null.
func substitute(sql string, literals []string) string {
	return param.ReplaceAllStringFunc(sql, func(m string) string {
		if n, err := strconv.Atoi(m[1:]); err == nil && n <= len(literals) {
			return literals[n-1]
		}
		return "null"
	})
}

// literalOf returns a parameter as SQL.
func literalOf(raw []byte, oid uint32, format int16) (string, error) {
	number := oid == oidInt2 || oid == oidInt4 || oid == oidInt8
	switch {
	case raw == nil:
		return "null", nil
	case format == pgproto3.BinaryFormat && number && len(raw) <= 8:
		n := int64(0)
		for i, b := range raw {
			if i == 0 {
				n = int64(int8(b)) // the sign
				continue
			}
			n = n<<8 | int64(b)
		}
		return strconv.FormatInt(n, 10), nil
	case format == pgproto3.BinaryFormat && oid != oidText:
		return "", fmt.Errorf("incorrect binary data format in bind parameter")
	case number:
		n, err := strconv.ParseInt(string(raw), 10, 64)
		return strconv.FormatInt(n, 10), err
	default:
		return "'" + strings.ReplaceAll(string(raw), "'", "''") + "'", nil
	}
}

// describe says what the rows of a statement or portal look like.
func (c *pgConn) describe(ctx context.Context, msg *pgproto3.Describe) error {
	portal := c.portals[msg.Name]
	if msg.ObjectType == 'S' {
		stmt := c.statements[msg.Name]
		if stmt == nil {
			return fmt.Errorf("prepared statement %q does not exist", msg.Name)
		}
		c.be.Send(&pgproto3.ParameterDescription{ParameterOIDs: stmt.params})
		portal = &pgPortal{sql: dry(stmt.sql)}
	}
	if portal == nil {
		return fmt.Errorf("portal %q does not exist", msg.Name)
	}
	if err := c.runPortal(ctx, portal); err != nil {
		return err
	}
	if len(portal.result.Columns) == 0 {
		c.be.Send(&pgproto3.NoData{})
		return nil
	}
	c.be.Send(describe(portal.result, portal.formats))
	return nil
}

// sleeps are the calls that take their time.
var sleeps = regexp.MustCompile(`(?i)(pg_sleep\()[\d.]+`)

// dry returns a statement that has the columns of sql and does nothing: a
// statement can be described before it has parameters.
func dry(sql string) string {
	switch firstWord(sql) {
	case "select", "show", "table", "with", "values":
		return sleeps.ReplaceAllString(substitute(sql, nil), "${1}0")
	}
	return ""
}

// runPortal runs a portal that has not run yet.
func (c *pgConn) runPortal(ctx context.Context, p *pgPortal) error {
	if p.result != nil {
		return nil
	}
	if p.sql == "" {
		p.result = &Result{Tag: emptyTag}
		return nil
	}
	var err error
	p.result, err = c.run(ctx, p.sql)
	return err
}

// emptyTag stands for the statement that is none.
const emptyTag = " "

// send sends the rows of a result and its end.
func (c *pgConn) send(r *Result, formats []int16) {
	if r.Tag == emptyTag {
		c.be.Send(&pgproto3.EmptyQueryResponse{})
		return
	}
	for _, row := range r.Rows {
		data := &pgproto3.DataRow{Values: make([][]byte, len(row))}
		for i, v := range row {
			data.Values[i] = encodeValue(v, formatOf(formats, i))
		}
		c.be.Send(data)
	}
	tag := r.Tag
	if tag == "" {
		tag = fmt.Sprintf("SELECT %d", len(r.Rows))
	}
	c.be.Send(&pgproto3.CommandComplete{CommandTag: []byte(tag)})
}

// describe returns the description of a result's rows. The type of a column is
// that of its first value.
func describe(r *Result, formats []int16) *pgproto3.RowDescription {
	desc := &pgproto3.RowDescription{}
	for i, name := range r.Columns {
		field := pgproto3.FieldDescription{
			Name: []byte(name), DataTypeOID: oidText, DataTypeSize: -1, TypeModifier: -1, Format: formatOf(formats, i),
		}
		for _, row := range r.Rows {
			switch row[i].(type) {
			case nil:
				continue
			case int64:
				field.DataTypeOID, field.DataTypeSize = oidInt8, 8
			case bool:
				field.DataTypeOID, field.DataTypeSize = oidBool, 1
			}
			break
		}
		desc.Fields = append(desc.Fields, field)
	}
	return desc
}

// formatOf returns the format of column or parameter i: none given means text,
// one holds for all.
func formatOf(codes []int16, i int) int16 {
	switch {
	case len(codes) == 1:
		return codes[0]
	case i < len(codes):
		return codes[i]
	default:
		return pgproto3.TextFormat
	}
}

func encodeValue(v any, format int16) []byte {
	binaryFormat := format == pgproto3.BinaryFormat
	switch v := v.(type) {
	case nil:
		return nil
	case int64:
		if binaryFormat {
			return binary.BigEndian.AppendUint64(nil, uint64(v))
		}
		return strconv.AppendInt(nil, v, 10)
	case bool:
		b := map[bool]string{true: "t", false: "f"}[v]
		if binaryFormat {
			b = map[bool]string{true: "\x01", false: "\x00"}[v]
		}
		return []byte(b)
	default:
		return []byte(fmt.Sprint(v))
	}
}
