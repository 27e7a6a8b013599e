package config

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// maxMistakes is how many mistakes an Error lists.
const maxMistakes = 100

// Mistake is one thing that is wrong in a config file, in words for a person.
type Mistake struct {
	Line   int    `json:"line"`   // from 1; 0 when it is about the whole file
	Column int    `json:"column"` // from 1, in characters; 0 when it is about the whole line
	Path   string `json:"path"`   // the key, as in tunnels[2].port; empty when it is about no key
	Text   string `json:"text"`   // what is wrong and what to do

	Tunnel string `json:"-"` // the tunnel whose settings a policy overrules, if it is about one
}

// String is the mistake without the name of the file.
func (m Mistake) String() string {
	var b strings.Builder
	if m.Line > 0 {
		fmt.Fprintf(&b, "%d:", m.Line)
		if m.Column > 0 {
			fmt.Fprintf(&b, "%d:", m.Column)
		}
		b.WriteByte(' ')
	}
	if m.Path != "" {
		b.WriteString(m.Path + ": ")
	}
	b.WriteString(m.Text)
	return b.String()
}

// Error is a config file that cannot be used, with every mistake in it, in the
// order of the file.
type Error struct {
	Path     string    `json:"path"`
	Mistakes []Mistake `json:"mistakes"` // at least one
}

// Error lists the mistakes, one a line, each after the file's name.
func (e *Error) Error() string {
	lines := make([]string, len(e.Mistakes))
	for i, m := range e.Mistakes {
		sep := ": "
		if m.Line > 0 {
			sep = ":"
		}
		lines[i] = e.Path + sep + m.String()
	}
	return strings.Join(lines, "\n")
}

// Summary is one sentence for where there is no room for all.
func (e *Error) Summary() string {
	first, name := e.Mistakes[0], filepath.Base(e.Path)
	where := name
	if first.Line > 0 {
		where = fmt.Sprintf("%s line %d", name, first.Line)
	}
	text := first.Text
	if first.Path != "" {
		text = first.Path + ": " + text
	}
	if more := len(e.Mistakes) - 1; more > 0 {
		return fmt.Sprintf("%s: %s (and %d more)", where, text, more)
	}
	return where + ": " + text
}

// mistakes gathers what is wrong with one file.
type mistakes []Mistake

func (ms *mistakes) add(at position, path, format string, args ...any) {
	*ms = append(*ms, Mistake{Line: at.line, Column: at.column, Path: path, Text: fmt.Sprintf(format, args...)})
}

// err is the Error of what was gathered, or nil.
func (ms mistakes) err(path string) *Error {
	if len(ms) == 0 {
		return nil
	}
	slices.SortStableFunc(ms, func(a, b Mistake) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	ms = slices.Compact(ms)
	if more := len(ms) - maxMistakes; more > 0 {
		ms = append(ms[:maxMistakes:maxMistakes], Mistake{Text: fmt.Sprintf("and %d more mistakes", more)})
	}
	return &Error{Path: path, Mistakes: ms}
}

// position is a place in the file, both from 1.
type position struct{ line, column int }
