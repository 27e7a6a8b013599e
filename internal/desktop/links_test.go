//go:build desktop && linux

package desktop

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"berth/agent/state"
	"berth/internal/paths"
)

// TestLinks follows berth:// links as a browser has them followed: by xdg-open, which
// finds berth in the entry that "berth tray install" wrote.
func TestLinks(t *testing.T) {
	w := newWorld(t, "desktop-links")
	tray := func(verb string) {
		t.Helper()
		cmd := w.command(w.berth, "tray", verb)
		cmd.Env = slices.DeleteFunc(slices.Clone(cmd.Env), func(kv string) bool { return strings.HasPrefix(kv, paths.HomeVar+"=") })
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "berth-link.desktop") {
			t.Fatalf("berth tray %s: %v\n%s", verb, err, out)
		}
	}
	tray("install")
	if got := w.output("xdg-mime", "query", "default", "x-scheme-handler/berth"); strings.TrimSpace(got) != "berth-link.desktop" {
		t.Fatalf("links are followed by %q", got)
	}

	w.clickLink("berth://add?cluster=example.com&kind=db&resource=cache&name=linked")
	w.agree("add")
	w.become("the link's tunnel", func(s state.Snapshot) bool { return hasTunnel(s, "linked") })

	// While one link asks, another does not; and a no is a no.
	w.clickLink("berth://add?cluster=example.com&kind=db&resource=pg-staging&name=refused")
	w.corner("zenity")
	if out, err := w.openLink("berth://tunnel/prod_pg").CombinedOutput(); err == nil || !strings.Contains(string(out), "another link waits") {
		t.Errorf("a second link ends with %v: %s", err, out)
	}
	if n := w.dialogs(); n != 1 {
		t.Errorf("%d dialogs are open", n)
	}
	settle()
	w.shot("refused")
	w.key("Escape")
	w.until("the dialog to be closed", func() bool { return w.dialogs() == 0 })

	// A link that would feed a login is none, and asks nothing.
	if out, err := w.openLink("berth://login/teleport.example.com?code=1234").CombinedOutput(); err == nil || w.dialogs() != 0 {
		t.Errorf("a link with a code ends with %v, and %d dialogs: %s", err, w.dialogs(), out)
	}

	w.clickLink("berth://recording/5e1f0c2a?t=90")
	w.agree("show")
	w.until("the recording's command to be shown", func() bool { return w.dialogs() == 1 })
	settle()
	w.shot("shown")
	w.key("Escape")
	w.until("the dialog to be closed", func() bool { return w.dialogs() == 0 })

	if s, err := w.agent.Snapshot(t.Context()); err != nil || hasTunnel(s, "refused") {
		t.Errorf("the refused tunnel is there, or %v", err)
	}
	tray("uninstall")
	if got := w.output("xdg-mime", "query", "default", "x-scheme-handler/berth"); strings.TrimSpace(got) != "" {
		t.Errorf("links are still followed by %q", got)
	}
}

// openLink is the system's own way to open a link; the tests' stand-in for it comes
// first on PATH.
func (w *world) openLink(link string) *exec.Cmd { return w.command("/usr/bin/xdg-open", link) }

// clickLink clicks a link.
func (w *world) clickLink(link string) {
	w.t.Helper()
	w.run("xdg-open", w.openLink(link))
}

// dialogs counts the dialogs that are open.
func (w *world) dialogs() int {
	out, err := w.command("xdotool", "search", "--onlyvisible", "--class", "zenity").Output()
	if err != nil {
		return 0 // it found none
	}
	return len(strings.Fields(string(out)))
}

func hasTunnel(s state.Snapshot, name string) bool {
	return slices.ContainsFunc(s.Tunnels, func(t state.Tunnel) bool { return t.Name == name })
}
