package tsh

import (
	"fmt"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestOneLine(t *testing.T) {
	const (
		jwt   = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl"
		token = "0123456789abcdef0123456789abcdef"
	)
	tests := []struct{ name, in, want string }{
		{"colour", "\x1b[31mERROR: \x1b[0mNot logged in.", "ERROR: Not logged in."},
		{"title_and_screen", "\x1b]0;evil\x07\x1b[2J\x1b[Hdone\r\n", "done"},
		{"unfinished_title", "a \x1b]0;evil", "a"},
		{"bidi_override", "user \u202eecila", "user ecila"},
		{"not_utf8", "caf\xe9", "caf\uFFFD"},
		{"private_key", "key -----BEGIN EC PRIVATE KEY-----\nAAAA\nBBBB\n-----END EC PRIVATE KEY----- end", "key [redacted] end"},
		{"half_a_key", "key -----BEGIN PRIVATE KEY-----\nAAAA", "key [redacted]"},
		{"login_url", "open http://127.0.0.1:4321/6a1b-secret now", "open http://127.0.0.1:4321/[redacted] now"},
		{"userinfo", `Get "https://u:p@example.com/x"`, `Get "https://[redacted]@example.com/x"`},
		{"query", "https://example.com/cb?code=abc&state=1 failed", "https://example.com/cb?[redacted] failed"},
		{"jwt", "sent " + jwt, "sent [redacted]"},
		{"bearer", "Authorization: Bearer abc.def", "Authorization: Bearer [redacted]"},
		{"password_is", "password=hunter2, user=bob", "password=[redacted], user=bob"},
		{"invite_token", "join " + token, "join [redacted]"},
		{"base64", "cert " + strings.Repeat("QUJD", 20) + "==", "cert [redacted]"},
		{"request_id_stays", "request c19f50aa-3b0d-4a0e-9d53-6d4c0d9c9c11", "request c19f50aa-3b0d-4a0e-9d53-6d4c0d9c9c11"},
		{"path_stays", "open /home/alice/.tsh/keys/teleport.example.com/alice", "open /home/alice/.tsh/keys/teleport.example.com/alice"},
		{"url_stays", `Get "https://example.com:443/webapi/ping": EOF`, `Get "https://example.com:443/webapi/ping": EOF`},
		{"asks_for_a_password", "Enter password for Teleport user alice:", "Enter password for Teleport user alice:"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := oneLine(tt.in); got != tt.want {
				t.Errorf("oneLine(%q) = %q, want %q", tt.in, got, tt.want)
			}
		})
	}
}

func TestLastError(t *testing.T) {
	tests := []struct {
		name  string
		lines []string
		want  string
	}{
		{"nothing", nil, ""},
		{"prefix_goes", []string{"noise", "ERROR: no such database"}, "no such database"},
		{"goes_on", []string{"ERROR: cannot log in", "reader is not a terminal"}, "cannot log in reader is not a terminal"},
		{"last_of_two", []string{"ERROR: first", "retrying", "ERROR: second"}, "second"},
		{"no_prefix", []string{"one", "two"}, "two"},
		{"long", []string{strings.Repeat("word ", 400)}, strings.Repeat("word ", 99) + "word…"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := lastError(tt.lines); got != tt.want {
				t.Errorf("lastError(%q) = %q, want %q", tt.lines, got, tt.want)
			}
		})
	}
}

func TestLineWriter(t *testing.T) {
	var got []string
	w := &lineWriter{onLine: func(s string) { got = append(got, s) }}
	for _, part := range []string{"on", "e\ntwo\n\n  \x1b[1mthree\r\nfo", "ur"} {
		if n, err := w.Write([]byte(part)); n != len(part) || err != nil {
			t.Errorf("Write(%q) = %d, %v", part, n, err)
		}
	}
	if diff := cmp.Diff([]string{"one", "two", "three"}, got); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"one", "two", "three", "four"}, w.lines()); diff != "" {
		t.Errorf("lines() (-want +got):\n%s", diff)
	}
	fmt.Fprint(w, strings.Repeat("x", 10*maxLine), "\n")
	for i := range 3 * tailSize {
		fmt.Fprintln(w, "line", i)
	}
	if l := w.lines(); len(l) != tailSize || l[tailSize-1] != fmt.Sprint("line ", 3*tailSize-1) {
		t.Errorf("kept %d lines, the last %q", len(l), l[len(l)-1])
	}
	if long := got[3]; len(long) != maxLine {
		t.Errorf("a line of %d bytes was cut to %d, want %d", 10*maxLine, len(long), maxLine)
	}
}

func FuzzOneLine(f *testing.F) {
	f.Add("\x1b[31mERROR: \x1b[0mNot logged in.")
	f.Add("\x1b]0;t\x1b\\ -----BEGIN X-----\n http://127.0.0.1:1/x?y=z")
	f.Fuzz(func(t *testing.T, s string) {
		got := oneLine(s)
		if !utf8.ValidString(got) {
			t.Errorf("oneLine(%q) = %q is not UTF-8", s, got)
		}
		if i := strings.IndexFunc(got, unicode.IsControl); i >= 0 {
			t.Errorf("oneLine(%q) = %q has a control character", s, got)
		}
		w := &lineWriter{}
		_, _ = w.Write([]byte(s))
		w.flush()
		if clip(got, 10) != got && len(clip(got, 10)) > 10+len("…") {
			t.Errorf("clip(%q, 10) is too long", got)
		}
	})
}
