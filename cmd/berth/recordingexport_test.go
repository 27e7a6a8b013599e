package main

import "testing"

// TestRedactPattern: a pattern that can match no character is refused, and so is
// one that matches where there is none.
func TestRedactPattern(t *testing.T) {
	for _, bad := range []string{`\b`, `\B`, `^`, `^$`, `(?:)`, `\b(?i:)\b`, `x{0}`, `x*`, `x?|y`, `(`} {
		if _, err := redactPattern(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	for _, good := range []string{`x`, `.`, `\bx*`, `[a-z]+`, `^.*\S$`, `(?s:.)`} {
		if pattern, err := redactPattern(good); err != nil || pattern == nil {
			t.Errorf("%q: %v", good, err)
		}
	}
}
