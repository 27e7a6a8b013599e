package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"berth/internal/plain"
)

// cleanLines cleans a text that may have several lines. Those after the first
// are indented, so that none can pass for a line of berth's.
func cleanLines(s string) string {
	lines := strings.Split(strings.TrimRight(plain.Text(s), "\n"), "\n")
	for i, line := range lines[1:] {
		lines[i+1] = "  " + strings.TrimPrefix(line, "  ")
	}
	return strings.Join(lines, "\n")
}

// printJSON prints v, indented.
func (a *app) printJSON(v any) error { return a.writeJSON(v, "  ") }

// writeJSON prints v, safe to look at.
func (a *app) writeJSON(v any, indent string) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // connection strings have ampersands
	enc.SetIndent("", indent)
	if err := enc.Encode(v); err != nil {
		return err
	}
	_, err := a.out.Write(plain.JSON(b.Bytes()))
	return err
}

// The colours of states. Words say the same.
const (
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	red    = "\x1b[31m"
	bold   = "\x1b[1m"
	reset  = "\x1b[0m"
)

func (a *app) paint(color, s string) string {
	if !a.color || color == "" {
		return s
	}
	return color + s + reset
}

// join joins words of any string type with commas.
func join[T ~string](items []T) string {
	words := make([]string, len(items))
	for i, it := range items {
		words[i] = string(it)
	}
	return strings.Join(words, ", ")
}

// words turns a state's name into words.
func words[T ~string](s T) string { return plain.Line(strings.ReplaceAll(string(s), "_", " ")) }

// size words a number of bytes.
func size(n int64) string {
	const unit = 1000
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	value, names := float64(n)/unit, []string{"kB", "MB", "GB", "TB"}
	for value >= unit && len(names) > 1 {
		value, names = value/unit, names[1:]
	}
	return fmt.Sprintf("%.1f %s", value, names[0])
}
