//go:build web && linux

package webtest

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/internal/paths"
	"berth/internal/simcluster"
	"berth/internal/simworld"
	"berth/internal/testwait"
)

// listenVar has a child of the tests listen on a port.
const listenVar = "BERTH_WEBTEST_LISTEN"

func TestMain(m *testing.M) {
	address := os.Getenv(listenVar)
	if address == "" {
		os.Exit(m.Run())
	}
	if _, err := net.Listen("tcp", address); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("listens")
	testwait.Hang()
}

// startPostgres starts a program of that name, which holds a port until the test ends.
func startPostgres(t *testing.T, port int) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "postgres")
	if err := os.Symlink(self, program); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program)
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=127.0.0.1:%d", listenVar, port))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("the program on the port: %q, %v", line, err)
	}
}

// world is a simulated cluster, the program under test as its agent, and its window.
type world struct {
	*simworld.World

	t       *testing.T
	environ []string
	berth   string
	agent   *client.Client
	open    *exec.Cmd // "berth open"
}

// standIn is the stand-in for tsh, built once.
var standIn = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "berth-web")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "tsh")
	out, err := exec.Command("go", "build", "-o", path, "berth/internal/simcluster/cmd/tsh").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build the stand-in for tsh: %w\n%s", err, out)
	}
	return path, nil
})

// newWorld starts a cluster, and an agent with these tunnels, in YAML's flow style. It
// waits until that answers. prepare is called before the agent starts.
func newWorld(t *testing.T, cfg simcluster.Config, prepare func(*world), tunnels ...string) *world {
	t.Helper()
	dir := shortDir(t)
	w := &world{t: t, World: simworld.In(t, cfg, filepath.Join(dir, "t"), filepath.Join(dir, "b"))}
	w.run(prepare, tunnels...)
	return w
}

// beside is a world of another user's, at the same cluster.
func (w *world) beside(user string) *world {
	w.t.Helper()
	dir := shortDir(w.t)
	other := &world{t: w.t, World: &simworld.World{
		T: w.t, Sim: w.Sim, Home: filepath.Join(dir, "t"), Dir: filepath.Join(dir, "b"), Log: &simworld.Log{},
	}}
	var err error
	other.Paths, err = paths.Resolve(func(key string) string {
		return map[string]string{paths.HomeVar: other.Dir}[key]
	})
	if err == nil {
		err = other.Paths.MakeDirs()
	}
	if err == nil {
		err = w.Sim.WriteWebCA(other.CAFile())
	}
	if err == nil {
		err = w.Sim.Login(other.Home, user)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	other.run(nil)
	return other
}

// shortDir is a folder for a socket, whose path must be short.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "w")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// run starts the agent.
func (w *world) run(prepare func(*world), tunnels ...string) {
	w.t.Helper()
	w.install(tunnels...)
	if prepare != nil {
		prepare(w)
	}
	w.start("agent", "run")
	w.agent = w.Client()
	w.become("an agent that answers", func(state.Snapshot) bool { return true })
}

// install makes the config, and what programs are started with.
func (w *world) install(tunnels ...string) {
	w.t.Helper()
	tsh, err := standIn()
	if err != nil {
		w.t.Fatal(err)
	}
	if w.berth, err = filepath.Abs("../../bin/berth"); err != nil {
		w.t.Fatal(err)
	}
	if _, err := os.Stat(w.berth); err != nil {
		w.t.Fatalf("no program to test: %v", err)
	}
	w.environ = append(os.Environ(), paths.HomeVar+"="+w.Dir, "TELEPORT_HOME="+w.Home, "BROWSER=true", "DBUS_SESSION_BUS_ADDRESS=disabled:")
	lines := []string{"tunnels: []"}
	if len(tunnels) > 0 {
		lines = []string{"tunnels:\n  - {" + strings.Join(tunnels, "}\n  - {") + "}"}
	}
	w.Configure(w.Trust(), append(lines, fmt.Sprintf("tsh: {path: %q}", tsh))...)
}

// start starts the program under test; it is ended with the test.
func (w *world) start(args ...string) (*exec.Cmd, *bufio.Reader) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, w.berth, args...)
	cmd.Env = w.environ
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = testwait.Patience
	stderr := &simworld.Log{}
	cmd.Stderr = stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // it was interrupted
		if w.t.Failed() {
			w.t.Logf("berth %s:\n%s", strings.Join(args, " "), stderr)
		}
	})
	return cmd, bufio.NewReader(out)
}

