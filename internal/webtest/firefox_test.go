//go:build web

package webtest

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

// firefox is one tab of a headless Firefox, driven by WebDriver BiDi, the protocol
// of https://w3c.github.io/webdriver-bidi/. What fails in it fails the test.
type firefox struct {
	t       *testing.T
	conn    net.Conn
	context string // the tab's

	mu      sync.Mutex
	last    int
	answers map[int]chan bidiAnswer
	asked   []string // addresses that the browser was to load
	bad     []string // errors of the page
}

// bidiAnswer is a message from the browser: the answer to a command, or an event.
type bidiAnswer struct {
	Type    string          `json:"type"`
	ID      int             `json:"id"`
	Method  string          `json:"method"`
	Result  json.RawMessage `json:"result"`
	Params  json.RawMessage `json:"params"`
	Error   string          `json:"error"`
	Message string          `json:"message"`
}

// quiet are Firefox's settings for a test: it does not look for updates, nor save,
// suggest or count anything.
const quiet = `
user_pref("app.normandy.enabled", false);
user_pref("app.update.enabled", false);
user_pref("browser.aboutwelcome.enabled", false);
user_pref("browser.safebrowsing.malware.enabled", false);
user_pref("browser.safebrowsing.phishing.enabled", false);
user_pref("browser.shell.checkDefaultBrowser", false);
user_pref("browser.startup.homepage_override.mstone", "ignore");
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("extensions.update.enabled", false);
user_pref("network.captive-portal-service.enabled", false);
user_pref("network.connectivity-service.enabled", false);
user_pref("remote.prefs.recommended", true);
user_pref("services.settings.server", "http://127.0.0.1:1/");
user_pref("toolkit.telemetry.enabled", false);
`

// newFirefox starts a headless Firefox with an own, empty profile. It lasts as long
// as the test, at most a minute. scheme is "dark" or "light".
func newFirefox(t *testing.T, scheme string) *firefox {
	t.Helper()
	profile := t.TempDir()
	prefs := quiet + fmt.Sprintf("user_pref(\"layout.css.prefers-color-scheme.content-override\", %d);\n",
		slices.Index([]string{"dark", "light"}, scheme))
	if err := os.WriteFile(filepath.Join(profile, "user.js"), []byte(prefs), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	cmd := exec.CommandContext(ctx, "firefox-esr", "--headless", "--no-remote", "--profile", profile, "--remote-debugging-port=0",
		"--width=1280", "--height=800", "about:blank")
	cmd.Env = append(os.Environ(), "HOME="+profile, "MOZ_CRASHREPORTER_DISABLE=1")
	said, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start Firefox, which packaging/web-deps.sh --browser installs: %v", err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait()
	})
	address := ""
	lines := bufio.NewScanner(said)
	for address == "" && lines.Scan() {
		_, address, _ = strings.Cut(lines.Text(), "WebDriver BiDi listening on ")
	}
	go func() { _, _ = io.Copy(io.Discard, said) }()
	if address == "" {
		t.Fatalf("Firefox did not say where it listens: %v", lines.Err())
	}
	conn, _, _, err := ws.Dial(ctx, address+"/session")
	if err != nil {
		t.Fatal(err)
	}
	f := &firefox{t: t, conn: conn, answers: make(map[int]chan bidiAnswer)}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		f.listen()
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		<-gone
	})
	f.call("session.new", map[string]any{"capabilities": map[string]any{}}, nil)
	var tree struct {
		Contexts []struct {
			Context string `json:"context"`
		} `json:"contexts"`
	}
	f.call("browsingContext.getTree", map[string]any{}, &tree)
	f.context = tree.Contexts[0].Context
	f.call("session.subscribe", map[string]any{"events": []string{"network.beforeRequestSent", "log.entryAdded"}}, nil)
	return f
}

// listen takes what the browser sends, until the connection ends.
func (f *firefox) listen() {
	for {
		raw, err := wsutil.ReadServerText(f.conn)
		if err != nil {
			f.mu.Lock()
			for _, answer := range f.answers {
				close(answer)
			}
			f.answers = nil
			f.mu.Unlock()
			return
		}
		var a bidiAnswer
		if err := json.Unmarshal(raw, &a); err != nil {
			a = bidiAnswer{Method: "log.entryAdded", Params: raw}
		}
		f.mu.Lock()
		switch {
		case a.Type != "event" && f.answers[a.ID] != nil:
			f.answers[a.ID] <- a
			delete(f.answers, a.ID)
		case a.Method == "network.beforeRequestSent":
			var sent struct {
				Request struct {
					URL string `json:"url"`
				} `json:"request"`
			}
			_ = json.Unmarshal(a.Params, &sent)
			if !strings.HasPrefix(sent.Request.URL, "data:") { // its own controls' font: nothing is asked
				f.asked = append(f.asked, sent.Request.URL)
			}
		default:
			f.bad = append(f.bad, string(a.Params)+a.Message)
		}
		f.mu.Unlock()
	}
}

