//go:build web

package webtest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"berth/agent/state"
	"berth/internal/replay"
	"berth/internal/web"
)

// cast is a recording in the making.
type cast struct {
	events []state.RecordingEvent
}

func (c *cast) add(ev state.RecordingEvent) {
	ev.Seq = int64(len(c.events))
	c.events = append(c.events, ev)
}

func (c *cast) print(at time.Duration, text string) {
	c.add(state.RecordingEvent{At: at, Kind: state.EventPrint, Data: []byte(text)})
}

// writePage exports a recording as a page.
func writePage(t *testing.T, recording state.Recording, events []state.RecordingEvent) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "recording.html")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w, err := replay.NewHTML(file, web.Player(), replay.Header{
		Recording: recording, ExportedBy: "bob", ExportedAt: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC),
	})
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
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// openPage opens a page and waits until it has read its recording. The test fails if
// the page asks for anything but itself, if its policy had to refuse something, or
// if it has an error.
func openPage(t *testing.T, path, scheme string) *tab {
	t.Helper()
	tab := newTab(t)
	var mu sync.Mutex
	var asked, bad []string
	err := chromedp.Listen(tab.ctx, func(ev any) {
		mu.Lock()
		defer mu.Unlock()
		switch ev := ev.(type) {
		case *network.EventRequestWillBeSent:
			asked = append(asked, ev.Request.URL)
		case *runtime.EventExceptionThrown:
			bad = append(bad, fmt.Sprint(ev.ExceptionDetails.Text, ev.ExceptionDetails.Exception))
		case *runtime.EventConsoleAPICalled:
			said := "console: " + string(ev.Type)
			for _, arg := range ev.Args {
				said += " " + string(arg.Value)
			}
			// xterm says so of a machine that is busy.
			if !strings.Contains(said, "task queue exceeded allotted deadline") {
				bad = append(bad, said)
			}
		case *log.EventEntryAdded:
			bad = append(bad, ev.Entry.Text)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		mu.Lock()
		defer mu.Unlock()
		if len(asked) != 1 || asked[0] != "file://"+path {
			t.Errorf("the page asked for %q", asked)
		}
		if len(bad) > 0 {
			t.Errorf("the page has errors: %q", bad)
		}
	})
	media := emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}}
	if _, err := chromedp.Call(tab.ctx, emulation.SetEmulatedMedia, media); err != nil {
		t.Fatal(err)
	}
	if _, err := chromedp.Call(tab.ctx, network.Enable, network.EnableParams{}); err != nil {
		t.Fatal(err)
	}
	if _, err := chromedp.Call(tab.ctx, log.Enable, cdp.Empty{}); err != nil {
		t.Fatal(err)
	}
	tab.do(chromedp.Navigate("file://"+path), chromedp.WaitVisible(chromedp.CSS(".page[data-done=true]")))
	return tab
}

// rows returns the rows of the page's terminal.
func (tab *tab) rows() []string {
	tab.t.Helper()
	return get(tab, chromedp.Evaluate[[]string](`[...document.querySelectorAll(".terminal .row")].map(r => r.textContent)`))
}

// await waits until an expression is true in the page.
func (tab *tab) await(expression string) {
	tab.t.Helper()
	if _, err := chromedp.Run(tab.ctx, chromedp.Poll[bool](expression)); err != nil {
		tab.picture("failed")
		tab.t.Fatalf("%s: %v", expression, err)
	}
}

const settled = `document.querySelector(".page").dataset.seeking === "false"`

// seek moves the bar, as a mouse does, and waits until the page is there.
func (tab *tab) seek(at int) {
	tab.t.Helper()
	get(tab, chromedp.Evaluate[bool](fmt.Sprintf(
		`(() => { const s = document.getElementById("seek"); s.value = %d; s.dispatchEvent(new Event("input", {bubbles: true})); return true })()`, at)))
	tab.await(fmt.Sprintf(`%s && document.querySelector(".page").dataset.at === "%d"`, settled, at))
}

// key presses keys and waits until the page has obeyed.
func (tab *tab) key(keys string) {
	tab.t.Helper()
	tab.do(chromedp.KeyEvent(keys))
	tab.await(settled)
}

