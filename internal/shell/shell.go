// Package shell writes commands that a person may paste into a shell.
package shell

import "strings"

// Quote returns a command that a POSIX shell takes apart into args again,
// whatever is in them.
func Quote(args ...string) string {
	words := make([]string, len(args))
	for i, a := range args {
		words[i] = word(a)
	}
	return strings.Join(words, " ")
}

// word returns s as one word.
func word(s string) string {
	if s != "" && !strings.ContainsFunc(s, special) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// special reports whether a shell may make something of r.
func special(r rune) bool {
	switch {
	case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
		return false
	default:
		return !strings.ContainsRune("-_./:,=@%+", r)
	}
}
