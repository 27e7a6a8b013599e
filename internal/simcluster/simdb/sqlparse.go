package simdb

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// valueKind is the type of an expression.
type valueKind int

const (
	kindText valueKind = iota
	kindInt
	kindBool
	kindVoid
)

// exprOp is what an expression does with its arguments.
type exprOp int

const (
	opLiteral exprOp = iota
	opParam
	opCall   // a function, or a variable, which is one without arguments
	opSeries // the current value of the statement's series
	opBinary
)

// expr is a parsed expression.
type expr struct {
	op    exprOp
	kind  valueKind
	name  string // function or operator
	index int    // of the parameter, from 0
	value any    // literal
	args  []*expr
}

// selectItem is one column of a select.
type selectItem struct {
	*expr
	name string
}

// query is a parsed select over at most one series of numbers.
type query struct {
	items  []selectItem
	series []*expr // from and to of generate_series; nil means one row
	limit  *expr
	params []valueKind
}

// dialect is what differs between the simulated servers.
type dialect interface {
	// kindOf returns the type of a function or variable, ok false if there is
	// none of that name.
	kindOf(name string, args int) (kind valueKind, ok bool)
}

type sqlParser struct {
	tokens  []token
	dialect dialect
	q       *query
	alias   string // the series' name, known only after the items
	waiting []*expr
	depth   int
}

// maxDepth bounds how deep brackets may nest, for each level is a Go call.
const maxDepth = 100

// parseSelect parses "select items [from series] [limit n]".
func parseSelect(tokens []token, d dialect) (*query, error) {
	p := &sqlParser{tokens: tokens, dialect: d, q: &query{}}
	p.next() // select
	for {
		if err := p.item(); err != nil {
			return nil, err
		}
		if !p.accept(",") {
			break
		}
	}
	if err := p.from(); err != nil {
		return nil, err
	}
	if p.accept("limit") {
		limit, err := p.expression()
		if err != nil {
			return nil, err
		}
		p.q.limit = limit
	}
	if tok := p.peek(); tok.kind != tokenEnd {
		return nil, syntaxError(tok)
	}
	return p.q, p.resolve()
}

func syntaxError(tok token) error {
	if tok.kind == tokenEnd {
		return fmt.Errorf("syntax error at end of input")
	}
	return fmt.Errorf("syntax error at or near %q", tok.text)
}

func (p *sqlParser) peek() token {
	if len(p.tokens) == 0 {
		return token{}
	}
	return p.tokens[0]
}

func (p *sqlParser) next() token {
	tok := p.peek()
	if len(p.tokens) > 0 {
		p.tokens = p.tokens[1:]
	}
	return tok
}

// accept skips the next token if it is that word or symbol.
func (p *sqlParser) accept(text string) bool {
	tok := p.peek()
	if (tok.kind != tokenWord && tok.kind != tokenSymbol) || tok.text != text {
		return false
	}
	p.next()
	return true
}

func (p *sqlParser) expect(text string) error {
	if !p.accept(text) {
		return syntaxError(p.peek())
	}
	return nil
}

func (p *sqlParser) item() error {
	if p.accept("*") {
		e := &expr{op: opSeries, kind: kindInt}
		p.q.items = append(p.q.items, selectItem{expr: e, name: "generate_series"})
		return nil
	}
	e, err := p.expression()
	if err != nil {
		return err
	}
	item := selectItem{expr: e, name: columnName(e)}
	if tok := p.peek(); p.accept("as") || tok.kind == tokenWord && !slices.Contains([]string{"from", "limit"}, tok.text) {
		item.name = p.next().text
	}
	p.q.items = append(p.q.items, item)
	return nil
}

func columnName(e *expr) string {
	if e.op == opCall || e.op == opSeries {
		return e.name
	}
	return "?column?"
}

func (p *sqlParser) from() error {
	if !p.accept("from") || p.accept("dual") {
		return nil
	}
	if tok := p.next(); tok.text != "generate_series" {
		return fmt.Errorf("relation %q does not exist", tok.text)
	}
	args, err := p.arguments()
	if err != nil {
		return err
	}
	if len(args) != 2 {
		return fmt.Errorf("generate_series takes a first and a last number")
	}
	p.q.series, p.alias = args, "generate_series"
	if p.accept("as") || p.peek().kind == tokenWord && p.peek().text != "limit" {
		p.alias = p.next().text
		if p.accept("(") {
			p.alias = p.next().text
			return p.expect(")")
		}
	}
	return nil
}

// resolve binds the names that were no function to the series.
func (p *sqlParser) resolve() error {
	for _, e := range p.waiting {
		if p.alias == "" || e.name != p.alias {
			return fmt.Errorf("column %q does not exist", e.name)
		}
		e.op = opSeries
	}
	if p.q.series == nil && slices.ContainsFunc(p.q.items, func(i selectItem) bool { return i.op == opSeries }) {
		return fmt.Errorf("SELECT * with no tables specified is not valid")
	}
	return nil
}

