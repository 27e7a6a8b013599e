//go:build desktop && linux

package desktop

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gravitational/teleport/api/types"

	"berth/agent/state"
	"berth/internal/paths"
	"berth/internal/simcluster"
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

	w.eachLink()
	w.hostileLinks()

	if s, err := w.agent.Snapshot(t.Context()); err != nil || hasTunnel(s, "refused") {
		t.Errorf("the refused tunnel is there, or %v", err)
	}
	tray("uninstall")
	if got := w.output("xdg-mime", "query", "default", "x-scheme-handler/berth"); strings.TrimSpace(got) != "" {
		t.Errorf("links are still followed by %q", got)
	}
}

// eachLink clicks the links of the verbs that are left, and agrees. berth's window opens
// at what a link shows.
func (w *world) eachLink() {
	w.t.Helper()
	opened := filepath.Join(w.dir, "window")
	if err := os.Remove(opened); err != nil { // from here on the browser opens the window
		w.t.Fatal(err)
	}
	asked := w.Sim.PutAccessRequest(simcluster.AccessRequest{User: "carol", Roles: []string{"admin"}, Reason: "incident 42"})
	w.become("a request", func(s state.Snapshot) bool { return len(s.Requests) > 0 })
	for _, c := range []struct{ shot, link, page string }{
		{"open", "berth://open", ""},
		{"tunnel", "berth://tunnel/prod_pg", "tunnels/prod_pg"},
		{"request", "berth://request/" + asked[:8], asked},
	} {
		w.anotherMinute()
		w.clickLink(c.link)
		w.agree(c.shot)
		w.until("the window of "+c.link, func() bool {
			text, err := os.ReadFile(opened)
			return err == nil && strings.HasPrefix(string(text), "http://127.0.0.1:") && strings.Contains(string(text), c.page)
		})
		if err := os.Remove(opened); err != nil {
			w.t.Fatal(err)
		}
	}

	mine := w.Sim.PutAccessRequest(simcluster.AccessRequest{User: "alice", Roles: []string{"dba"}, Reason: "migration"})
	if err := w.Sim.ResolveAccessRequest(mine, types.RequestState_APPROVED, "ok"); err != nil {
		w.t.Fatal(err)
	}
	w.become("an approval", func(s state.Snapshot) bool {
		return slices.ContainsFunc(s.Requests, func(r state.Request) bool { return r.ID == mine && r.Assumable })
	})
	w.anotherMinute()
	w.clickLink("berth://assume/" + mine + "?tunnel=prod_pg")
	w.agree("assume")
	w.become("the roles for one tunnel", func(s state.Snapshot) bool {
		return slices.ContainsFunc(s.Requests, func(r state.Request) bool { return slices.Equal(r.Tunnels, []string{"prod_pg"}) })
	})

	w.clickLink("berth://login/" + w.Sim.ProxyAddr())
	w.agree("login-needless")
	w.until("one dialog to follow another", func() bool { return w.window("^Logged in$") != "" })
	w.shot("logged-in-already")
	w.key("Escape")
	w.until("the dialog to be closed", func() bool { return w.dialogs() == 0 })

	if err := w.Sim.Login(filepath.Join(w.dir, "tsh-home"), "alice", simcluster.WithTTL(2*time.Second)); err != nil {
		w.t.Fatal(err)
	}
	session := func(want state.ProfileState) func(state.Snapshot) bool {
		return func(s state.Snapshot) bool { return len(s.Profiles) == 1 && s.Profiles[0].State == want }
	}
	w.become("an expired session", session(state.ProfileExpired))
	w.clickLink("berth://login/" + w.Sim.ProxyAddr())
	w.agree("login")
	w.become("a new session", session(state.ProfileValid))
}

// hostileLinks clicks links that ask for more than a link may. None opens a dialog, and
// none uses up a question.
func (w *world) hostileLinks() {
	w.t.Helper()
	w.anotherMinute()
	for _, link := range []string{
		"berth://login/teleport.example.com@evil.example.net",
		"berth://login/evil.example.net:443/../teleport.example.com",
		"berth://login/evil.example.net%00.example.com",
		"berth://login/%65vil.example.net%252e:443",
		"berth://tunnel/..%2f..%2fetc%2fpasswd",
		"berth://tunnel/prod_pg?then=add",
		"berth://add?cluster=c&kind=db&resource=r&name=--guard%3Doff",
		"berth://add?cluster=c&kind=db&resource=r&resource=s",
		"berth://add?cluster=c&kind=app&resource=r",
		"berth://request/5e1f0c2a%0aapprove",
		"berth://assume/5e1f0c2a?tunnel=prod_pg&accept=true",
		"berth://recording/5e1f0c2a?t=1e99",
		"berth://open#approve",
		"berth://open/--no-browser",
		"berth:--help",
	} {
		if out, err := w.openLink(link).CombinedOutput(); err == nil || w.dialogs() != 0 {
			w.t.Errorf("%s ends with %v, and %d dialogs: %s", link, err, w.dialogs(), out)
		}
	}
	w.clickLink("berth://open")
	w.corner("zenity")
	w.key("Escape")
	w.until("the dialog to be closed", func() bool { return w.dialogs() == 0 })
}

// anotherMinute makes berth forget how many links have asked.
func (w *world) anotherMinute() {
	w.t.Helper()
	if err := os.Remove(filepath.Join(w.Paths.StateDir, "links.json")); err != nil {
		w.t.Fatal(err)
	}
}

// openLink is the system's own way to open a link; the tests' stand-in for it comes
// first on PATH.
func (w *world) openLink(link string) *exec.Cmd { return w.command("/usr/bin/xdg-open", link) }

// clickLink clicks a link. What follows it may serve a window, and ends with the test.
func (w *world) clickLink(link string) {
	w.t.Helper()
	cmd := w.openLink(link)
	cmd.SysProcAttr.Setpgid = true
	w.run("xdg-open", cmd)
	w.t.Cleanup(func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) })
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
