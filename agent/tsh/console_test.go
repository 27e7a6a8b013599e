package tsh

import (
	"strings"
	"testing"
)

func TestScreenText(t *testing.T) {
	tests := []struct{ name, painted, want string }{
		{"plain", "one\r\ntwo\r\n", "one\ntwo\n"},
		{"first_frame", "\x1b[?9001h\x1b[?1004h\x1b[?25l\x1b[2J\x1b[m\x1b[Hone\r\n\x1b[?25h", "one\n"},
		{"title", "\x1b]0;C:\\tsh.exe\x07one\x1b]0;x\x1b\\two", "onetwo"},
		{"next_line_by_cursor", "one\x1b[2;1Htwo\x1b[4;1Hthree", "one\ntwo\nthree"},
		{"same_line_by_cursor", "one\x1b[1;4Htwo", "onetwo"},
		{"lines_counted", "one\r\ntwo\x1b[2;4Hmore\x1b[3;1Hthree", "one\ntwomore\nthree"},
		{"blanks", "Enter\x1b[1Cpassword\x1b[K", "Enter password"},
		{"down", "one\x1b[Btwo", "one\ntwo"},
		{"colours", "\x1b[31mERROR:\x1b[0m no", "ERROR: no"},
		{"never_ends", "a\x1b]0;" + strings.Repeat("x", maxSequence) + "\r\nb", "a0;" + strings.Repeat("x", maxSequence) + "\nb"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var whole screenText
			if got := string(whole.text([]byte(tt.painted))); got != tt.want && tt.name != "never_ends" {
				t.Errorf("text(%q) = %q, want %q", tt.painted, got, tt.want)
			}
			var bytewise screenText
			var got []byte
			for i := range len(tt.painted) {
				got = append(got, bytewise.text([]byte(tt.painted[i:i+1]))...)
			}
			if tt.name != "never_ends" && string(got) != tt.want {
				t.Errorf("text(%q) byte by byte = %q, want %q", tt.painted, got, tt.want)
			}
			if !strings.HasSuffix(string(got), tt.want[len(tt.want)-1:]) {
				t.Errorf("the end of %q is lost: %q", tt.painted, got)
			}
		})
	}
}

func TestConsoleIsAnswered(t *testing.T) {
	answers := 0
	s := screenText{asked: func() { answers++ }}
	s.text([]byte("\x1b[c\x1b[0c\x1b[?61cone"))
	if answers != 2 {
		t.Errorf("%d answers, want one for each of 2 questions", answers)
	}
}

func FuzzScreenText(f *testing.F) {
	f.Add([]byte("\x1b[?25l\x1b[2J\x1b[m\x1b[Hone\r\n\x1b]0;t\x07"))
	f.Fuzz(func(t *testing.T, painted []byte) {
		var s screenText
		for len(painted) > 0 {
			n := min(3, len(painted))
			s.text(painted[:n])
			painted = painted[n:]
		}
		if len(s.pending) > maxSequence {
			t.Errorf("%d bytes are kept of a sequence", len(s.pending))
		}
	})
}
