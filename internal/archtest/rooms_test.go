package archtest

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	// maxAgentLines is how large the agent's own package may be: what has a subject
	// of its own is a room.
	maxAgentLines = 2000
	// maxMethodFiles is how many files the methods of a room's type may stand in. A
	// reader of one that is scattered never learns half of what it does.
	maxMethodFiles = 2
)

// rooms are those of the agent.
var rooms = []string{
	"agent", "agent/kubelocal", "agent/login", "agent/memory", "agent/metrics", "agent/process", "agent/recordings",
	"agent/registry", "agent/renew", "agent/requests", "agent/sessions", "agent/telemetry", "agent/tsh", "agent/tunnel", "agent/tunnel/history",
}

func TestRooms(t *testing.T) {
	for _, room := range rooms {
		lines, methods := 0, make(map[string]map[string]bool)
		files, err := filepath.Glob(filepath.Join("..", "..", filepath.FromSlash(room), "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range files {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			src, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			lines += bytes.Count(src, []byte("\n"))
			f, err := parser.ParseFile(token.NewFileSet(), path, src, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			for _, decl := range f.Decls {
				if m, ok := decl.(*ast.FuncDecl); ok && m.Recv != nil {
					name := receiver(m)
					if methods[name] == nil {
						methods[name] = make(map[string]bool)
					}
					methods[name][filepath.Base(path)] = true
				}
			}
		}
		if len(methods) == 0 {
			t.Errorf("%s has no methods: the check looks at the wrong folder", room)
		}
		if room == "agent" && lines > maxAgentLines {
			t.Errorf("package agent has %d lines, %d may be: a subject of its own is a room", lines, maxAgentLines)
		}
		for name, in := range methods {
			if len(in) > maxMethodFiles {
				t.Errorf("the methods of %s.%s stand in %d files: %s", room, name, len(in), strings.Join(slices.Sorted(maps.Keys(in)), " "))
			}
		}
	}
}

// receiver is the name of the type that a method is of.
func receiver(m *ast.FuncDecl) string {
	name := ""
	ast.Inspect(m.Recv.List[0].Type, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok && name == "" {
			name = id.Name
		}
		return true
	})
	return name
}