var shell = state.Recording{ID: "5e1f0c2a-0000-4000-8000-000000000001", Cluster: "example.com", Kind: "ssh", User: "alice", Where: "web-1", Interactive: true}

// aSession is a session with all that a page shows.
func aSession() []state.RecordingEvent {
	var c cast
	c.add(state.RecordingEvent{Kind: "session.start", Text: "session starts", Cols: 80, Rows: 24, Fields: `{"login":"root"}`})
	c.print(0, "\x1b[1;32malice@web-1\x1b[0m:\x1b[34m~\x1b[0m$ ")
	c.print(2*time.Second, "ls --color\r\n\x1b[01;34mbin\x1b[0m  \x1b[01;32mrun.sh\x1b[0m  \x1b[31mnotes.gz\x1b[0m\r\n")
	c.add(state.RecordingEvent{At: 2100 * time.Millisecond, Kind: "session.command", Text: "ls --color", Fields: `{"argv":["--color"],"path":"/usr/bin/ls","return_code":0}`})
	c.print(3*time.Second, "┌─────────────┐\r\n│ héllo wörld │\r\n└─────────────┘\r\n")
	c.add(state.RecordingEvent{At: 4 * time.Second, Kind: "resize", Text: "terminal is 100×30", Cols: 100, Rows: 30})
	c.print(4*time.Second, "\x1b[48;5;208m orange \x1b[0m \x1b[38;2;255;105;180mpink\x1b[0m \x1b[7minverse\x1b[0m \x1b[4munderlined\x1b[0m\r\n")
	c.add(state.RecordingEvent{At: 64 * time.Second, Kind: "session.network", Text: "10.0.0.7:443", Fields: `{"dst_addr":"10.0.0.7"}`})
	c.print(124*time.Second, "after the pause: 42\r\nNeedle in the hay\r\n")
	c.print(126*time.Second, "another needle: 漢字 🚀\r\n")
	c.add(state.RecordingEvent{At: 130 * time.Second, Kind: "session.end", Text: "session ends"})
	return c.events
}

