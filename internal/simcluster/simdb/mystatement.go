package simdb

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// parse parses one statement.
func (c *myConn) parse(sql string) (*myStatement, error) {
	tokens, err := lexSQL(sql)
	if err != nil {
		return nil, err
	}
	for len(tokens) > 0 && tokens[len(tokens)-1].text == ";" {
		tokens = tokens[:len(tokens)-1]
	}
	if len(tokens) == 0 {
		return nil, fmt.Errorf("Query was empty") // MySQL's words
	}
	if isIdentityQuery(tokens) {
		stmt := &myStatement{columns: []pgColumn{{name: "name"}, {name: "value"}}}
		for _, kv := range c.session.identity() {
			stmt.fixed = append(stmt.fixed, []any{kv[0], kv[1]})
		}
		return stmt, nil
	}
	switch tokens[0].text {
	case "select":
		return parseMySelect(tokens)
	case "show":
		return c.show(tokens), nil
	case "use":
		if len(tokens) == 2 {
			return &myStatement{use: tokens[1].text}, nil
		}
	case "kill":
		id, err := strconv.ParseUint(tokens[len(tokens)-1].text, 10, 32)
		if err == nil {
			return &myStatement{kill: uint32(id)}, nil
		}
	case "set", "begin", "start", "commit", "rollback", "flush", "do":
		return &myStatement{}, nil
	}
	return nil, fmt.Errorf("the simulated MySQL does not know %q", tokens[0].text)
}

func parseMySelect(tokens []token) (*myStatement, error) {
	q, err := parseSelect(tokens, myDialect{})
	if err != nil {
		return nil, err
	}
	stmt := &myStatement{q: q}
	for _, item := range q.items {
		name := item.name
		if item.op == opCall && len(item.args) == 0 && name == item.expr.name && !strings.HasPrefix(name, "@@") {
			name += "()"
		}
		stmt.columns = append(stmt.columns, pgColumn{name: name, kind: item.kind})
	}
	return stmt, nil
}

// show answers the statements that clients use to look around.
func (c *myConn) show(tokens []token) *myStatement {
	what := ""
	if len(tokens) > 1 {
		what = tokens[1].text
	}
	switch what {
	case "databases", "schemas":
		return &myStatement{columns: []pgColumn{{name: "Database"}}, fixed: [][]any{{c.db}}}
	case "variables", "status":
		return &myStatement{columns: []pgColumn{{name: "Variable_name"}, {name: "Value"}}}
	case "warnings":
		return &myStatement{columns: []pgColumn{{name: "Level"}, {name: "Code", kind: kindInt}, {name: "Message"}}}
	default:
		return &myStatement{columns: []pgColumn{{name: "Tables"}}}
	}
}

// myDialect knows MySQL's functions and variables.
type myDialect struct{}

func (myDialect) kindOf(name string, args int) (valueKind, bool) {
	switch name {
	case "version", "user", "current_user", "session_user", "system_user", "database", "schema", "now",
		"current_timestamp":
		return kindText, args == 0
	case "connection_id":
		return kindInt, args == 0
	case "sleep", "length":
		return kindInt, args == 1
	case "repeat":
		return kindText, args == 2
	default:
		return kindText, strings.HasPrefix(name, "@@")
	}
}

// prepare answers a prepare of the binary protocol.
func (c *myConn) prepare(sql string) error {
	stmt, err := c.parse(sql)
	if err != nil {
		return myError(err)
	}
	c.nextStmt++
	c.statements[c.nextStmt] = &myPrepared{myStatement: stmt}
	params := 0
	if stmt.q != nil {
		params = len(stmt.q.params)
	}
	b := binary.LittleEndian.AppendUint32([]byte{0}, c.nextStmt)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(stmt.columns)))
	b = binary.LittleEndian.AppendUint16(b, uint16(params))
	if err := c.wire.write(append(b, 0, 0, 0)); err != nil {
		return err
	}
	if params > 0 {
		cols := make([]pgColumn, params)
		for i := range cols {
			cols[i].name = "?"
		}
		if err := c.wire.columns(cols); err != nil {
			return err
		}
	}
	if len(stmt.columns) == 0 {
		return nil
	}
	return c.wire.columns(stmt.columns)
}

// execute answers an execute of the binary protocol.
func (c *myConn) execute(ctx context.Context, arg []byte) error {
	r := &myReader{b: arg}
	stmt, ok := c.statements[r.uint32()]
	if !ok {
		return &mySQLError{1243, "HY000", "Unknown prepared statement handler"}
	}
	r.take(1 + 4) // flags, iterations
	params, err := stmt.bind(r)
	if err != nil {
		return myError(err)
	}
	return c.run(ctx, stmt.myStatement, params, func(row []any) error {
		return c.wire.binaryRow(row, stmt.columns)
	})
}

// bind reads the parameters of an execute.
func (p *myPrepared) bind(r *myReader) ([]any, error) {
	if p.q == nil || len(p.q.params) == 0 {
		return nil, r.err
	}
	n := len(p.q.params)
	nulls := r.take((n + 7) / 8)
	if r.err != nil {
		return nil, r.err
	}
	if r.byte() == 1 {
		p.types = append([]byte(nil), r.take(2*n)...)
	}
	if r.err != nil || len(p.types) != 2*n {
		return nil, errMyShort
	}
	params := make([]any, n)
	for i := range params {
		if nulls[i/8]&(1<<(i%8)) == 0 {
			params[i] = r.value(p.types[2*i])
		}
	}
	return params, r.err
}

// value reads a parameter of the binary protocol.
func (r *myReader) value(typ byte) any {
	switch typ {
	case myTypeNull:
		return nil
	case myTypeTiny:
		return int64(int8(r.byte()))
	case myTypeShort:
		return int64(int16(r.uint16()))
	case myTypeLong, myTypeInt24:
		return int64(int32(r.uint32()))
	case myTypeLongLong:
		return int64(r.uint64())
	case myTypeFloat:
		return fmt.Sprint(math.Float32frombits(r.uint32()))
	case myTypeDouble:
		return fmt.Sprint(math.Float64frombits(r.uint64()))
	default:
		return r.lenenc()
	}
}