// call has the browser run a command. to may be nil.
func (f *firefox) call(method string, params, to any) {
	f.t.Helper()
	answer := make(chan bidiAnswer, 1)
	f.mu.Lock()
	f.last++
	id := f.last
	if f.answers == nil {
		f.mu.Unlock()
		f.t.Fatalf("%s: Firefox is gone", method)
	}
	f.answers[id] = answer
	f.mu.Unlock()
	raw, err := json.Marshal(map[string]any{"id": id, "method": method, "params": params})
	if err == nil {
		err = wsutil.WriteClientText(f.conn, raw)
	}
	if err != nil {
		f.t.Fatalf("%s: %v", method, err)
	}
	a, ok := <-answer
	if !ok || a.Type == "error" {
		f.t.Fatalf("%s: %s: %s", method, a.Error, a.Message)
	}
	if to != nil {
		if err := json.Unmarshal(a.Result, to); err != nil {
			f.t.Fatalf("%s: %v", method, err)
		}
	}
}

// eval returns what an expression is in the page, as text. A promise is awaited.
func (f *firefox) eval(expression string) string {
	f.t.Helper()
	var got struct {
		Result struct {
			Value string `json:"value"`
		} `json:"result"`
		Exception struct {
			Text string `json:"text"`
		} `json:"exceptionDetails"`
	}
	f.call("script.evaluate", map[string]any{
		"expression": "(async () => String(await (" + expression + ")))()", "target": map[string]any{"context": f.context}, "awaitPromise": true,
	}, &got)
	if got.Exception.Text != "" {
		f.t.Fatalf("%s: %s", expression, got.Exception.Text)
	}
	return got.Result.Value
}

// await waits until an expression is true in the page.
func (f *firefox) await(expression string) {
	f.t.Helper()
	held := f.eval(`new Promise(done => {
		const end = performance.now() + 10000
		const look = () => { const is = ` + expression + `; if (is || performance.now() > end) done(!!is); else setTimeout(look, 20) }
		look()
	})`)
	if held != "true" {
		f.picture("firefox-failed")
		f.t.Fatalf("this did not come about: %s", expression)
	}
}

// keys presses keys and waits until the page has obeyed.
func (f *firefox) keys(text string) {
	f.t.Helper()
	var presses []map[string]any
	for _, r := range text {
		presses = append(presses, map[string]any{"type": "keyDown", "value": string(r)}, map[string]any{"type": "keyUp", "value": string(r)})
	}
	f.act(map[string]any{"type": "key", "id": "keys", "actions": presses})
	f.await(settled)
}

// click clicks at a place, given as a share of an element's width from its left.
func (f *firefox) click(selector string, share float64) {
	f.t.Helper()
	var at [2]float64
	raw := f.eval(fmt.Sprintf(`(() => { const r = document.querySelector(%q).getBoundingClientRect()
		return JSON.stringify([r.left + r.width * %f, r.top + r.height / 2]) })()`, selector, share))
	if err := json.Unmarshal([]byte(raw), &at); err != nil {
		f.t.Fatal(err)
	}
	f.act(map[string]any{"type": "pointer", "id": "mouse", "actions": []map[string]any{
		{"type": "pointerMove", "x": int(at[0]), "y": int(at[1])}, {"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0},
	}})
	f.await(settled)
}

func (f *firefox) act(source map[string]any) {
	f.t.Helper()
	f.call("input.performActions", map[string]any{"context": f.context, "actions": []any{source}}, nil)
}

// picture keeps what the tab shows, for a person to look at.
func (f *firefox) picture(name string) {
	f.t.Helper()
	var shot struct {
		Data string `json:"data"`
	}
	f.call("browsingContext.captureScreenshot", map[string]any{"context": f.context}, &shot)
	raw, err := base64.StdEncoding.DecodeString(shot.Data)
	if err != nil {
		f.t.Fatal(err)
	}
	dir := filepath.Join("..", "..", "build", "web")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		f.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), raw, 0o644); err != nil {
		f.t.Fatal(err)
	}
}

// rows returns the rows of the page's terminal, a line each.
func (f *firefox) rows() string {
	f.t.Helper()
	return f.eval(`[...document.querySelectorAll(".terminal .row")].map(r => r.textContent).join("\n")`)
}