func (p *sqlParser) expression() (*expr, error) {
	left, err := p.term()
	for err == nil {
		op := p.peek()
		if op.kind != tokenSymbol || !slices.Contains([]string{"+", "-", "||"}, op.text) {
			break
		}
		p.next()
		var right *expr
		if right, err = p.term(); err == nil {
			left = binaryExpr(op.text, left, right)
		}
	}
	return left, err
}

func (p *sqlParser) term() (*expr, error) {
	left, err := p.factor()
	for err == nil && p.accept("*") {
		var right *expr
		if right, err = p.factor(); err == nil {
			left = binaryExpr("*", left, right)
		}
	}
	return left, err
}

func binaryExpr(op string, left, right *expr) *expr {
	kind := kindInt
	if op == "||" {
		kind = kindText
	}
	return &expr{op: opBinary, kind: kind, name: op, args: []*expr{left, right}}
}

// factor parses a primary expression and the casts after it.
func (p *sqlParser) factor() (*expr, error) {
	e, err := p.primary()
	for err == nil && p.accept("::") {
		e.kind = castKind(p.next().text)
		if e.op == opParam {
			p.q.params[e.index] = e.kind
		}
	}
	return e, err
}

func castKind(name string) valueKind {
	switch name {
	case "int", "integer", "int4", "int8", "bigint", "smallint":
		return kindInt
	case "bool", "boolean":
		return kindBool
	default:
		return kindText
	}
}

func (p *sqlParser) primary() (*expr, error) {
	if p.depth++; p.depth > maxDepth {
		return nil, fmt.Errorf("nested more than %d levels deep", maxDepth)
	}
	defer func() { p.depth-- }()
	tok := p.next()
	switch tok.kind {
	case tokenNumber:
		return number(tok.text)
	case tokenString:
		return &expr{op: opLiteral, value: tok.text}, nil
	case tokenParam:
		return p.param(tok.text)
	case tokenWord:
		return p.word(tok.text)
	default: // a symbol, or the end
	}
	switch tok.text {
	case "(":
		e, err := p.expression()
		if err != nil {
			return nil, err
		}
		return e, p.expect(")")
	case "-":
		e, err := p.primary()
		if err != nil {
			return nil, err
		}
		return binaryExpr("-", &expr{op: opLiteral, kind: kindInt, value: int64(0)}, e), nil
	default:
		return nil, syntaxError(tok)
	}
}

func number(text string) (*expr, error) {
	if strings.Contains(text, ".") {
		return &expr{op: opLiteral, value: text}, nil // only durations have a fraction here
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("number %q is out of range", text)
	}
	return &expr{op: opLiteral, kind: kindInt, value: n}, nil
}

// maxParams bounds what a hostile $n makes the parser allocate.
const maxParams = 1000

func (p *sqlParser) param(text string) (*expr, error) {
	index := len(p.q.params)
	if text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxParams {
			return nil, fmt.Errorf("there is no parameter $%s", text)
		}
		index = n - 1
	}
	if index >= maxParams {
		return nil, fmt.Errorf("more than %d parameters", maxParams)
	}
	for len(p.q.params) <= index {
		p.q.params = append(p.q.params, kindText)
	}
	return &expr{op: opParam, index: index}, nil
}

// word parses a name: a function call, a variable, or the series' name.
func (p *sqlParser) word(name string) (*expr, error) {
	switch name {
	case "true", "false":
		return &expr{op: opLiteral, kind: kindBool, value: name == "true"}, nil
	case "null":
		return &expr{op: opLiteral}, nil
	}
	name = strings.TrimPrefix(name, "pg_catalog.")
	var args []*expr
	if p.peek().text == "(" && p.peek().kind == tokenSymbol {
		var err error
		if args, err = p.arguments(); err != nil {
			return nil, err
		}
		if name == "generate_series" && len(args) == 2 {
			p.q.series = args
			return &expr{op: opSeries, kind: kindInt, name: name}, nil
		}
	}
	if kind, ok := p.dialect.kindOf(name, len(args)); ok {
		return &expr{op: opCall, kind: kind, name: name, args: args}, nil
	}
	if args != nil {
		return nil, fmt.Errorf("function %s does not exist", name)
	}
	e := &expr{op: opCall, kind: kindInt, name: name}
	p.waiting = append(p.waiting, e)
	return e, nil
}

func (p *sqlParser) arguments() ([]*expr, error) {
	if err := p.expect("("); err != nil {
		return nil, err
	}
	args := []*expr{}
	if p.accept(")") {
		return args, nil
	}
	for {
		e, err := p.expression()
		if err != nil {
			return nil, err
		}
		args = append(args, e)
		if p.accept(")") {
			return args, nil
		}
		if err := p.expect(","); err != nil {
			return nil, err
		}
	}
}
