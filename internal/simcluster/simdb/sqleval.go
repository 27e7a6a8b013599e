package simdb

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// evaluator evaluates expressions for one server and one connection.
type evaluator struct {
	// call evaluates a function or variable.
	call   func(ctx context.Context, name string, args []any) (any, error)
	params []any
}

// maxRepeat bounds the strings that repeat makes.
const maxRepeat = 1 << 26

// rows evaluates a query and passes each row to emit, until one of them fails.
// It returns how many rows there were.
func (ev evaluator) rows(ctx context.Context, q *query, emit func(row []any) error) (int, error) {
	first, last := int64(1), int64(1)
	if q.series != nil {
		var err error
		if first, err = ev.number(ctx, q.series[0], 0); err != nil {
			return 0, err
		}
		if last, err = ev.number(ctx, q.series[1], 0); err != nil {
			return 0, err
		}
	}
	if q.limit != nil {
		limit, err := ev.number(ctx, q.limit, 0)
		if err != nil {
			return 0, err
		}
		last = min(last, first+limit-1)
	}
	n := 0
	row := make([]any, len(q.items))
	for i := first; i <= last; i++ {
		if ctx.Err() != nil {
			return n, context.Cause(ctx)
		}
		for col, item := range q.items {
			v, err := ev.eval(ctx, item.expr, i)
			if err != nil {
				return n, err
			}
			row[col] = v
		}
		if err := emit(row); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// eval returns a string, int64, bool or nil; series is the current value of
// the statement's series.
func (ev evaluator) eval(ctx context.Context, e *expr, series int64) (any, error) {
	switch e.op {
	case opLiteral:
		return cast(e.value, e.kind)
	case opParam:
		if e.index >= len(ev.params) {
			return nil, fmt.Errorf("there is no parameter $%d", e.index+1)
		}
		return cast(ev.params[e.index], e.kind)
	case opSeries:
		return series, nil
	case opBinary:
		return ev.binary(ctx, e, series)
	default: // opCall
	}
	args := make([]any, len(e.args))
	for i, arg := range e.args {
		v, err := ev.eval(ctx, arg, series)
		if err != nil {
			return nil, err
		}
		args[i] = v
	}
	if e.name == "repeat" && len(args) == 2 {
		return repeat(args)
	}
	return ev.call(ctx, e.name, args)
}

func repeat(args []any) (any, error) {
	n, err := strconv.Atoi(textOf(args[1]))
	s := textOf(args[0])
	if err != nil || n > maxRepeat/max(len(s), 1) {
		return nil, fmt.Errorf("repeat: cannot repeat %q times", textOf(args[1]))
	}
	return strings.Repeat(s, max(n, 0)), nil
}

func (ev evaluator) binary(ctx context.Context, e *expr, series int64) (any, error) {
	if e.name == "||" {
		left, err := ev.eval(ctx, e.args[0], series)
		if err != nil {
			return nil, err
		}
		right, err := ev.eval(ctx, e.args[1], series)
		if err != nil {
			return nil, err
		}
		return textOf(left) + textOf(right), nil
	}
	a, err := ev.number(ctx, e.args[0], series)
	if err != nil {
		return nil, err
	}
	b, err := ev.number(ctx, e.args[1], series)
	if err != nil {
		return nil, err
	}
	switch e.name {
	case "+":
		return a + b, nil
	case "-":
		return a - b, nil
	default:
		return a * b, nil
	}
}

func (ev evaluator) number(ctx context.Context, e *expr, series int64) (int64, error) {
	v, err := ev.eval(ctx, e, series)
	if err != nil {
		return 0, err
	}
	v, err = cast(v, kindInt)
	if err != nil {
		return 0, err
	}
	n, _ := v.(int64) // null counts as zero
	return n, nil
}

// cast makes a value of the kind it is said to have.
func cast(v any, kind valueKind) (any, error) {
	if v == nil {
		return nil, nil // null is a value
	}
	switch kind {
	case kindInt:
		if n, ok := v.(int64); ok {
			return n, nil
		}
		n, err := strconv.ParseInt(textOf(v), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("invalid input syntax for type integer: %q", textOf(v))
		}
		return n, nil
	case kindBool:
		if b, ok := v.(bool); ok {
			return b, nil
		}
		switch strings.ToLower(textOf(v)) {
		case "t", "true", "1", "on", "yes":
			return true, nil
		default:
			return false, nil
		}
	default:
		return textOf(v), nil
	}
}

// textOf returns a value as servers print it.
func textOf(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case int64:
		return strconv.FormatInt(v, 10)
	case bool:
		if v {
			return "t"
		}
		return "f"
	default:
		return fmt.Sprint(v)
	}
}

// pause sleeps for a number of seconds, as pg_sleep and sleep do.
func pause(ctx context.Context, seconds any) error {
	s, err := strconv.ParseFloat(textOf(seconds), 64)
	if err != nil {
		return fmt.Errorf("invalid duration %q", textOf(seconds))
	}
	t := time.NewTimer(time.Duration(s * float64(time.Second)))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
