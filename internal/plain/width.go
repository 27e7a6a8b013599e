package plain

import (
	"strings"
	"unicode/utf8"

	"github.com/rivo/uniseg"
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
