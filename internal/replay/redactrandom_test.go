package replay

import (
	"bytes"
	"compress/flate"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/charmbracelet/x/ansi"

	"berth/agent/state"
	"berth/internal/testneeds"
)

// secretPatterns are ways to name the secret that the random sessions hold.
var secretPatterns = []string{
	`hunter2`, `hunter\d`, `h\w+2`, `(?i)HUNTER2`, `\bhunter2\b`, `^hunter2`, `hunter2$`, `hun\s*ter2`, `hun[^x]{0,20}ter2`, `h.{0,8}2`, `pw=\S+`,
}

// between are what may come between two pieces of a secret: what does not show,
// what moves, and what a person reads as something else.
var between = []string{
	"", "", "", "\x1b[31m", "\x1b[0m", "\x1b]2;title\a", "\x1b]8;;https://x\x1b\\", "\x1bPq\x1b\\", "\x00", "\a", "\x7f", "\u200b", "\u202e", "\u0301",
	"\x1b[K", "\x1b[1K", "\x1b[C\b", "\b \b", "x\b", "xx\x1b[2D", "\x1b7\x1b[H\x1b8", "\x1b[s\x1b[9;9H.\x1b[u", "\r\n", "\n", "\r", " ", "\x1b[C", "\x1b[3b",
	"\x1b[3\nm", "\x1b[31\x18", "\x1b[3é", "\x9b31m", "\u009b31m", "\u009d2;x\u009c", "\x1b[\x1b[m", "\x1b(B", "\x0e\x0f", "\xe6", "\xff", "\x1b[?7l", "\x1b[?7h",
	"\x1b[4h \x1b[4l", "\x1b[@", "\x1b[P", "\x1bM", "\x1bD", "\t", "漢", "\x1b[999999999m", "\x1b[1;2;3;4;5!p", "\x1b[<0;1;1M", "\x1b%G", "\x1b[38:5:208m",
}

// aRandomSession prints a secret in pieces, among other things.
func aRandomSession(random *rand.Rand) (events []state.RecordingEvent) {
	pick := func(from []string) string { return from[random.IntN(len(from))] }
	at := time.Duration(0)
	say := func(text string) {
		if random.IntN(3) > 0 {
			at += time.Duration(random.IntN(300)) * time.Millisecond
		}
		events = append(events, state.RecordingEvent{Seq: int64(len(events)), At: at, Kind: state.EventPrint, Data: []byte(text)})
	}
	size := func(kind string) {
		ev := state.RecordingEvent{Seq: int64(len(events)), At: at, Kind: kind, Cols: 8 + random.IntN(40), Rows: 3 + random.IntN(12)}
		events = append(events, ev)
	}
	size("session.start")
	for range 3 + random.IntN(10) {
		var b strings.Builder
		switch random.IntN(8) {
		case 0: // drawn from its end
			row, col := 1+random.IntN(4), 1+random.IntN(30)
			cut := 1 + random.IntN(6)
			fmt.Fprintf(&b, "\x1b[%d;%dH%s\x1b[%d;%dH%s", row, col+cut, "hunter2"[cut:], row, col, "hunter2"[:cut])
		case 1: // at the edge
			fmt.Fprintf(&b, "\x1b[%d;%dHhunter2", 1+random.IntN(4), 1+random.IntN(40))
		case 2:
			size("resize")
			b.WriteString(pick(between))
		case 3:
			b.WriteString("$ ls\r\nbin  lib" + pick(between))
		case 4:
			text := "mysql -p hun" + pick(between) + "ter2"
			fields, err := json.Marshal(map[string]any{"argv": []string{"-p", "hun" + pick(between) + "ter2"}, "n": 2, "pw=hunter2": "x"})
			if err != nil {
				panic(err)
			}
			events = append(events, state.RecordingEvent{Seq: int64(len(events)), At: at, Kind: "session.command", Text: text, Fields: string(fields)})
		default:
			b.WriteString(pick([]string{"", "pw=", "\r\n", "\x1b[2J\x1b[H", "# "}))
			often := random.IntN(4)
			for _, char := range "hunter2" {
				b.WriteRune(char)
				if random.IntN(8) < often {
					b.WriteString(pick(between))
				}
			}
			b.WriteString(pick([]string{"", "\r\n", " ", "x", "\x1b[2J"}))
		}
		for text := b.String(); text != ""; {
			n := len(text)
			if random.IntN(2) == 0 {
				n = 1 + random.IntN(len(text))
			}
			say(text[:n])
			text = text[n:]
		}
	}
	return events
}