func TestPlayer(t *testing.T) {
	path := writePage(t, shell, aSession())
	tab := openPage(t, path, "dark")
	if title := get(tab, chromedp.Evaluate[string]("document.title")); title != "ssh session of alice at web-1" {
		t.Errorf("the page's title is %q", title)
	}
	if head := get(tab, chromedp.Text(chromedp.CSS("header p"))); !strings.Contains(head, "Exported by bob on 2026-03-04 05:06:07 UTC") {
		t.Errorf("the page says %q", head)
	}
	if rows := tab.rows(); len(rows) != 24 || rows[0] != "alice@web-1:~$" {
		t.Errorf("it begins with %q", rows)
	}
	tab.seek(5000)
	rows := tab.rows()
	if len(rows) != 30 || rows[3] != "│ héllo wörld │" || !strings.Contains(rows[5], "orange") {
		t.Errorf("after five seconds it shows %q", rows)
	}
	tab.picture("player-dark")

	// The side pane follows, and a choice shows what is known of it.
	if now := get(tab, chromedp.Text(chromedp.CSS(".mark[aria-current]"))); !strings.Contains(now, "100×30") {
		t.Errorf("the pane is at %q", now)
	}
	tab.click(".mark:nth-child(2) button")
	tab.await(settled + ` && document.querySelector(".detail details") !== null`)
	if text := get(tab, chromedp.Evaluate[string](`document.querySelector(".detail").textContent`)); !strings.Contains(text, `"path": "/usr/bin/ls"`) {
		t.Errorf("of the event it says %q", text)
	}
	if rows := tab.rows(); !strings.Contains(strings.Join(rows, "\n"), "run.sh") || strings.Contains(strings.Join(rows, "\n"), "héllo") {
		t.Errorf("at the command it shows %q", rows)
	}

	// Search goes to the first match, and on.
	tab.do(chromedp.KeyEvent("/"))
	if id := get(tab, chromedp.Evaluate[string]("document.activeElement.id")); id != "search" {
		t.Errorf("the key / leads to %q", id)
	}
	tab.do(chromedp.KeyEvent(kb.Backspace)) // what is pressed here is also typed, whatever the page says
	tab.do(chromedp.KeyEvent("needle\r"))
	tab.await(`document.getElementById("found").textContent.startsWith("2 matches")`)
	tab.await(settled)
	at := func() string {
		return get(tab, chromedp.Evaluate[string](`document.querySelector(".page").dataset.at`))
	}
	if at() != "124000" {
		t.Errorf("the first match is at %s", at())
	}
	tab.do(chromedp.KeyEvent(kb.Escape))
	tab.key("d")
	tab.picture("player-light")
	tab.key("n")
	if at() != "126000" {
		t.Errorf("the second match is at %s", at())
	}
	if hits := get(tab, chromedp.Evaluate[string](`document.querySelector(".seek canvas").dataset.hits`)); hits != "2" {
		t.Errorf("the bar has %s hits", hits)
	}

	// Keys.
	for _, step := range []struct{ keys, want string }{
		{"0", "0"}, {"5", "65000"}, {"E", "64000"}, {"E", "2100"}, {"e", "64000"}, {"M", "4000"}, {kb.ArrowRight, "9000"}, {kb.ArrowLeft, "4000"},
	} {
		tab.key(step.keys)
		if at() != step.want {
			t.Errorf("the key %q leads to %s, want %s", step.keys, at(), step.want)
		}
	}

	// It plays: sixteen times as fast, the minutes of pause are over soon; with idle
	// time skipped sooner.
	tab.do(chromedp.KeyEvent("++++i"))
	if speed := get(tab, chromedp.Evaluate[string](`document.getElementById("speed").value`)); speed != "16" {
		t.Errorf("the speed is %s", speed)
	}
	begin := time.Now()
	tab.do(chromedp.KeyEvent(" "))
	tab.await(`document.querySelector(".page").dataset.at === "130000"`)
	if took := time.Since(begin); took > 4*time.Second {
		t.Errorf("two minutes of pause and six seconds took %s", took)
	}
	if rows := strings.Join(tab.rows(), "\n"); !strings.Contains(rows, "another needle: 漢字 🚀") {
		t.Errorf("it ends with %q", rows)
	}
	tab.key("?")
	if text := get(tab, chromedp.Evaluate[string](`document.querySelector("dialog").textContent`)); !strings.Contains(text, "@xterm/headless") || !strings.Contains(text, "MIT") {
		t.Error("the page does not show its licences")
	}
}

// A recording of a database has no terminal, but a table.
func TestPlayerQueries(t *testing.T) {
	var c cast
	c.add(state.RecordingEvent{Kind: "db.session.start", Text: "connects to orders as app"})
	for i := range 5000 {
		text := fmt.Sprintf("select * from orders where id = %d", i)
		c.add(state.RecordingEvent{At: time.Duration(i) * time.Second, Kind: "db.session.query", Text: text, Fields: fmt.Sprintf(`{"db_query":%q}`, text)})
	}
	c.add(state.RecordingEvent{At: 5000 * time.Second, Kind: "db.session.query.failed", Text: "drop table\n<b>orders</b> (failed: no)"})
	c.add(state.RecordingEvent{At: 5001 * time.Second, Kind: "db.session.end", Text: "session ends"})
	tab := openPage(t, writePage(t, state.Recording{ID: "1", Kind: "db", User: "alice", Where: "orders"}, c.events), "light")
	if n := get(tab, chromedp.Evaluate[int](`document.querySelectorAll(".room").length`)); n != 0 {
		t.Error("there is a terminal")
	}
	if n := get(tab, chromedp.Evaluate[int](`document.querySelectorAll(".mark").length`)); n == 0 || n > 100 {
		t.Errorf("%d rows are in the page", n)
	}
	tab.seek(4000_500)
	if now := get(tab, chromedp.Text(chromedp.CSS(".mark[aria-current]"))); !strings.Contains(now, "id = 4000") {
		t.Errorf("the table is at %q", now)
	}
	tab.do(chromedp.SendKeys(chromedp.CSS("#filter"), "FAILED"))
	tab.await(`document.querySelector(".list [role=table]").ariaRowCount === "1"`)
	if row := get(tab, chromedp.Text(chromedp.CSS(".mark"))); !strings.Contains(row, "drop table <b>orders</b>") {
		t.Errorf("the failed query is %q", row)
	}
	tab.click(".mark button")
	tab.picture("player-queries")
}