// TestFirefox opens a recording from a disk in Firefox, and does what a person does
// with it.
func TestFirefox(t *testing.T) {
	path := writePage(t, shell, aSession())
	f := newFirefox(t, "dark")
	f.call("browsingContext.navigate", map[string]any{"context": f.context, "url": "file://" + path, "wait": "complete"}, nil)
	f.await(`document.querySelector(".page[data-done=true]") !== null`)
	f.eval(`(window.refused = [], addEventListener("securitypolicyviolation", e => refused.push(e.blockedURI)), 0)`)
	if title := f.eval("document.title"); title != "ssh session of alice at web-1" {
		t.Errorf("the page's title is %q", title)
	}
	if rows := f.rows(); !strings.HasPrefix(rows, "alice@web-1:~$\n") {
		t.Errorf("it begins with %q", rows)
	}
	at := func() string {
		t.Helper()
		return f.eval(`document.querySelector(".page").dataset.at`)
	}

	// The bar, with the mouse and with keys.
	f.click("#seek", 0.5)
	if middle := f.eval(`Math.abs(document.querySelector(".page").dataset.at - 65000) < 2000`); middle != "true" {
		t.Errorf("the middle of the bar leads to %s", at())
	}
	if rows := f.rows(); !strings.Contains(rows, "│ héllo wörld │\n") || !strings.Contains(rows, " orange  pink inverse underlined\n") {
		t.Errorf("in the middle it shows %q", rows)
	}
	f.picture("firefox-dark")
	f.eval("document.activeElement.blur()")

	// The side pane follows, and a choice shows what is known of it.
	if now := f.eval(`document.querySelector(".mark[aria-current]").textContent`); !strings.Contains(now, "10.0.0.7:443") {
		t.Errorf("the pane is at %q", now)
	}
	f.click(".mark:nth-child(2) button", 0.5)
	f.await(`document.querySelector(".detail details") !== null`)
	if text := f.eval(`document.querySelector(".detail").textContent`); !strings.Contains(text, `"path": "/usr/bin/ls"`) {
		t.Errorf("of the event it says %q", text)
	}
	if rows := f.rows(); !strings.Contains(rows, "run.sh") || strings.Contains(rows, "héllo") {
		t.Errorf("at the command it shows %q", rows)
	}
	f.eval("document.activeElement.blur()")

	// Search, and its matches on the bar.
	f.keys("/")
	if id := f.eval("document.activeElement.id"); id != "search" {
		t.Errorf("the key / leads to %q", id)
	}
	f.keys("needle\uE007") // with Enter
	f.await(`document.getElementById("found").textContent.startsWith("2 matches")`)
	f.await(settled)
	if at() != "124000" {
		t.Errorf("the first match is at %s", at())
	}
	if hits := f.eval(`document.querySelector(".seek canvas").dataset.hits`); hits != "2" {
		t.Errorf("the bar has %s hits", hits)
	}
	f.keys("\uE00C") // Escape
	f.keys("d")
	f.await(`getComputedStyle(document.body).backgroundColor === "rgb(246, 248, 250)"`)
	f.picture("firefox-light")
	f.keys("n")
	if at() != "126000" {
		t.Errorf("the second match is at %s", at())
	}

	// Keys, and speed: the minutes of pause are over soon.
	for _, step := range []struct{ keys, want string }{
		{"0", "0"}, {"5", "65000"}, {"E", "64000"}, {"M", "4000"}, {"\uE014", "9000"}, {"\uE012", "4000"}, // the arrows
	} {
		f.keys(step.keys)
		if at() != step.want {
			t.Errorf("the key %q leads to %s, want %s", step.keys, at(), step.want)
		}
	}
	f.keys("++++i")
	if speed := f.eval(`document.getElementById("speed").value`); speed != "16" {
		t.Errorf("the speed is %s", speed)
	}
	f.keys(" ")
	f.await(`document.querySelector(".page").dataset.at === "130000"`)
	if rows := f.rows(); !strings.Contains(rows, "another needle: 漢字 🚀\n") {
		t.Errorf("it ends with %q", rows)
	}

	// Nothing was asked of any network, nothing was refused, and there is no error.
	f.mu.Lock()
	asked, bad := slices.Clone(f.asked), slices.Clone(f.bad)
	f.mu.Unlock()
	asked = slices.DeleteFunc(asked, func(url string) bool { return url == "file://"+path })
	if len(asked) > 0 || len(bad) > 0 {
		t.Errorf("the page asked for %q, its errors are %q", asked, bad)
	}
	if refused := f.eval("refused.join()"); refused != "" {
		t.Errorf("the page's policy refused %s", refused)
	}
	// If a recording got a script to run after all, the policy would keep it in.
	var reached atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	defer server.Close()
	for _, way := range []string{`fetch(%q).then(() => "out", () => "in")`, `new Promise(done => { const i = new Image();
		i.onload = i.onerror = () => done("in"); i.src = %q })`} {
		f.eval(fmt.Sprintf(way, server.URL))
	}
	if refused := f.eval("refused.length"); refused != "2" || reached.Load() != 0 {
		t.Errorf("the policy refused %s of 2 requests, %d were heard", refused, reached.Load())
	}
}
