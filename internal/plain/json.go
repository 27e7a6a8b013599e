package plain

import (
	"bytes"
	"fmt"
	"unicode/utf16"
	"unicode/utf8"
)

// JSON escapes what [Invisible] matches in a JSON text: it says the same, and is safe
// to look at. Outside of strings there is none but the white space of ASCII.
func JSON(text []byte) []byte {
	if bytes.IndexFunc(text, escapedInJSON) < 0 {
		return text
	}
	out := make([]byte, 0, len(text)+64)
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		switch {
		case !escapedInJSON(r):
			out = append(out, text[:size]...)
		case r > 0xffff:
			hi, lo := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, hi, lo)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
		text = text[size:]
	}
	return out
}

func escapedInJSON(r rune) bool { return r >= utf8.RuneSelf-1 && Invisible(r) }
