package replay

import (
	"bytes"
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	"berth/agent/state"
	"berth/internal/testneeds"
)

// redacted returns a recording as JSON and as asciicast, redacted.
func redacted(pattern string, events ...state.RecordingEvent) (string, error) {
	var both strings.Builder
	for _, form := range []string{"json", "asciicast"} {
		var out bytes.Buffer
		var w Writer = NewAsciicast(&out, Header{})
		if form == "json" {
			var err error
			if w, err = NewJSON(&out, Header{}); err != nil {
				return "", err
			}
		}
		r := NewRedactor(regexp.MustCompile(pattern), w)
		for i, ev := range events {
			ev.Seq = int64(i)
			if err := r.Feed(ev); err != nil {
				r.Close()
				return "", err
			}
		}
		if err := r.Flush(); err != nil {
			return "", err
		}
		both.WriteString(out.String())
	}
	return both.String(), nil
}

// at is something printed at a time.
func at(ms int, text string) state.RecordingEvent {
	ev := printEvent(text)
	ev.At = time.Duration(ms) * time.Millisecond
	return ev
}

// TestRedactsStrings: titles, links and other strings that no screen shows.
func TestRedactsStrings(t *testing.T) {
	for _, session := range []string{
		"\x1b]2;mysql -phunter2\a$ mysql -phunter2\r\n", "\x1b]8;;https://x/?p=hunter2\x1b\\link\x1b]8;;\x1b\\ hunter2\r\n",
		"\x1bPhunter2\x1b\\$ \r\n", "\x1bXhunter2\x1b\\$ \r\n", "\x1b^hunter2\x1b\\$ \r\n", "\x1b_hunter2\x1b\\$ \r\n",
		"\x1b]2;hunter2\n\x1b[1mhunter2\r\n", "\x1b]2;never ends hunter2", "\u009d2;hunter2\u009c$ \r\n",
	} {
		got, err := redacted("hunter2", printEvent(session))
		if err != nil || strings.Contains(got, "hunter2") {
			t.Errorf("%q becomes %s, %v", session, got, err)
		}
		var pieces []state.RecordingEvent
		for i := range len(session) {
			pieces = append(pieces, at(i, session[i:i+1]))
		}
		got, err = redacted("hunter2", pieces...)
		if err != nil {
			t.Errorf("%q in pieces: %v", session, err)
		}
		var printed strings.Builder // each piece is an event
		for _, m := range regexp.MustCompile(`"o","([^"]*)"`).FindAllStringSubmatch(got, -1) {
			printed.WriteString(m[1])
		}
		if strings.Contains(printed.String(), "hunter2") {
			t.Errorf("%q in pieces becomes %s", session, printed.String())
		}
	}
}

// TestRedactedStringsEnd: what follows a string stays on the screen.
func TestRedactedStringsEnd(t *testing.T) {
	for _, hidden := range []string{
		"\x1b]2;x\a", "\x1b]2;x\x1b\\", "\x1bP+q54\x1b\\", "\x1bXx\x1b\\", "\x1b^x\x1b\\", "\x1b_x\x1b\\", "\x1b]2;x\x1b]3;x\a",
	} {
		r := NewRedactor(regexp.MustCompile("hunter2"), NewPlainText(&bytes.Buffer{}))
		if err := r.Feed(printEvent(hidden + "after\n")); err != nil {
			t.Fatal(err)
		}
		if err := r.Flush(); err != nil {
			t.Fatal(err)
		}
		if got := r.guard.screen.Text()[0]; got != "after" {
			t.Errorf("after %q the screen shows %q", hidden, got)
		}
		r.Close()
	}
}

func TestRedactsFields(t *testing.T) {
	for _, c := range []struct{ pattern, text, fields, want string }{
		{"pw&hunter2", "", `{"query":"x pw\u0026hunter2"}`, `{"query":"x **********"}`},
		{`a"b<c>\nd`, "", `{"query":"a\"b\u003cc\u003e\nd"}`, `{"query":"********"}`},
		{`-p hunter\d`, "mysql -p hunter2", `{"argv":["mysql","-p","hunter2"]}`, `{"argv":["mysql","**","*******"]}`},
		{`hunter2`, "hunter2", `{"a":{"hunter2":[1,"hunter2"]},"n":12345678901234567890}`,
			`{"a":{"*******":[1,"*******"]},"n":12345678901234567890}`},
		{`4111\d+`, "", `{"n":41111111}`, `{"n":"********"}`},
		{`sql hunter\d`, "sql hunter2", `{"a":"sql","b":"hunter2"}`, ""}, // the text alone has it in one piece
		{`sql hunter\d`, "sql hunter2", `{"a":"sql","b":"hunter2","c":"sql hunter3"}`, ""},
		{`"b":"\w+"`, "", `{"b":"hunter2"}`, ""},
		{`hunter2`, "", `{"b":"hunter2`, ""},
		{`hunter2`, "ls", `{"argv":["ls",""]}`, `{"argv":["ls",""]}`},
	} {
		r := NewRedactor(regexp.MustCompile(c.pattern), nil)
		text, got := r.words(c.text, c.fields)
		r.Close()
		if got != c.want || strings.Contains(text, "hunter") {
			t.Errorf("%s of %s is %q, %s, want %s", c.pattern, c.fields, text, got, c.want)
		}
	}
}

