package replay

import (
	"bytes"
	"testing"
	"time"
)

// TestCleaner: what a screen shows stays, whatever pieces it comes in; what only a
// terminal would obey goes.
func TestCleaner(t *testing.T) {
	for given, want := range map[string]string{
		"\x1b]0;title\aa\x1b]52;c;eA==\x1b\\b\x1bPq\x1b\\":           "ab",
		"\x1b[6n\x1b[c\x1b[>q\x1b[?u\x1b[>4;2m\x1b[14t\x1bZ\x05\a":   "",
		"\x1b[?1049;1000;25h\x1b[?2004h\x1b[4h":                      "\x1b[?1049;25h\x1b[4h",
		"\x1b[1;31mred\x1b[0m\x1b[2;3H\x1b[K\x1b[?J\x1b7\x1b8\x1b(B": "\x1b[1;31mred\x1b[0m\x1b[2;3H\x1b[K\x1b[?J\x1b7\x1b8\x1b(B",
		"a\u202eb\u2066c\u009d0;t\u009c":                             "abc0;t",
		"漢字 é 👩\u200d🚀\r\n\t\b":                                      "漢字 é 👩\u200d🚀\r\n\t\b",
		"x\xff\xe6":                                                  "x\ufffd\ufffd",
		"\xe6\x1b[mx":                                                "\ufffd\x1b[mx",
		"\x1b[5i\x1b[?1s\x1b=\x1b[$p\x1b[2 q":                        "\x1b[2 q",
	} {
		whole, bytewise := newCleaner(), newCleaner()
		got := whole.take(printEvent(given))
		got += whole.end()
		pieces := ""
		for _, b := range []byte(given) {
			pieces += bytewise.take(printEvent(string([]byte{b})))
		}
		pieces += bytewise.end()
		if got != want || pieces != want {
			t.Errorf("%q: %q, in pieces %q; want %q", given, got, pieces, want)
		}
	}
}

// TestPlainTextDrains: lines that are whole can be had before the recording's end.
func TestPlainTextDrains(t *testing.T) {
	var out bytes.Buffer
	p := NewPlainText(&out)
	if err := p.Feed(printEvent("one\r\ntw")); err != nil {
		t.Fatal(err)
	}
	if p.Drain(); out.String() != "one\n" {
		t.Errorf("drained: %q", out.String())
	}
	if err := p.Feed(printEvent("o\r\n")); err != nil {
		t.Fatal(err)
	}
	p.Cut()
	if err := p.Flush(); err != nil || out.String() != "one\ntwo\n["+cutText+"]\n" {
		t.Errorf("%v: %q", err, out.String())
	}
}

// TestNextMark: of several marks at one moment each is gone to.
func TestNextMark(t *testing.T) {
	marks := []Mark{{At: time.Second}, {At: 2 * time.Second}, {At: 2 * time.Second}, {At: 3 * time.Second}}
	every := func(Mark) bool { return true }
	at, last := time.Duration(0), -1
	var got []int
	for _, forward := range []bool{true, true, true, true, true, false, false, false, false} {
		i := NextMark(marks, at, last, forward, every)
		if got = append(got, i); i >= 0 {
			at, last = marks[i].At, i
		}
	}
	for n, want := range []int{0, 1, 2, 3, -1, 2, 1, 0, -1} {
		if got[n] != want {
			t.Fatalf("the marks were %v", got)
		}
	}
	if i := NextMark(marks, 2*time.Second, 0, true, every); i != 3 {
		t.Errorf("after a seek to the moment the next mark is %d", i)
	}
}