// tunnel is a tunnel of a config.
func tunnel(t testing.TB, name, resource string, more ...string) string {
	return strings.Join(append([]string{
		fmt.Sprintf("name: %q, kind: db, cluster: example.com, resource: %q, port: %d", name, resource, simworld.FreePort(t)),
	}, more...), ", ")
}

// become waits until the agent says that something is so.
func (w *world) become(what string, is func(state.Snapshot) bool) {
	w.t.Helper()
	testwait.Eventually(w.t, what, func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		s, err := w.agent.Snapshot(ctx)
		return err == nil && is(s)
	})
}

// is reports a tunnel's state.
func is(s state.Snapshot, name string, want state.TunnelState) bool {
	for _, t := range s.Tunnels {
		if t.Name == name {
			return t.State == want
		}
	}
	return false
}

// link opens the window without a browser, and returns its link.
func (w *world) link(page ...string) string {
	w.t.Helper()
	cmd, out := w.start(append([]string{"open", "--no-browser"}, page...)...)
	w.open = cmd
	line, err := out.ReadString('\n')
	if err != nil {
		w.t.Fatalf("berth open: %v", err)
	}
	return strings.TrimSpace(line)
}

// window opens the window in a browser.
func (w *world) window(page ...string) *tab {
	w.t.Helper()
	tab := newTab(w.t)
	tab.do(
		chromedp.Navigate(w.link(page...)),
		chromedp.WaitVisible(chromedp.CSS("main h1")),
	)
	return tab
}

// painted is when the page first showed something, in milliseconds since it was asked for.
func (tab *tab) painted() float64 {
	tab.t.Helper()
	return get(tab, chromedp.Evaluate[float64](`performance.getEntriesByName("first-contentful-paint")[0].startTime`))
}

// memory is what "berth open" has of the machine's.
func (w *world) memory() string {
	w.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", w.open.Process.Pid))
	if err != nil {
		w.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rss, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			return strings.TrimSpace(rss)
		}
	}
	return "not known"
}

// sees waits until the page shows a text.
func (tab *tab) sees(text string) {
	tab.t.Helper()
	tab.until(fmt.Sprintf("the text %q", text), "document.body.innerText.includes(%q)", text)
}

// until waits until an expression is true in the page.
func (tab *tab) until(what, expression string, args ...any) {
	tab.t.Helper()
	expression = fmt.Sprintf(expression, args...)
	ok := testwait.Until(func() bool {
		is, err := chromedp.Run(tab.ctx, chromedp.Evaluate[bool](expression))
		return err == nil && is
	})
	if !ok {
		tab.picture("failed-" + strings.ReplaceAll(tab.t.Name(), "/", "-"))
		tab.t.Fatalf("the page does not come to %s, but shows:\n%s", what, get(tab, chromedp.Evaluate[string]("document.body.innerText")))
	}
}

// press clicks the first visible button or link with this text or label, as a person
// would. Those of an open dialog come alone.
func (tab *tab) press(text string) {
	tab.t.Helper()
	tab.until("a button "+text, `(() => {
		const within = [...document.querySelectorAll("dialog[open]")].at(-1) ?? document;
		document.querySelector("[data-test]")?.removeAttribute("data-test");
		const found = [...within.querySelectorAll("button, a, summary, label")].find((b) =>
			(b.innerText.trim() === %[1]q || b.getAttribute("aria-label") === %[1]q) && !b.disabled && b.ariaDisabled !== "true" && b.checkVisibility());
		found?.setAttribute("data-test", "");
		return found !== undefined;
	})()`, text)
	// Rows that came with the last frame have their size, and so their place, with the next.
	// A hidden page has no frames.
	tab.do(chromedp.Evaluate[chromedp.Void](`new Promise((drawn) => {
		requestAnimationFrame(() => requestAnimationFrame(drawn));
		setTimeout(drawn, 1000);
	})`, chromedp.EvalAwaitPromise))
	tab.click("[data-test]")
}

// fill types into the field with this label, instead of what is in it.
func (tab *tab) fill(label, text string) {
	tab.t.Helper()
	tab.until("a field "+label, `(() => {
		const within = [...document.querySelectorAll("dialog[open]")].at(-1) ?? document;
		document.querySelector("[data-test]")?.removeAttribute("data-test");
		const found = [...within.querySelectorAll("input, textarea, select")].find((f) =>
			f.getAttribute("aria-label") === %[1]q || [...f.labels].some((l) => l.innerText.trim() === %[1]q));
		found?.setAttribute("data-test", "");
		found?.select?.();
		return found !== undefined;
	})()`, label)
	tab.do(chromedp.SendKeys(chromedp.CSS("[data-test]"), text))
}

