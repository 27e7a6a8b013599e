package config

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"sort"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// yamlLine is how the YAML parser begins an error. Its line is often that of
// the thing around, or missing.
var yamlLine = regexp.MustCompile(`^yaml: (line \d+: )?`)

// addSyntax adds the mistake that err, from the YAML parser, is about; and
// every line that is indented with a tab, which YAML forbids.
func addSyntax(text []byte, err error, ms *mistakes) {
	tabs := tabLines(text)
	for _, at := range tabs {
		ms.add(at, "", "a tab indents this line, which YAML forbids: use spaces")
	}
	msg := syntaxMessage(err)
	at := syntaxPosition(text, msg)
	for _, t := range tabs {
		// The parser stops at the first tab, or stumbles over what it does to
		// the lines after it.
		if t.line <= at.line {
			return
		}
	}
	ms.add(at, "", "%s", plainSyntax(msg))
}

func syntaxMessage(err error) string { return yamlLine.ReplaceAllString(err.Error(), "") }

// tabLines returns the place of the first tab in every line that a tab
// indents, comments and empty lines aside.
func tabLines(text []byte) []position {
	var found []position
	starts := lineStarts(text)
	for i, start := range starts {
		end := len(text)
		if i+1 < len(starts) {
			end = starts[i+1]
		}
		line := text[start:end]
		body := bytes.TrimLeft(line, " \t")
		indent := line[:len(line)-len(body)]
		if rest := bytes.TrimSpace(body); len(rest) == 0 || rest[0] == '#' {
			continue
		}
		if tab := bytes.IndexByte(indent, '\t'); tab >= 0 {
			found = append(found, position{i + 1, tab + 1})
		}
	}
	return found
}

// syntaxPosition finds where text first goes wrong in the way msg says: the
// end of the shortest beginning of it that the parser refuses with the same
// words. The parser reads from left to right, so this is where it stood.
func syntaxPosition(text []byte, msg string) position {
	starts := append(lineStarts(text), len(text))
	fails := func(end int) bool {
		dec := yaml.NewDecoder(bytes.NewReader(text[:end]))
		for {
			var n yaml.Node
			switch err := dec.Decode(&n); {
			case errors.Is(err, io.EOF):
				return false
			case err != nil:
				return syntaxMessage(err) == msg
			}
		}
	}
	line := sort.Search(len(starts)-1, func(i int) bool { return fails(starts[i+1]) })
	if line == len(starts)-1 {
		return position{} // not reproducible: the words must do
	}
	start, end := starts[line], starts[line+1]
	width := utf8.RuneCount(text[start:end])
	column := sort.Search(width, func(i int) bool { return fails(start + runeOffset(text[start:end], i+1)) })
	if column == width {
		return position{line + 1, 0}
	}
	return position{line + 1, column + 1}
}

// runeOffset is the number of bytes of the first n runes of b.
func runeOffset(b []byte, n int) int {
	off := 0
	for range n {
		_, size := utf8.DecodeRune(b[off:])
		off += size
	}
	return off
}

// syntaxWords says in plain words what the YAML parser means.
var syntaxWords = []struct{ parser, plain string }{
	{"mapping values are not allowed", "a second \": \" on one line: indent this line like its neighbours, or put quotes around the value"},
	{"did not find expected key", "this line does not fit the lines above it: check how far it is indented"},
	{"did not find expected '-' indicator", "this line does not fit the list above it: check how far it is indented, or start it with \"- \""},
	{"did not find expected ',' or '}'", "a { is not closed here: a comma or } is missing"},
	{"did not find expected ',' or ']'", "a [ is not closed here: a comma or ] is missing"},
	{"could not find expected ':'", "a key without a value: write it as key: value"},
	{"found unexpected end of stream", "a quote is opened here and never closed"},
	{"found unknown escape character", "a backslash in double quotes starts an escape: use single quotes, or double the backslash"},
	{"did not find expected hexdecimal number", "\\x, \\u and \\U in double quotes want hexadecimal digits: use single quotes, or double the backslash"},
	{"did not find expected node content", "a value is missing here: a bracket is not closed, or a bracket or comma is too many"},
	{"found character that cannot start any token", "a value cannot start with this character: put quotes around it"},
	{"block sequence entries are not allowed", "a list cannot start here: put \"- \" on a line of its own"},
	{"block collections are not allowed", "a list or group of keys cannot start here: put it on a line of its own"},
	{"found unknown directive name", "a line cannot start with %: put quotes around it, or delete it"},
	{"unknown anchor", "this alias (*) has no anchor (&) above it: put quotes around the value if it is none"},
	{"did not find expected alphabetic or numeric character", "an anchor (&) or alias (*) without a name: put quotes around the value"},
	{"found a tab character", "a tab indents this line, which YAML forbids: use spaces"},
	{"did not find expected <document start>", "the document ends above, at the line with ...: remove that line, or what follows it"},
	{"exceeded max depth", "nested too deeply"},
}

func plainSyntax(msg string) string {
	for _, w := range syntaxWords {
		if strings.Contains(msg, w.parser) {
			return w.plain
		}
	}
	return "this is not YAML: " + msg
}