// Nothing that a session printed, or that is known of it, does anything in the page.
func TestPlayerHostile(t *testing.T) {
	const evil = "</script><script>owned=1</script><img src=x onerror=owned=1><a href=javascript:owned=1>x</a>" +
		"\x1b]0;owned\a\x1b]8;;http://evil.example\x1b\\click\x1b]8;;\x1b\\\x1b]52;c;aGVsbG8=\a\x1b[6n\x1b[c\x1bP+q544e\x1b\\\u202egnp.exe\u2066\xff\xfe\xe6"
	var c cast
	c.add(state.RecordingEvent{Kind: "session.start", Text: evil, Cols: 120, Rows: 24, Fields: `{"login":"</script><script>owned=1</script>"}`})
	c.print(0, evil+"\r\n")
	c.add(state.RecordingEvent{At: time.Second, Kind: evil, Text: evil, Fields: evil})
	c.print(2*time.Second, strings.Repeat("\a", 1<<20))
	c.print(3*time.Second, strings.Repeat("long", 10<<20/4))
	for i := range 40 {
		side := 500 - i%2*499
		c.add(state.RecordingEvent{At: 4*time.Second + time.Duration(i)*time.Millisecond, Kind: "resize", Text: "terminal", Cols: side, Rows: side})
		c.print(4*time.Second+time.Duration(i)*time.Millisecond, "\x1b[999;999Hx\x1b[9999X\x1b[9999@y\x1b[2;3000r\x1b[M")
	}
	random := rand.New(rand.NewPCG(1, 1))
	noise := make([]byte, 300_000)
	for i := range noise {
		noise[i] = byte(random.IntN(256))
	}
	c.print(5*time.Second, string(noise))
	c.add(state.RecordingEvent{At: 6 * time.Second, Kind: "resize", Cols: 80, Rows: 24})
	for _, text := range []string{
		"before\r\n", "x\x1b[99999999L\r\n", "after\r\n", "x\x1b[1;1r\x1b[5;3r\x1b[99999999S\x1b[99999999T",
		"x\x1b[99999999I\x1b[99999999P\x1b[99999999M\x1b[99999999X\x1b[99999999@", "\x1b[999", "99999M\u009b99999999L",
	} {
		c.print(6*time.Second, text)
	}
	c.print(6*time.Second, "\x1bc\x1b[2Jstill here\r\nx\x1b[999999999b\x1b[999999999I\x1b[999999999Z|")
	r := shell
	r.User, r.Where = evil, evil
	tab := openPage(t, writePage(t, r, c.events), "dark")
	inert := func(when string) {
		t.Helper()
		found := get(tab, chromedp.Evaluate[string](`[typeof owned, document.querySelectorAll("#app a, #app img, #app script, #app iframe, #app style").length,
			[...document.scripts].filter(s => !s.type).length, /[\u202e\u2066\u001b\u0007]/.test(document.getElementById("app").textContent), /owned$/.test(document.title)].join()`))
		if found != "undefined,0,1,false,false" {
			t.Errorf("%s the page has %s", when, found)
		}
	}
	inert("at its beginning")
	for at := 1000; at <= 6000; at += 1000 {
		tab.seek(at)
		inert(fmt.Sprintf("at %d ms", at))
		for i := range len(get(tab, chromedp.Evaluate[[]string](`[...document.querySelectorAll(".mark button")].map(b => "")`))) {
			if i < 3 {
				tab.click(fmt.Sprintf(".mark:nth-child(%d) button", i+1))
				tab.await(settled)
				inert("with a detail")
			}
		}
	}
	tab.key("6")
	tab.seek(6000)
	if rows := tab.rows(); len(rows) != 24 || rows[0] != "still here" || rows[1] != "x|" {
		t.Errorf("it ends with %q", rows)
	}
}

