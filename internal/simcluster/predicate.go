package simcluster

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
)

// evalPredicate evaluates a condition of Teleport's predicate language as far
// as reviews need it: contains and equals over variables, &&, ||, ! and
// parentheses. The language has Go's syntax, so Go's parser reads it.
func evalPredicate(expr string, vars map[string]any) (bool, error) {
	tree, err := parser.ParseExpr(expr)
	if err != nil {
		return false, fmt.Errorf("parse %q: %w", expr, err)
	}
	return evalBool(tree, vars)
}

func evalBool(e ast.Expr, vars map[string]any) (bool, error) {
	switch e := e.(type) {
	case *ast.ParenExpr:
		return evalBool(e.X, vars)
	case *ast.UnaryExpr:
		ok, err := evalBool(e.X, vars)
		if err == nil && e.Op != token.NOT {
			err = fmt.Errorf("operator %s is not supported", e.Op)
		}
		return !ok, err
	case *ast.BinaryExpr:
		left, err := evalBool(e.X, vars)
		if err != nil {
			return false, err
		}
		right, err := evalBool(e.Y, vars)
		switch e.Op {
		case token.LAND:
			return left && right, err
		case token.LOR:
			return left || right, err
		default:
			return false, fmt.Errorf("operator %s is not supported", e.Op)
		}
	case *ast.CallExpr:
		return evalCall(e, vars)
	default:
		return false, fmt.Errorf("expression %T is not supported", e)
	}
}

func evalCall(call *ast.CallExpr, vars map[string]any) (bool, error) {
	name, ok := call.Fun.(*ast.Ident)
	if !ok || len(call.Args) != 2 {
		return false, fmt.Errorf("not a call of two arguments")
	}
	left, err := evalValue(call.Args[0], vars)
	if err != nil {
		return false, err
	}
	right, err := evalValue(call.Args[1], vars)
	if err != nil {
		return false, err
	}
	switch name.Name {
	case "contains":
		list, ok := left.([]string)
		want, isString := right.(string)
		if !ok || !isString {
			return false, fmt.Errorf("contains takes a list and a string")
		}
		return slices.Contains(list, want), nil
	case "equals":
		return fmt.Sprint(left) == fmt.Sprint(right), nil
	default:
		return false, fmt.Errorf("function %q is not supported", name.Name)
	}
}

func evalValue(e ast.Expr, vars map[string]any) (any, error) {
	switch e := e.(type) {
	case *ast.BasicLit:
		return strconv.Unquote(e.Value)
	case *ast.SelectorExpr:
		if base, ok := e.X.(*ast.Ident); ok {
			if v, ok := vars[base.Name+"."+e.Sel.Name]; ok {
				return v, nil
			}
		}
	case *ast.IndexExpr:
		traits, err := evalValue(e.X, vars)
		if err != nil {
			return nil, err
		}
		key, err := evalValue(e.Index, vars)
		if err != nil {
			return nil, err
		}
		if m, ok := traits.(map[string][]string); ok {
			return m[fmt.Sprint(key)], nil
		}
	}
	return nil, fmt.Errorf("unknown variable in %T", e)
}
