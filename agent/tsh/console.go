package tsh

import (
	"bytes"
	"strconv"
	"strings"
)

// screenText turns what a Windows console paints into lines of text. A console
// does not pass on what a program prints, but tells how the screen changes: it
// moves the cursor where the program ended a line or printed blanks.
type screenText struct {
	row     int
	pending []byte // of an escape sequence that is not complete
	// asked is called when the console asks who reads it; it waits several seconds
	// for an answer. nil means that none is given.
	asked func()
}

// maxSequence is longer than any sequence that is understood.
const maxSequence = 4 << 10

// text returns the text in the next bytes of the stream.
func (s *screenText) text(p []byte) []byte {
	p = append(s.pending, p...)
	s.pending = nil
	var out []byte
	for len(p) > 0 {
		if p[0] != 0x1b {
			if p[0] == '\n' {
				s.row++
			}
			if p[0] != '\r' {
				out = append(out, p[0])
			}
			p = p[1:]
			continue
		}
		n := sequenceLength(p)
		if n == 0 && len(p) < maxSequence {
			s.pending = bytes.Clone(p)
			return out
		}
		n = max(1, n)
		out = append(out, s.sequence(string(p[:n]))...)
		p = p[n:]
	}
	return out
}

// sequenceLength returns how long the escape sequence is that p begins with; 0
// means that it is not complete.
func sequenceLength(p []byte) int {
	if len(p) < 2 {
		return 0
	}
	switch p[1] {
	case '[':
		for i, c := range p[2:] {
			if c >= '@' && c <= '~' {
				return i + 3
			}
		}
		return 0
	case ']', 'P', '_', '^': // up to BEL or ST
		for i, c := range p[2:] {
			if c == 7 || c == '\\' && p[i+1] == 0x1b {
				return i + 3
			}
		}
		return 0
	default:
		return 2
	}
}

// sequence returns what an escape sequence does to the text.
func (s *screenText) sequence(seq string) string {
	if !strings.HasPrefix(seq, "\x1b[") {
		return ""
	}
	arguments := seq[2 : len(seq)-1]
	first, _, _ := strings.Cut(arguments, ";")
	n, err := strconv.Atoi(first)
	if err != nil || n < 1 {
		n = 1
	}
	switch seq[len(seq)-1] {
	case 'H', 'f': // to a row and a column
		if n-1 == s.row {
			return ""
		}
		s.row = n - 1
		return "\n"
	case 'B', 'E': // down
		s.row += n
		return "\n"
	case 'C': // to the right
		return strings.Repeat(" ", min(n, maxLine))
	case 'c':
		if s.asked != nil && (arguments == "" || arguments == "0") {
			s.asked()
		}
	}
	return ""
}