// Words of which random sessions are made: what an emulator keeps and does not show.
var words = []string{
	"hello ", "héllo ", "漢字", "🚀", "\r\n", "\n", "\r", "\b", "\t", "x", strings.Repeat("long ", 30),
	"\x1b[1;31m", "\x1b[0m", "\x1b[38;5;208m", "\x1b[48;2;1;2;3m", "\x1b[7m", "\x1b[0;4m",
	"\x1b[H", "\x1b[2J", "\x1b[5;10H", "\x1b[K", "\x1b[1K", "\x1b[3A", "\x1b[2B", "\x1b[4C", "\x1b[2D", "\x1b[2L", "\x1b[M", "\x1b[3P", "\x1b[2@", "\x1b[2X",
	"\x1b[5;15r", "\x1b[r", "\x1bM", "\x1bD", "\x1b7", "\x1b8", "\x1b[?1049h", "\x1b[?1049l", "\x1b[?25l", "\x1b[?25h", "\x1b[?7l", "\x1b[?7h",
	"\x1b[4h", "\x1b[4l", "\x1b[?6h", "\x1b[?6l", "\x1b(0", "lqqk", "\x1b(B", "\x0e", "\x0f", "\x1b)0", "\xff\xfe", "\xe6", "\x1b[!p", "\x1bc", "\x1b[",
}

// Seeking shows what playing straight does. Here playing passes by moments at which a
// pen, a saved cursor or a scroll region is kept from far before.
func TestPlayerSeeksExactly(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 5))
	var c cast
	c.add(state.RecordingEvent{Kind: "session.start", Cols: 80, Rows: 24})
	for ms := range 4000 {
		var b strings.Builder
		for b.Len() < 300 {
			b.WriteString(words[random.IntN(len(words))])
		}
		c.print(time.Duration(ms)*time.Millisecond, b.String())
		if random.IntN(1000) == 0 {
			c.add(state.RecordingEvent{At: time.Duration(ms) * time.Millisecond, Kind: "resize", Cols: 20 + random.IntN(80), Rows: 16 + random.IntN(30)})
		}
	}
	tab := openPage(t, writePage(t, shell, c.events), "dark")
	type moment struct {
		At   int
		Rows []string
	}
	look := func() moment {
		return get(tab, chromedp.Evaluate[moment](`new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(
			{At: Number(document.querySelector(".page").dataset.at), Rows: [...document.querySelectorAll(".terminal .row")].map(r => r.textContent)}))))`,
			chromedp.EvalAwaitPromise))
	}
	var seen []moment
	for next := 250; next < 4000; next += 250 {
		tab.do(chromedp.KeyEvent(" ")) // play
		tab.await(fmt.Sprintf(`Number(document.querySelector(".page").dataset.at) >= %d`, next))
		tab.do(chromedp.KeyEvent(" ")) // pause
		m := look()
		for now := look(); now.At != m.At || !slices.Equal(now.Rows, m.Rows); now = look() {
			m = now // what was due is still being shown
		}
		seen = append(seen, m)
	}
	random.Shuffle(len(seen), func(i, j int) { seen[i], seen[j] = seen[j], seen[i] })
	for _, m := range seen {
		tab.seek(m.At)
		if rows := tab.rows(); !slices.Equal(rows, m.Rows) {
			t.Errorf("at %d ms seeking shows\n%s\nplaying\n%s", m.At, strings.Join(rows, "\n"), strings.Join(m.Rows, "\n"))
		}
	}
}

