package config

import (
	"encoding/json"
	"flag"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	generator "github.com/invopop/jsonschema"

	"berth/internal/doctest"
)

var update = flag.Bool("update", false, "rewrite docs/CONFIG.md")

const referenceHead = `# Configuration

` + "`berth config path`" + ` prints where the file is, ` + "`berth config edit`" + ` opens it and checks it afterwards, and ` + "`berth config check`" + `
names every mistake with its line. The agent follows every change by itself and touches only what changed; a file with
mistakes changes nothing, the last good one goes on. What berth writes into it (` + "`berth tunnel add db`" + `) leaves comments, order
and line endings as they are.

The file holds no secret and is meant for version control: without a port of its own a tunnel gets one that follows from
kind, cluster and resource, the same on every machine.

This page is made from the schema that the agent checks the file with. Editors take it from ` + "`berth config schema`" + `.

## A file with every key

`

// TestDocsConfigReference keeps docs/CONFIG.md what the schema says.
func TestDocsConfigReference(t *testing.T) {
	var schema generator.Schema
	if err := json.Unmarshal(Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s```yaml\n%s```\n", referenceHead, Example())
	describeKeys(&b, "", &schema)
	doctest.Made(t, filepath.Join("..", ".."), "CONFIG.md", b.String(), *update)
	if rows := strings.Count(b.String(), "\n| `"); rows < 40 {
		t.Errorf("the reference has %d keys: the walk over the schema is broken", rows)
	}
}

// describeKeys writes a table of the keys of an object, and after it those of
// the objects it holds.
func describeKeys(b *strings.Builder, at string, s *generator.Schema) {
	if at == "" {
		b.WriteString("\n## The keys at the top\n")
	} else {
		fmt.Fprintf(b, "\n## %s\n\n%s\n", at, s.Description)
	}
	b.WriteString("\n| key | value | meaning |\n|---|---|---|\n")
	required := make(map[string]bool)
	for _, key := range s.Required {
		required[key] = true
	}
	for p := s.Properties.Oldest(); p != nil; p = p.Next() {
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", p.Key, allowed(p.Value, required[p.Key]), cell(p.Value.Description))
	}
	for p := s.Properties.Oldest(); p != nil; p = p.Next() {
		name := strings.TrimPrefix(at+"."+p.Key, ".")
		switch {
		case p.Value.Type == "object":
			describeKeys(b, name, p.Value)
		case p.Value.Type == "array" && p.Value.Items.Type == "object":
			item := *p.Value.Items
			item.Description = "A list. " + p.Value.Description
			describeKeys(b, name, &item)
		}
	}
}

// allowed says what may stand behind a key.
func allowed(s *generator.Schema, required bool) string {
	var parts []string
	switch {
	case len(s.Enum) > 0:
		var words []string
		for _, e := range s.Enum {
			words = append(words, fmt.Sprintf("`%v`", e))
		}
		parts = append(parts, strings.Join(words, ", "))
	case s.Pattern == durationPattern:
		parts = append(parts, "duration")
	case s.Type == "array" && s.Items.Type == "object", s.Type == "object":
		parts = append(parts, "see below")
	case s.Type == "array":
		parts = append(parts, "list")
	default:
		parts = append(parts, map[string]string{"string": "text", "integer": "number", "boolean": "`true`, `false`"}[s.Type])
	}
	if s.Default != nil && s.Default != false {
		parts = append(parts, fmt.Sprintf("default `%v`", s.Default))
	}
	if required {
		parts = append(parts, "**required**")
	}
	return strings.Join(parts, "; ")
}

// cell leaves nothing in a text that would end a cell of a table.
func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }
