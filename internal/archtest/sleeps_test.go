package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// maxSleeps is how many sleeps there may be in tests that take real time. It may
// only become less.
const maxSleeps = 15

// TestSleeps counts the fixed sleeps of tests outside synctest bubbles: a test
// that waits for something uses testwait, for time to pass a bubble. What takes
// a random time, or another one each round, looks for the moment at which
// something breaks. What ends with its context is wake.Sleep.
func TestSleeps(t *testing.T) {
	root, besides := filepath.Join("..", ".."), []string{"testdata", "build", "node_modules"}
	folders := make(map[string][]*ast.File)
	files := token.NewFileSet()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (slices.Contains(besides, d.Name()) || strings.HasPrefix(d.Name(), ".") && path != root) {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
		folders[filepath.Dir(path)] = append(folders[filepath.Dir(path)], f)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var slept []string
	bubbles := 0
	for _, folder := range folders {
		for at, inBubble := range sleepsOf(folder) {
			if inBubble {
				bubbles++
				continue
			}
			slept = append(slept, strings.TrimPrefix(files.Position(at).String(), root+string(filepath.Separator)))
		}
	}
	slices.Sort(slept)
	if bubbles == 0 {
		t.Error("no sleep in a bubble was seen: the check looks at the wrong folder")
	}
	if len(slept) > maxSleeps {
		t.Errorf("%d sleeps take real time, %d may", len(slept), maxSleeps)
	}
	t.Logf("%d:\n%s", len(slept), strings.Join(slept, "\n"))
}

// sleepsOf finds the sleeps in a folder's files, and whether each is in a bubble:
// in a func that synctest.Test is called with, or in a function that only
// such funcs name.
func sleepsOf(files []*ast.File) map[token.Pos]bool {
	type use struct {
		by     string // the function around it; empty: none
		bubble bool
	}
	openers := make(map[string]bool) // functions that are handed what is to run in a bubble
	for _, file := range files {
		for _, decl := range file.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && takesFunc(f) {
				ast.Inspect(f, func(n ast.Node) bool {
					call, ok := n.(*ast.CallExpr)
					openers[f.Name.Name] = openers[f.Name.Name] || ok && isCall(call, "synctest", "Test")
					return true
				})
			}
		}
	}
	opens := func(call *ast.CallExpr) bool {
		id, ok := call.Fun.(*ast.Ident)
		return ok && openers[id.Name]
	}
	uses := make(map[string][]use) // of functions, by name
	sleeps := make(map[token.Pos]use)
	for _, file := range files {
		for _, decl := range file.Decls {
			var around string
			if f, ok := decl.(*ast.FuncDecl); ok {
				around = f.Name.Name
			}
			var walk func(n ast.Node, bubble bool)
			walk = func(n ast.Node, bubble bool) {
				ast.Inspect(n, func(n ast.Node) bool {
					switch n := n.(type) {
					case *ast.FuncDecl:
						walk(n.Body, bubble) // its name is no use of it
						return false
					case *ast.CallExpr:
						if (isCall(n, "synctest", "Test") || opens(n)) && !bubble {
							for _, arg := range n.Args {
								walk(arg, true)
							}
							return false
						}
						changes := slices.ContainsFunc(n.Args, func(e ast.Expr) bool { return mentions(e, "rand", "round") })
						if isCall(n, "time", "Sleep") && !changes {
							sleeps[n.Pos()] = use{around, bubble}
						}
					case *ast.CommClause: // a limit, not a sleep
						for _, stmt := range n.Body {
							walk(stmt, bubble)
						}
						if send, ok := n.Comm.(*ast.AssignStmt); ok {
							walk(send, bubble)
						}
						return false
					case *ast.ExprStmt:
						if rx, ok := n.X.(*ast.UnaryExpr); ok && rx.Op == token.ARROW {
							if call, ok := rx.X.(*ast.CallExpr); ok && isCall(call, "time", "After") {
								sleeps[n.Pos()] = use{around, bubble}
							}
						}
					case *ast.Ident:
						uses[n.Name] = append(uses[n.Name], use{around, bubble})
					}
					return true
				})
			}
			walk(decl, false)
		}
	}
	inBubble := make(map[string]bool)
	for again := true; again; {
		again = false
		for name, of := range uses {
			if !inBubble[name] && !slices.ContainsFunc(of, func(u use) bool { return !u.bubble && u.by != name && !inBubble[u.by] }) {
				inBubble[name], again = true, true
			}
		}
	}
	found := make(map[token.Pos]bool)
	for at, s := range sleeps {
		found[at] = s.bubble || inBubble[s.by]
	}
	return found
}

func mentions(e ast.Expr, names ...string) (found bool) {
	ast.Inspect(e, func(n ast.Node) bool {
		id, ok := n.(*ast.Ident)
		found = found || ok && slices.Contains(names, id.Name)
		return true
	})
	return found
}

func isCall(call *ast.CallExpr, pkg, name string) bool {
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || sel.Sel.Name != name {
		return false
	}
	id, ok := sel.X.(*ast.Ident)
	return ok && id.Name == pkg
}

func takesFunc(f *ast.FuncDecl) bool {
	return slices.ContainsFunc(f.Type.Params.List, func(p *ast.Field) bool {
		_, ok := p.Type.(*ast.FuncType)
		return ok
	})
}
