package config

import (
	"bytes"
	"cmp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// splice puts text in the place of a range of bytes.
type splice struct {
	from, to int
	with     string
}

// source is the text of a file with its lines, as the YAML parser counts them.
type source struct {
	text   []byte
	starts []int
}

func newSource(text []byte) *source { return &source{text, lineStarts(text)} }

// apply returns the text with splices made, which must not overlap.
func (s *source) apply(splices []splice) []byte {
	slices.SortStableFunc(splices, func(a, b splice) int { return cmp.Compare(a.from, b.from) })
	var out []byte
	at := 0
	for _, sp := range splices {
		out = append(out, s.text[at:sp.from]...)
		out = append(out, sp.with...)
		at = sp.to
	}
	return append(out, s.text[at:]...)
}

// offset is the first byte of a node, its anchor and tag included.
func (s *source) offset(n *yaml.Node) int {
	start := s.starts[n.Line-1]
	return start + runeOffset(s.text[start:], n.Column-1)
}

// line is the number, from 0, of the line that the byte at off is in.
func (s *source) line(off int) int {
	i, exact := slices.BinarySearch(s.starts, off)
	if !exact {
		i--
	}
	return i
}

func (s *source) lineStart(off int) int { return s.starts[s.line(off)] }

// lineEnd returns the offset of the line after the line that contains off.
func (s *source) lineEnd(off int) int {
	if next := s.line(off) + 1; next < len(s.starts) {
		return s.starts[next]
	}
	return len(s.text)
}

// lineText is the line that begins at start, without spaces around it.
func (s *source) lineText(start int) string {
	return string(bytes.TrimSpace(s.text[start:s.lineEnd(start)]))
}

// indent is the number of spaces that begin the line of off.
func (s *source) indent(off int) int {
	start := s.lineStart(off)
	n := 0
	for start+n < len(s.text) && s.text[start+n] == ' ' {
		n++
	}
	return n
}

// ends reports whether nothing but a comment follows off on its line.
func (s *source) ends(off int) bool {
	rest := strings.TrimSpace(string(s.text[off:s.lineEnd(off)]))
	return rest == "" || strings.HasPrefix(rest, "#")
}

// eol is how lines end here: as the first one does.
func (s *source) eol() string {
	if i := bytes.IndexByte(s.text, '\n'); i > 0 && s.text[i-1] == '\r' {
		return "\r\n"
	}
	return "\n"
}

// open returns what must come before a new line at off, the end of a line:
// nothing, unless the last line of the text does not end.
func (s *source) open(off int) string {
	if off == 0 || s.lineStart(off) == off {
		return ""
	}
	return s.eol()
}

// skipSpaces returns the first byte from off on that is no space.
func (s *source) skipSpaces(off int) int {
	for off < len(s.text) && (s.text[off] == ' ' || s.text[off] == '\t') {
		off++
	}
	return off
}

// end returns the byte after a node. It reports false for what is written in
// ways that it does not follow: texts over several lines.
func (s *source) end(n *yaml.Node) (int, bool) {
	at := s.skipProperties(s.offset(n))
	switch {
	case n.Kind == yaml.AliasNode:
		return s.wordEnd(at), true
	case n.Kind == yaml.ScalarNode:
		return s.scalarEnd(n, at)
	case isFlow(n):
		return s.flowEnd(n, at)
	}
	return s.lastEnd(n, at)
}

// skipProperties passes over an anchor and a tag.
func (s *source) skipProperties(at int) int {
	for at < len(s.text) && (s.text[at] == '&' || s.text[at] == '!') {
		at = s.wordEnd(at)
		for at < len(s.text) && (isBreak(rune(s.text[at])) || s.text[at] == ' ') {
			at++
		}
	}
	return at
}

// wordEnd is the end of an alias, anchor or tag.
func (s *source) wordEnd(at int) int {
	for at < len(s.text) && !bytes.ContainsRune([]byte(" \t\r\n,[]{}"), rune(s.text[at])) {
		at++
	}
	return at
}

func (s *source) scalarEnd(n *yaml.Node, at int) (int, bool) {
	switch {
	case n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		return 0, false
	case n.Style&yaml.DoubleQuotedStyle != 0:
		for i := at + 1; i < len(s.text); i++ {
			switch s.text[i] {
			case '\\':
				i++
			case '"':
				return i + 1, true
			}
		}
		return 0, false
	case n.Style&yaml.SingleQuotedStyle != 0:
		for i := at + 1; i < len(s.text); i++ {
			if s.text[i] != '\'' {
				continue
			}
			if i+1 == len(s.text) || s.text[i+1] != '\'' {
				return i + 1, true
			}
			i++
		}
		return 0, false
	}
	if !bytes.HasPrefix(s.text[at:], []byte(n.Value)) {
		return 0, false
	}
	return at + len(n.Value), true
}

// lastEnd is the end of what a collection holds; at when it holds nothing.
func (s *source) lastEnd(n *yaml.Node, at int) (int, bool) {
	if len(n.Content) == 0 {
		return at, true
	}
	last := n.Content[len(n.Content)-1]
	if n.Kind == yaml.MappingNode && empty(last) {
		colon, ok := s.colon(n.Content[len(n.Content)-2])
		return colon + 1, ok
	}
	return s.end(last)
}

// empty reports whether a node has no text at all: its place is then that of
// something else.
func empty(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.Value == "" && n.Anchor == "" && n.Style == 0
}

// colon is the place of the colon after a key.
func (s *source) colon(key *yaml.Node) (int, bool) {
	at, ok := s.end(key)
	if !ok {
		return 0, false
	}
	at = s.skipSpaces(at)
	return at, at < len(s.text) && s.text[at] == ':'
}

// flowEnd is the byte after the bracket that closes a collection.
func (s *source) flowEnd(n *yaml.Node, at int) (int, bool) {
	closing := byte('}')
	if n.Kind == yaml.SequenceNode {
		closing = ']'
	}
	from, ok := s.lastEnd(n, at+1)
	if !ok {
		return 0, false
	}
	for i := from; i < len(s.text); i++ {
		switch c := s.text[i]; {
		case c == closing:
			return i + 1, true
		case c == '#':
			i = s.lineEnd(i) - 1
		case c != ',' && c != ' ' && c != '\t' && c != '\r' && c != '\n':
			return 0, false
		}
	}
	return 0, false
}