// choose chooses in the list with this label.
func (tab *tab) choose(label, value string) {
	tab.t.Helper()
	tab.until("a list "+label, `(() => {
		const within = [...document.querySelectorAll("dialog[open]")].at(-1) ?? document;
		const found = [...within.querySelectorAll("select")].find((f) => [...f.labels].some((l) => l.innerText.trim().startsWith(%q)));
		if (!found) return false;
		found.value = %q;
		found.dispatchEvent(new Event("change", { bubbles: true }));
		return true;
	})()`, label, value)
}

// hit presses a key anywhere in the page.
func (tab *tab) hit(key string) {
	tab.t.Helper()
	tab.do(chromedp.KeyEvent(key))
}

// scheme is light or dark, as the user has their desktop.
func (tab *tab) scheme(name string) {
	tab.t.Helper()
	_, err := chromedp.Call(tab.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}},
	})
	if err != nil {
		tab.t.Fatal(err)
	}
}

// pictures keeps what the tab shows in light, in dark and on a narrow screen. axe-core
// may find no violation of WCAG AA, and nothing may be wider than the narrow screen.
func (tab *tab) pictures(name string) {
	tab.t.Helper()
	for _, scheme := range []string{"dark", "light"} {
		tab.scheme(scheme)
		tab.accessible(name + ", " + scheme)
		tab.picture("window-" + name + "-" + scheme)
	}
	tab.fits(name)
	tab.do(chromedp.EmulateViewport(360, 740))
	tab.fits(name)
	tab.picture("window-" + name + "-narrow")
	tab.do(chromedp.EmulateViewport(1280, 800))
}

// fits fails the test when the page has to be scrolled sideways, or what a row shows lies
// on top of another part of it.
func (tab *tab) fits(name string) {
	tab.t.Helper()
	covered := get(tab, chromedp.Evaluate[[]string](`[...document.querySelectorAll(".row, .needs li, .head")].flatMap((row) => {
		const parts = [...row.children].map((e) => ({ e, r: e.getBoundingClientRect() })).filter(({ r }) => r.width > 0 && r.height > 0);
		return parts.flatMap((a, i) => parts.slice(i + 1).filter((b) =>
			Math.min(a.r.right, b.r.right) - Math.max(a.r.left, b.r.left) > 1 && Math.min(a.r.bottom, b.r.bottom) - Math.max(a.r.top, b.r.top) > 1,
		).map((b) => a.e.outerHTML.slice(0, 100) + " and " + b.e.outerHTML.slice(0, 100)));
	})`))
	for _, pair := range covered {
		tab.t.Errorf("%s: one lies on the other: %s", name, pair)
	}
	for _, over := range get(tab, chromedp.Evaluate[[]string](`[...document.querySelectorAll(".card, .row, dialog")]
		.filter((e) => e.scrollWidth > e.clientWidth + 1).map((e) => e.outerHTML.slice(0, 200))`)) {
		tab.t.Errorf("%s: what is in it is wider: %s", name, over)
	}
	wide := get(tab, chromedp.Evaluate[[]string](`document.documentElement.scrollWidth <= innerWidth ? [] :
		[...document.querySelectorAll("main *")].filter((e) => e.getBoundingClientRect().right > innerWidth).map((e) => e.outerHTML.slice(0, 200))`))
	if len(wide) > 0 {
		tab.t.Errorf("%s is wider than the screen:\n%s", name, strings.Join(wide, "\n"))
	}
}

// axe is the program that checks a page against WCAG.
var axe = sync.OnceValues(func() (string, error) {
	text, err := os.ReadFile("../web/node_modules/axe-core/axe.min.js")
	return string(text), err
})

func (tab *tab) accessible(name string) {
	tab.t.Helper()
	script, err := axe()
	if err != nil {
		tab.t.Fatal(err)
	}
	if !get(tab, chromedp.Evaluate[bool](`typeof axe === "object"`)) {
		tab.do(chromedp.Evaluate[chromedp.Void](script))
	}
	found := get(tab, chromedp.Evaluate[[]string](`axe.run({ runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"] })
		.then((r) => r.violations.flatMap((v) => v.nodes.map((n) => v.id + ": " + n.html.slice(0, 200) + " " + n.failureSummary)))`,
		chromedp.EvalAwaitPromise))
	for _, violation := range found {
		tab.t.Errorf("%s: %s", name, violation)
	}
}
