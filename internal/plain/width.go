package plain

import (
	"strings"
	"unicode/utf8"

	"github.com/rivo/uniseg"
	"golang.org/x/text/unicode/bidi"
)

// Width returns how many columns of a terminal the clean text s takes.
func Width(s string) int {
	if isASCII(s) {
		return len(s)
	}
	columns := 0
	for len(s) > 0 {
		n, width := first(s)
		columns += width
		s = s[n:]
	}
	return columns
}

// Cut returns the clean text s, or as much of it as fits into so many columns
// with an ellipsis at the end.
func Cut(s string, columns int) string {
	if columns < 1 {
		return ""
	}
	fits, used := 0, 0 // fits leaves room for the ellipsis
	for i := 0; i < len(s); {
		n, width := first(s[i:])
		i, used = i+n, used+width
		switch {
		case used > columns:
			return strings.TrimRightFunc(s[:fits], blank) + more
		case used < columns:
			fits = i
		}
	}
	return s
}

// Middle returns the clean text s, or its beginning and its end with an ellipsis
// between, in so many columns: names differ at either end.
func Middle(s string, columns int) string {
	if Width(s) <= columns {
		return s
	}
	if columns < 4 {
		return Cut(s, columns)
	}
	bounds, widths := []int{0}, []int{} // of the characters, in bytes and in columns
	for i := 0; i < len(s); {
		n, width := first(s[i:])
		i += n
		bounds, widths = append(bounds, i), append(widths, width)
	}
	tail, from := 0, len(widths)
	for from > 0 && tail+widths[from-1] <= (columns-1)/2 {
		from--
		tail += widths[from]
	}
	head, to := 0, 0
	for to < from && head+widths[to] <= columns-1-tail {
		head += widths[to]
		to++
	}
	return s[:bounds[to]] + more + s[bounds[from]:]
}

// Wrap breaks the text s, which is clean but for colours, at its blanks into lines
// of at most so many columns; a word that is longer has a line of its own.
func Wrap(s string, columns int) []string {
	var lines []string
	line, used := "", 0
	for word := range strings.FieldsSeq(s) {
		width := Width(Line(word))
		switch {
		case line == "":
			line, used = word, width
		case used+1+width > columns:
			lines = append(lines, line)
			line, used = word, width
		default:
			line, used = line+" "+word, used+1+width
		}
	}
	return append(lines, line)
}

// Isolated returns s so that its direction of writing moves nothing around it: a
// text with letters that are written from right to left is put between isolates.
func Isolated(s string) string {
	for _, r := range s {
		if p, _ := bidi.LookupRune(r); p.Class() == bidi.R || p.Class() == bidi.AL || p.Class() == bidi.AN {
			return "\u2068" + s + "\u2069"
		}
	}
	return s
}

// Short returns the words of s, which may be anything, cut to so many columns.
func Short(s string, columns int) string { return Cut(Words(s), columns) }

// Head returns the longest beginning of s that takes at most so many bytes and
// breaks no character, without blanks at its end. It is for protocols, which
// bound bytes; what people look at is cut by [Cut].
func Head(s string, bytes int) string {
	if len(s) <= bytes {
		return s
	}
	fits := 0
	for fits < len(s) {
		n, _ := first(s[fits:])
		if fits+n > bytes {
			break
		}
		fits += n
	}
	return strings.TrimRightFunc(s[:fits], blank)
}

// first returns the length in bytes and in columns of the first character of
// s, as a reader sees it. It has at most maxCluster runes and at least one
// column, so that a number of columns bounds the bytes as well.
func first(s string) (bytes, columns int) {
	if s[0] < utf8.RuneSelf && (len(s) == 1 || s[1] < utf8.RuneSelf) {
		return 1, 1
	}
	n := 0
	for range maxCluster {
		_, size := utf8.DecodeRuneInString(s[n:])
		n += size
	}
	cluster, _, width, _ := uniseg.FirstGraphemeClusterInString(s[:n], -1)
	return len(cluster), max(1, width)
}