// TestRedactLooks: what the cursor's movement puts together is found however long
// it stands until the next event, and in small pieces.
func TestRedactLooks(t *testing.T) {
	visible := func(events ...state.RecordingEvent) {
		t.Helper()
		if _, err := redacted("hunter2", events...); !isVisible(err) {
			t.Errorf("the error is %v", err)
		}
	}
	visible(at(150, "x\r\n"), at(200, "\x1b[5;4Hter2\x1b[5;1Hhun\r\n"), at(60_000, "\x1b[H\x1b[2J\r\n"))
	small := []state.RecordingEvent{at(1, "\x1b[5;4Hter2\x1b[5;1Hhun\r\n")}
	for range lookBytes / 10 {
		small = append(small, at(2, "0123456789\r\x1b[9;1H\n"))
	}
	visible(append(small, at(3, "\x1b[H\x1b[2J\r\n"))...)
}

func isVisible(err error) bool {
	_, ok := errors.AsType[*VisibleError](err)
	return ok
}

// TestRedactHolds: a line is masked whole though an event ends in its middle, or
// it is very long; what is held has bounds.
func TestRedactHolds(t *testing.T) {
	got, err := redacted("hunter2", printEvent("ls\r\n$ hun"), printEvent("ter2\r\n$ "), printEvent("x"))
	if err != nil || strings.Contains(got, "hun") || strings.Contains(got, "ter2") {
		t.Errorf("%s, %v", got, err)
	}

	filler := strings.Repeat("\r"+strings.Repeat("-", 1023), 64)
	for _, cut := range []int{3, 6} {
		long := make([]state.RecordingEvent, 0, 16)
		for range 3 {
			long = append(long, printEvent(filler))
		}
		long = append(long, printEvent(filler[:len(filler)-cut]+"hunter2"[:cut]),
			printEvent("hunter2"[cut:]+"\r"+filler), printEvent(filler+"\r\n"))
		got, err = redacted("hunter2", long...)
		if err != nil || strings.Contains(got, "hun") || strings.Contains(got, "ter2") {
			t.Errorf("cut at %d: %v", cut, err)
		}
	}
	if _, err := redacted("h.+", printEvent("h"+filler), printEvent(filler), printEvent(filler), printEvent(filler), printEvent(filler)); err == nil {
		t.Error("a match longer than what is held is no error")
	}

	r := NewRedactor(regexp.MustCompile("hunter2"), NewPlainText(&bytes.Buffer{}))
	for range testneeds.Part(5_000) {
		for _, ev := range []state.RecordingEvent{printEvent("$"), {Kind: "session.network", Fields: `{"a":"` + strings.Repeat("x", 1<<10) + `"}`}} {
			if err := r.Feed(ev); err != nil {
				t.Fatal(err)
			}
		}
		if r.weight > mostHeld {
			t.Fatalf("%d bytes are held", r.weight)
		}
	}
	if err := r.Flush(); err != nil || r.weight != 0 {
		t.Errorf("%v, %d bytes are held at the end", err, r.weight)
	}
}

// TestRedactsEverything: the masks themselves are no match.
func TestRedactsEverything(t *testing.T) {
	got, err := redacted(".", at(0, "a b\t漢字 héllo\x1b[5Cx\r\n$ "), at(500, "\x1b[31mred\x1b[0m\r\n"))
	if err != nil || strings.Contains(got, "red\\") || !strings.Contains(got, "***") {
		t.Errorf("%s, %v", got, err)
	}
}

// TestCountsMasks: what is in an event's line and in its fields is one place.
func TestCountsMasks(t *testing.T) {
	r := NewRedactor(regexp.MustCompile("hunter2"), NewPlainText(&bytes.Buffer{}))
	for i, ev := range []state.RecordingEvent{
		at(0, "mysql -phunter2 hun"), at(1, "\x1b[1mter2\r\n"), at(2, "nothing\r\n"),
		{At: 3 * time.Millisecond, Kind: "session.command", Text: "mysql -p hunter2", Fields: `{"argv":["-p","hunter2"],"program":"mysql"}`},
		{At: 4 * time.Millisecond, Kind: "session.command", Text: "ls", Fields: `{"cwd":"/hunter2","pwd":"/hunter2"}`},
	} {
		ev.Seq = int64(i)
		if err := r.Feed(ev); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Flush(); err != nil {
		t.Fatal(err)
	}
	if got := r.Masked(); got != (Masked{Printed: 2, Words: 3}) {
		t.Errorf("masked %+v", got)
	}
	if _, places := RedactHeader(regexp.MustCompile("alice|absent"), Header{Recording: state.Recording{User: "alice", Participants: []string{"alice"}}}); places != 2 {
		t.Errorf("%d places of a header", places)
	}
}