// A large recording is read in pieces: BERTH_WEB_MIB=100 takes the figures of
// docs/BENCHMARKS.md.
func TestPlayerLarge(t *testing.T) {
	mib := 4
	if size := os.Getenv("BERTH_WEB_MIB"); size != "" {
		n, err := strconv.Atoi(size)
		if err != nil {
			t.Fatal(err)
		}
		mib = n
	}
	random := rand.New(rand.NewPCG(1, 1))
	var c cast
	c.add(state.RecordingEvent{Kind: "session.start", Cols: 120, Rows: 40})
	pieces := mib << 8
	hour := time.Hour / time.Duration(pieces)
	for i := range pieces {
		var b strings.Builder
		for b.Len() < 4096 {
			fmt.Fprintf(&b, "\x1b[32m%08x\x1b[0m compiling package %d\r\n", random.Uint32(), i)
		}
		c.print(time.Duration(i)*hour, b.String()[:4096])
	}
	path := writePage(t, shell, c.events)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	tab := openPage(t, path, "dark")
	read := time.Since(begin)
	var slowest time.Duration
	for _, at := range []int{3_500_000, 1_000_000, 2_000_000, 3_000_000, 500_000} {
		begin := time.Now()
		tab.seek(at)
		slowest = max(slowest, time.Since(begin))
	}
	if rows := strings.Join(tab.rows(), "\n"); !strings.Contains(rows, fmt.Sprintf("compiling package %d", pieces*500/3600)) {
		t.Errorf("it shows\n%s", rows)
	}
	heap := get(tab, chromedp.Evaluate[float64]("performance.memory.usedJSHeapSize"))
	t.Logf("%d MiB are a page of %.1f MiB, read in %s; the slowest seek takes %s; the page's heap has %.1f MiB",
		mib, float64(info.Size())/(1<<20), read.Round(100*time.Millisecond), slowest.Round(10*time.Millisecond), heap/(1<<20))
	if slowest > 3*time.Second {
		t.Errorf("the slowest seek takes %s", slowest)
	}
}

// A search looks at the screen thousands of times without a wait for each, shows
// where the match is, and leaves a narrow page as wide as it is.
func TestPlayerSearch(t *testing.T) {
	const prints = 3600
	var c cast
	c.add(state.RecordingEvent{Kind: "session.start", Cols: 40, Rows: 10})
	for i := range prints {
		c.print(time.Duration(i)*time.Second, fmt.Sprintf("line %d of an hour\r\n", i))
	}
	c.print(prints*time.Second, strings.Repeat("x", 37)+"Needle\r\n")
	tab := openPage(t, writePage(t, shell, c.events), "light")
	size := emulation.SetDeviceMetricsOverrideParams{Width: 360, Height: 800, DeviceScaleFactor: 1}
	if _, err := chromedp.Call(tab.ctx, emulation.SetDeviceMetricsOverride, size); err != nil {
		t.Fatal(err)
	}
	tab.do(chromedp.Evaluate[chromedp.Void](`globalThis.timers = 0; { const was = setTimeout; globalThis.setTimeout = (...a) => (timers++, was(...a)) }`))
	tab.do(chromedp.KeyEvent("/"))
	tab.do(chromedp.KeyEvent(kb.Backspace))
	tab.do(chromedp.KeyEvent("needle\r"))
	begin := time.Now()
	tab.await(`document.getElementById("found").textContent === "1 match"`)
	tab.await(settled + ` && document.querySelectorAll(".hit").length === 2`)
	timers := get(tab, chromedp.Evaluate[int]("timers"))
	t.Logf("the search took %s and %d timers", time.Since(begin).Round(10*time.Millisecond), timers)
	if timers > prints/2 {
		t.Errorf("the search of %d prints set %d timers", prints, timers)
	}
	hits := get(tab, chromedp.Evaluate[string](`[...document.querySelectorAll(".hit")].map((h) => h.style.translate + h.style.width).join()`))
	if want := "calc(37 * var(--cell)) calc(7 * var(--line))calc(3 * var(--cell)),calc(0 * var(--cell)) calc(8 * var(--line))calc(3 * var(--cell))"; hits != want {
		t.Errorf("the match is at %q", hits)
	}
	if wide := get(tab, chromedp.Evaluate[int]("document.documentElement.scrollWidth")); wide > 360 {
		t.Errorf("the page is %d pixels wide", wide)
	}
	tab.picture("player-narrow-search")
}

// A page that was cut in the middle says so.
func TestPlayerCut(t *testing.T) {
	path := writePage(t, shell, aSession())
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range [][]byte{web.Player(), bytes.Replace(raw, []byte(`id="recording-total"`), []byte(`id="x"`), 1)} {
		if err := os.WriteFile(path, page, 0o600); err != nil {
			t.Fatal(err)
		}
		tab := newTab(t)
		tab.do(chromedp.Navigate("file://"+path), chromedp.WaitVisible(chromedp.CSS(".failed")))
		if text := get(tab, chromedp.Text(chromedp.CSS(".failed"))); !strings.Contains(text, "not whole") {
			t.Errorf("the page says %q", text)
		}
	}
}
