//go:build web

package webtest

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp"

	"berth/internal/web"
)

// The player's policy lets its own script and style run.
func TestPlayerStarts(t *testing.T) {
	file := filepath.Join(t.TempDir(), "player.html")
	if err := os.WriteFile(file, web.Player(), 0o600); err != nil {
		t.Fatal(err)
	}
	tab := newTab(t)
	tab.do(chromedp.Navigate("file://"+file), chromedp.WaitVisible(chromedp.CSS("h1")))
	if text := get(tab, chromedp.Text(chromedp.CSS("h1"))); text != "berth" {
		t.Errorf("the page says %q", text)
	}
	tab.picture("player")
}
