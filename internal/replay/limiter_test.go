package replay

import (
	"bytes"
	"compress/flate"
	"encoding/base64"
	"io"
	"slices"
	"strings"
	"testing"

	"berth/agent/state"
)

// TestLimiter: a terminal is not made to count, and text is not hidden, in whatever
// pieces a sequence comes.
func TestLimiter(t *testing.T) {
	long := strings.Repeat("y", maxString)
	for given, want := range map[string]string{
		"x\x1b[99999999L\r\n":                         "x\x1b[100L\r\n",
		"\x1b[1;1r\x1b[5;3r\x1b[99999999S\x1b[7T":     "\x1b[1;1r\x1b[5;3r\x1b[100S\x1b[7T",
		"\x1b[4294967295;2H\x1b[00000000000000007P":   "\x1b[100;2H\x1b[00000000000000007P",
		"\x1b[99999999999999999999X\x1b[99999 @":      "\x1b[100X\x1b[100 @",
		"\x1b[9999999b\x1b[9999999I\x1b[4097Z\x1b[3b": "\x1b[3b",
		"\x1b[?1049;99999h\x1b[38;2;1:2:255m":         "\x1b[?1049;9999h\x1b[38;2;1:2:255m",
		"\x1b[99\n99999\rM":                           "\n\r\x1b[100M",
		"\x1b[99999\x18L\x1b[999\x1b[2L\x1b[9é9L":     "L\x1b[2L\x1b[99L",
		"\u009b99999999L\x9b99999L":                   "99999999L\ufffd99999L",
		"\x1b[" + strings.Repeat("1;", 200) + "mx":    "x",
		"\x1b7é漢\x1b(B\xff\xe6\x1b[mx":                "\x1b7é漢\x1b(B\xff\xe6\x1b[mx",
		"\x1b]0;never\r\nshown":                       "\x1b]0;never\r\x1b\\\nshown",
		"\x1b]0;t\x1b[31mred\x1b]0;t\ax\x1b_a\x1b\\":  "\x1b]0;t\x1b\\\x1b[31mred\x1b]0;t\ax\x1b_a\x1b\\",
		"\x1bP0;0q#1!5~$\n-~\x1b\\\x1bPqls -l":        "\x1bP0;0q#1!5~$\n-~\x1b\\\x1bPqls\x1b\\ -l",
		"\x1b]1337;" + long + "z":                     "\x1b]1337;" + long[5:] + "\x1b\\" + long[:5] + "z",
	} {
		whole, bytewise := newLimiter(), newLimiter()
		size := state.RecordingEvent{Cols: 100, Rows: 24}
		whole.take(size)
		bytewise.take(size)
		got := string(whole.take(printEvent(given)))
		var pieces strings.Builder
		for i := range len(given) {
			pieces.Write(bytewise.take(printEvent(given[i : i+1])))
		}
		if got != want || pieces.String() != want {
			t.Errorf("%.60q: %.60q, in pieces %.60q; want %.60q", given, got, pieces.String(), want)
		}
		if !whole.clean() {
			t.Errorf("%.60q holds something back", given)
		}
	}
}

// counts are what would keep a terminal counting.
var counts = []string{
	"before\r\n", "x\x1b[99999999L\r\n", "after\r\n", "\x1b[1;1r\x1b[5;3r\x1b[99999999S\x1b[99999999T\x1b[r",
	"\x1b[99999999I\x1b[99999999P\x1b[99999999M\x1b[99999999X\x1b[99999999@", "\x1b[999", "99999M\x9b99999999L", "\x1bcend",
}

// TestCountsAreCut: for every final byte the largest count is soon obeyed by the
// emulator, and the page is not given it.
func TestCountsAreCut(t *testing.T) {
	events := []state.RecordingEvent{{Kind: "session.start", Cols: 80, Rows: 24}}
	for _, text := range counts {
		events = append(events, printEvent(text))
	}
	for final := byte('@'); final <= '~'; final++ {
		events = append(events, printEvent("\x1b[99999999"+string(final)), printEvent("\x1b[99999999;99999999 "+string(final)))
	}
	events = append(events, printEvent("\x1bcend"))
	s := NewScreen()
	defer s.Close()
	for _, ev := range events {
		s.Feed(ev)
	}
	if rows := s.Text(); rows[0] != "end" {
		t.Errorf("the screen ends with %q", rows[0])
	}
	var printed []byte
	for _, chunk := range chunkElement.FindAllStringSubmatch(pageOf(t, Header{}, events), -1) {
		packed, err := base64.StdEncoding.DecodeString(chunk[2])
		if err != nil {
			t.Fatal(err)
		}
		raw, err := io.ReadAll(flate.NewReader(bytes.NewReader(packed)))
		if err != nil {
			t.Fatal(err)
		}
		printed = slices.Concat(printed, raw[bytes.IndexByte(raw, '\n')+1:])
	}
	if !bytes.Contains(printed, []byte("x\x1b[80L\r\nafter")) || bytes.Contains(printed, []byte("\x1b[99999")) {
		t.Errorf("the page has %q", printed)
	}
}

// TestTextAfterATitle: a title that never ends hides its line alone.
func TestTextAfterATitle(t *testing.T) {
	var out bytes.Buffer
	p := NewPlainText(&out)
	for _, text := range []string{"one\r\n\x1b]0;ti", "tle\r\ntwo\r\n\x1bP$q\r\nthr", "ee\r\n"} {
		if err := p.Feed(printEvent(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Flush(); err != nil || out.String() != "one\n\ntwo\n\nthree\n" {
		t.Errorf("%v: %q", err, out.String())
	}
}
