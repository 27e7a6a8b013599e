package replay

import (
	"bytes"
	"compress/flate"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"berth/agent/state"
	"berth/internal/testneeds"
)

var chunkElement = regexp.MustCompile(`<script type="application/x-recording" data-from="(\d+)">([A-Za-z0-9+/=]*)</script>`)

// pageOf exports events as a page without a player.
func pageOf(t *testing.T, h Header, events []state.RecordingEvent) string {
	t.Helper()
	var b bytes.Buffer
	w, err := NewHTML(&b, []byte("<head>"+pageMark+"<rest>"), h)
	if err != nil {
		t.Fatal(err)
	}
	for _, ev := range events {
		if err := w.Feed(ev); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestHTMLHoldsEverything: what the chunks hold is what was fed, byte by byte, and
// nothing of it ends an element.
func TestHTMLHoldsEverything(t *testing.T) {
	const evil = "</script><script>alert(1)</script><!--\xff\xfe\u2028"
	var events []state.RecordingEvent
	var printed strings.Builder
	add := func(at time.Duration, text string) {
		ev := printEvent(text)
		ev.At = at
		events = append(events, ev)
		printed.WriteString(text)
	}
	events = append(events, state.RecordingEvent{Kind: "session.start", Cols: 1 << 30, Rows: 5, Text: evil, Fields: evil})
	add(0, evil)
	for i := range 3000 {
		add(time.Duration(i)*time.Millisecond, strings.Repeat("\a", 10)+"\xe6\xbc")
		add(time.Duration(i)*time.Millisecond, "\xa2\x1b[3")
		add(time.Duration(i)*time.Millisecond, "1m"+strings.Repeat("text ", 50))
	}
	add(4*time.Second, strings.Repeat("one line ", 10<<20/9))
	add(5*time.Second, "\x1b]0;"+strings.Repeat("a title that never ends", 1<<15))
	events = append(events, state.RecordingEvent{At: 6 * time.Second, Kind: evil, Text: evil})

	page := pageOf(t, Header{Recording: state.Recording{User: evil}, ExportedBy: evil}, events)
	if !strings.HasPrefix(page, "<head>") || !strings.HasSuffix(page, "<rest>") || strings.Contains(page, "alert(1)<") || strings.Contains(page, "<!--") {
		t.Error("the page is not what it should be")
	}
	chunks := chunkElement.FindAllStringSubmatch(page, -1)
	if got := strings.Count(page, "<script"); got != len(chunks)+2 || got != strings.Count(page, "</script") {
		t.Errorf("%d elements for %d chunks, a header and a total", got, len(chunks))
	}
	var got strings.Builder
	others := 0
	for _, chunk := range chunks {
		packed, err := base64.StdEncoding.DecodeString(chunk[2])
		if err != nil {
			t.Fatal(err)
		}
		raw, err := io.ReadAll(flate.NewReader(bytes.NewReader(packed)))
		if err != nil {
			t.Fatal(err)
		}
		if len(raw) > 2*maxChunk {
			t.Errorf("a chunk has %d bytes", len(raw))
		}
		head, rest, _ := bytes.Cut(raw, []byte("\n"))
		var rows [][]any
		if err := json.Unmarshal(head, &rows); err != nil {
			t.Fatal(err)
		}
		size := 0
		for _, row := range rows {
			if n, ok := row[1].(float64); ok && len(row) == 2 {
				size += int(n)
			} else {
				others++
			}
		}
		if size != len(rest) {
			t.Errorf("a chunk says it has %d bytes, and has %d", size, len(rest))
		}
		got.Write(rest)
	}
	if got.String() != printed.String() || others != 2 {
		t.Errorf("the page has %d bytes and %d events, want %d and 2", got.Len(), others, printed.Len())
	}
}

// TestExportsAreSmall: what an export holds does not grow with the recording.
func TestExportsAreSmall(t *testing.T) {
	pieces := testneeds.Part(2 << 8) // of 4 KiB
	if size := os.Getenv("BERTH_EXPORT_MIB"); size != "" {
		mib, err := strconv.Atoi(size)
		if err != nil {
			t.Fatal(err)
		}
		pieces = mib << 8
	}
	random := rand.New(rand.NewPCG(1, 1))
	build := make([]string, 256)
	for i := range build {
		var b strings.Builder
		for b.Len() < 4096 {
			fmt.Fprintf(&b, "\x1b[32m%08x\x1b[0m compiling package %d\r\n", random.Uint32(), i)
		}
		build[i] = b.String()[:4096]
	}
	html, err := NewHTML(io.Discard, []byte(pageMark), Header{})
	if err != nil {
		t.Fatal(err)
	}
	whole, err := NewJSON(io.Discard, Header{})
	if err != nil {
		t.Fatal(err)
	}
	for name, w := range map[string]Writer{
		"html": html, "json": whole, "asciicast": NewAsciicast(io.Discard, Header{}), "txt": NewPlainText(io.Discard),
	} {
		before, peak := liveHeap(), uint64(0)
		begin := time.Now()
		for i := range pieces {
			ev := printEvent(build[i%len(build)])
			ev.At = time.Duration(i) * time.Millisecond
			if err := w.Feed(ev); err != nil {
				t.Fatal(err)
			}
			if i%(pieces/8) == 0 {
				peak = max(peak, liveHeap())
			}
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		grown := float64(int64(peak)-int64(before)) / (1 << 20)
		t.Logf("%s: the heap grew by %.1f MiB for %d MiB, in %s", name, grown, pieces>>8, time.Since(begin).Round(10*time.Millisecond))
		if grown > 4 {
			t.Errorf("%s: the heap grew by %.1f MiB", name, grown)
		}
	}
}

func liveHeap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestHTMLNeedsAPlace(t *testing.T) {
	if _, err := NewHTML(io.Discard, []byte("<html>"), Header{}); err == nil {
		t.Error("a page without a place for a recording was taken")
	}
}