// readBack reads the events of an export in one of the forms.
func readBack(t *testing.T, form, file string) (events []state.RecordingEvent) {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v in %q", form, err, file)
		}
	}
	switch form {
	case "asciicast":
		for i, line := range strings.Split(strings.TrimSpace(file), "\n") {
			if i == 0 {
				var head struct{ Width, Height int }
				check(json.Unmarshal([]byte(line), &head))
				events = append(events, state.RecordingEvent{Cols: head.Width, Rows: head.Height})
				continue
			}
			var ev [3]any
			check(json.Unmarshal([]byte(line), &ev))
			out := state.RecordingEvent{At: time.Duration(ev[0].(float64) * float64(time.Second)).Round(time.Millisecond)}
			switch text := ev[2].(string); ev[1] {
			case "o":
				out.Data = []byte(text)
			case "r":
				_, err := fmt.Sscanf(text, "%dx%d", &out.Cols, &out.Rows)
				check(err)
			default:
				out.Text = text
			}
			events = append(events, out)
		}
	case "json":
		var all struct{ Events []JSONEvent }
		check(json.Unmarshal([]byte(file), &all))
		for _, ev := range all.Events {
			events = append(events, state.RecordingEvent{
				At: time.Duration(ev.Seconds * float64(time.Second)).Round(time.Millisecond), Text: ev.Text, Data: []byte(ev.Output), Cols: ev.Cols, Rows: ev.Rows,
				Fields: string(ev.Event),
			})
		}
	case "html":
		for _, m := range regexp.MustCompile(`data-from="\d+">([^<]*)<`).FindAllStringSubmatch(file, -1) {
			packed, err := base64.StdEncoding.DecodeString(m[1])
			check(err)
			raw, err := io.ReadAll(flate.NewReader(bytes.NewReader(packed)))
			check(err)
			head, printed, _ := bytes.Cut(raw, []byte("\n"))
			var list [][]any
			check(json.Unmarshal(head, &list))
			for _, ev := range list {
				out := state.RecordingEvent{At: time.Duration(ev[0].(float64)) * time.Millisecond}
				if n := int(ev[1].(float64)); len(ev) == 2 {
					out.Data, printed = printed[:n], printed[n:]
				} else {
					out.Text, out.Cols, out.Rows, out.Fields = ev[3].(string), int(ev[4].(float64)), int(ev[5].(float64)), ev[6].(string)
				}
				events = append(events, out)
			}
		}
	}
	return events
}

// leaks returns where a pattern matches what a person finds in an export: what is
// printed without its sequences, the screen at each moment, and the words of events.
func leaks(pattern *regexp.Regexp, events []state.RecordingEvent) string {
	var printed strings.Builder
	screen := NewScreen()
	defer screen.Close()
	for i, ev := range events {
		printed.Write(ev.Data)
		screen.Feed(ev)
		if shows(pattern, ev.Text) || shows(pattern, ev.Fields) {
			return "in an event: " + ev.Text + ev.Fields
		}
		if i+1 < len(events) && events[i+1].At.Milliseconds() == ev.At.Milliseconds() {
			continue
		}
		rows := screen.Text()
		cols, _ := screen.Size()
		wrapped := ""
		for _, row := range rows {
			wrapped += row
			if ansi.StringWidth(row) < cols {
				wrapped += "\n"
			}
		}
		if shows(pattern, strings.Join(rows, "\n")) || shows(pattern, wrapped) {
			return fmt.Sprintf("on the screen at %s: %q", ev.At, rows)
		}
	}
	for _, without := range []string{"", "\x00\a\b\r\v\f\x0e\x0f\x7f"} {
		stripped := strings.Map(func(r rune) rune {
			if strings.ContainsRune(without, r) {
				return -1
			}
			return r
		}, ansi.Strip(printed.String()))
		if shows(pattern, stripped) {
			return fmt.Sprintf("in what was printed: %q", stripped)
		}
	}
	return ""
}

// TestRedactRandom: what a pattern matches is in no form of an export, however it
// was printed, or nothing is exported.
func TestRedactRandom(t *testing.T) {
	sessions := testneeds.Part(200)
	exported, masked := 0, 0
	for seed := range uint64(sessions) {
		random := rand.New(rand.NewPCG(seed, 7))
		text := secretPatterns[random.IntN(len(secretPatterns))]
		asGiven, pattern := regexp.MustCompile(text), regexp.MustCompile("(?m)"+text)
		events := aRandomSession(random)
		for _, form := range []string{"asciicast", "json", "html", "txt"} {
			var out bytes.Buffer
			var w Writer = NewPlainText(&out)
			var err error
			switch form {
			case "asciicast":
				w = NewAsciicast(&out, Header{})
			case "json":
				w, err = NewJSON(&out, Header{})
			case "html":
				w, err = NewHTML(&out, []byte(pageMark), Header{})
			}
			if err != nil {
				t.Fatal(err)
			}
			r := NewRedactor(asGiven, w)
			for i := 0; i < len(events) && err == nil; i++ {
				err = r.Feed(events[i])
			}
			if err == nil {
				err = r.Flush()
			}
			r.Close()
			if err != nil {
				if !isVisible(err) {
					t.Fatal(err)
				}
				continue
			}
			exported++
			if strings.Contains(out.String(), "**") {
				masked++
			}
			found := leaks(pattern, readBack(t, form, out.String()))
			if form == "txt" && shows(pattern, out.String()) {
				found = out.String()
			}
			if found != "" {
				t.Errorf("session %d as %s: %s is %s", seed, form, text, found)
			}
		}
	}
	if exported < sessions || masked < sessions/2 {
		t.Errorf("of %d exports %d were not refused, %d have masks", 4*sessions, exported, masked)
	}
	t.Logf("of %d exports %d were not refused, %d have masks", 4*sessions, exported, masked)
}
