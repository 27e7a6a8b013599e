//go:build web

// Package webtest opens what berth shows in a browser in a real Chromium, and
// the page of a recording in Firefox as well.
// "make web-test" runs it.
package webtest

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// tab is one tab of a browser; what fails in it fails the test.
type tab struct {
	t     *testing.T
	ctx   context.Context
	close context.CancelFunc // of the first tab: ends the browser
}

// newTab opens a tab of a headless Chromium with an own, empty profile. It lasts
// as long as the test, at most two minutes.
func newTab(t *testing.T, options ...chromedp.ExecAllocatorOption) *tab {
	t.Helper()
	all := slices.Concat(chromedp.DefaultExecAllocatorOptions[:], options)
	all = append(all, chromedp.UserDataDir(t.TempDir()), chromedp.WindowSize(1280, 800))
	if os.Geteuid() == 0 {
		all = append(all, chromedp.NoSandbox) // Chromium has none for root
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, all...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	return &tab{t: t, ctx: ctx, close: cancel}
}

// tabOf opens another tab of the same browser, with which it ends.
func tabOf(browser *tab) *tab {
	browser.t.Helper()
	browser.do() // starts it
	ctx, closeIt := chromedp.NewContext(browser.ctx)
	return &tab{t: browser.t, ctx: ctx, close: closeIt}
}

// do runs steps, each after the one before. Selectors want their type, as CSS: without
// it they also find text that holds their words, scripts included.
func (tab *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	tab.t.Helper()
	if err := chromedp.Do(tab.ctx, steps...); err != nil {
		tab.t.Fatal(err)
	}
}

// click clicks what a selector finds first. A page that is drawn anew between the
// finding and the click has had none, and is clicked again.
func (tab *tab) click(selector string) {
	tab.t.Helper()
	for {
		err := chromedp.Do(tab.ctx, chromedp.Click(chromedp.CSS(selector)))
		if err == nil {
			return
		}
		if !strings.Contains(err.Error(), "Could not find node with given id") || tab.ctx.Err() != nil {
			tab.t.Fatalf("click %s: %v", selector, err)
		}
	}
}

// get returns what an action finds in the tab.
func get[T any](tab *tab, action chromedp.Action[T]) T {
	tab.t.Helper()
	value, err := chromedp.Run(tab.ctx, action)
	if err != nil {
		tab.t.Fatal(err)
	}
	return value
}

// picturesVar has the documents' pictures taken again, as "make web-pictures" does.
const picturesVar = "BERTH_WEBTEST_PICTURES"

// documented are pictures of the journeys that docs/images has.
var documented = map[string]string{
	"window-tunnel-light": "window-tunnel",
	"window-login-light":  "window-login",
	"window-port-light":   "window-tunnels",
	"window-500-light":    "window-500",

	"window-requests-light": "window-access",
}

// picture keeps what the tab shows, for a person to look at.
func (tab *tab) picture(name string) {
	tab.t.Helper()
	image := get(tab, chromedp.CaptureScreenshot())
	files := []string{filepath.Join("..", "..", "build", "web", name+".png")}
	if inDocs := documented[name]; inDocs != "" && os.Getenv(picturesVar) != "" {
		files = append(files, filepath.Join("..", "..", "docs", "images", inDocs+".png"))
	}
	for _, file := range files {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			tab.t.Fatal(err)
		}
		if err := os.WriteFile(file, image, 0o644); err != nil {
			tab.t.Fatal(err)
		}
	}
}
