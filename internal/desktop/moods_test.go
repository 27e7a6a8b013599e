//go:build desktop && linux

package desktop

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gravitational/teleport/api/types"

	"berth/agent/config"
	"berth/agent/state"
	"berth/internal/dbustest"
	"berth/internal/paths"
	"berth/internal/simcluster"
	"berth/internal/simworld"
)

// TestMoods brings the tray into its odd states, and looks at what a panel and a
// screen reader get of each: status, title and menu.
func TestMoods(t *testing.T) {
	w := newWorld(t, "desktop-moods")
	w.startTray()
	icon := dbustest.TrayOn(t, w.bus())

	release := w.crowd()
	w.face(icon, "crowd", "NeedsAttention", "14 of 15 tunnels ready · 1 needs you")
	menu := icon.Text(t)
	_, own, _ := strings.Cut(menu, "last__one · ")
	own, _, _ = strings.Cut(own, "\nexample.com · 14 more tunnels")
	t.Logf("the menu of a crowd:\n%s", menu)
	if strings.Contains(own, "Copy address") || !strings.Contains(own, "Change port…") || !strings.Contains(own, "Remove…") {
		t.Errorf("a tunnel whose port is taken offers:\n%s", own)
	}
	w.choose("taken", "last__one", "Change port…")
	w.until("the question for another port", func() bool { return w.window("^Change the port of last_one$") != "" })
	w.output("xdotool", "windowfocus", "--sync", w.window("^Change the port of last_one$"))
	w.shot("change-port")
	w.key("Escape")
	w.until("the question to be closed", func() bool { return w.dialogs() == 0 })
	release()
	w.become("the port to be taken back", func(state.Snapshot) bool { return w.tunnel("last_one").State == state.TunnelReady })

	other := w.secondCluster()
	w.face(icon, "two-clusters", "NeedsAttention", "15 of 16 tunnels ready · 1 needs you")
	w.holds(icon, "Log in to other.test", "other__pg · 127.0.0.1:", "waiting for login", "INSECURE proxy: ", "other.test · session ended")

	w.mistype(icon, other)

	// Of a session this short half is over before it warns.
	if err := w.Sim.Login(w.Home, "alice", simcluster.WithTTL(70*time.Second)); err != nil {
		t.Fatal(err)
	}
	warned := func(s state.Snapshot) bool {
		return slices.ContainsFunc(s.Notices, func(n state.Notice) bool {
			return slices.ContainsFunc(n.Actions, func(a state.NoticeAction) bool { return a.Verb == state.VerbSnooze })
		})
	}
	w.become("a warning", warned)
	settle()
	w.shot("warned")
	if _, err := w.agent.SnoozeRenewal(t.Context(), w.Sim.ProxyAddr(), ""); err != nil {
		t.Fatal(err)
	}
	w.become("a snoozed warning", func(s state.Snapshot) bool { return !warned(s) })
	w.face(icon, "snoozed", "Active", "alice @ example.com · ends in ")
	w.holds(icon, " reminder")

	w.assumed()
	w.face(icon, "assumed", "Active", "16 of 16 tunnels ready · INSECURE proxy · dba assumed")
	w.holds(icon, "dba", "INSECURE proxy: ")

	w.fewPrograms()
	w.withoutOpener()
	w.restartTray(w.environ)
	icon = dbustest.TrayOn(t, w.bus())
	for _, sim := range []*simcluster.Cluster{w.Sim, other} {
		if _, err := w.agent.Logout(t.Context(), sim.ProxyAddr(), ""); err != nil {
			t.Fatal(err)
		}
	}
	w.face(icon, "logged-out", "NeedsAttention", "0 of 16 tunnels ready · 2 need you")
	w.choose("", "Help", "Doctor")
	w.until("the doctor's report", func() bool { return w.dialogs() == 1 })
	title := strings.TrimSpace(w.output("sh", "-c", "xdotool search --onlyvisible --class zenity getwindowname"))
	if strings.Contains(title, "works") || strings.Contains(title, "well") {
		t.Errorf("logged out, the doctor says %q", title)
	}
	settle()
	w.agree("doctor-logged-out") // Copy
	w.until("the report on the clipboard", func() bool { return strings.Contains(w.clipboard(), "not logged in") })

	w.withoutTSH()
}

// face waits for what a panel and a screen reader get of the icon, and takes a picture of
// the menu.
func (w *world) face(icon *dbustest.Tray, shot, status, title string) {
	w.t.Helper()
	var got map[string]string
	is := func() bool {
		got = make(map[string]string)
		for _, name := range []string{"Status", "Title", "IconAccessibleDesc"} {
			var value string
			if err := icon.Property(name, &value); err != nil {
				return false
			}
			got[name] = value
		}
		return got["Status"] == status && strings.Contains(got["Title"], title) && got["Title"] == got["IconAccessibleDesc"]
	}
	defer func() { w.t.Logf("%s: %v", shot, got) }()
	w.until(fmt.Sprintf("%s, and in words %q", status, title), is)
	w.click(iconX, iconY)
	w.shot(shot)
	w.key("Escape")
}

// holds waits until the menu has texts.
func (w *world) holds(icon *dbustest.Tray, texts ...string) {
	w.t.Helper()
	for _, text := range texts {
		w.until(fmt.Sprintf("%q in the menu", text), func() bool { return strings.Contains(icon.Text(w.t), text) })
	}
}

// crowd adds tunnels until the menu folds them. Another program holds the port of the
// last, until release is called.
func (w *world) crowd() (release func()) {
	w.t.Helper()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	add := func(name string, port int) {
		spec := state.TunnelSpec{Name: name, Kind: state.KindDB, Cluster: "example.com", Resource: "pg-staging", DBUser: "alice", DBName: "app", Port: port}
		if err := config.AddTunnel(w.Paths.Config, spec); err != nil {
			w.t.Fatal(err)
		}
	}
	for i := range 12 {
		add(fmt.Sprintf("staging-%02d", i), simworld.FreePort(w.t))
	}
	add("last_one", taken.Addr().(*net.TCPAddr).Port)
	w.become("a crowd", func(s state.Snapshot) bool {
		return len(s.Tunnels) == 15 && s.Tunnels[14].State == state.TunnelPortInUse &&
			!slices.ContainsFunc(s.Tunnels[:14], func(t state.Tunnel) bool { return t.State != state.TunnelReady })
	})
	return func() { _ = taken.Close() }
}

// secondCluster has a login at another proxy, which is not verified, expire.
func (w *world) secondCluster() *simcluster.Cluster {
	w.t.Helper()
	other := simworld.Start(w.t, simcluster.Config{
		Name: "other.test", ProxyHost: "127.0.0.1", Users: []simcluster.User{{Name: "alice", Password: "alice-password"}},
		Databases: []simcluster.Database{{Name: "pg", Protocol: "postgres"}},
	})
	text := strings.Replace(w.config(), "profiles:\n", fmt.Sprintf("profiles:\n  - {proxy: %q, insecure: true}\n", other.ProxyAddr()), 1)
	if err := os.WriteFile(w.Paths.Config, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	if err := other.Login(w.Home, "alice", simcluster.WithTTL(2*time.Second)); err != nil {
		w.t.Fatal(err)
	}
	hold := state.Duration(5 * time.Minute) // a busy machine types slowly
	spec := state.TunnelSpec{
		Name: "other_pg", Kind: state.KindDB, Cluster: "other.test", Resource: "pg", DBUser: "alice", DBName: "app", Port: simworld.FreePort(w.t), Hold: &hold,
	}
	if err := config.AddTunnel(w.Paths.Config, spec); err != nil {
		w.t.Fatal(err)
	}
	w.become("a tunnel of an expired session", func(s state.Snapshot) bool {
		return len(s.Tunnels) == 16 && s.Tunnels[15].State == state.TunnelWaitingForLogin
	})
	return other
}

// mistype types a wrong password as often as one may, while psql waits, and then the
// right one, by the button of the notification that says so.
func (w *world) mistype(icon *dbustest.Tray, other *simcluster.Cluster) {
	w.t.Helper()
	host, port, err := net.SplitHostPort(w.tunnel("other_pg").Address)
	if err != nil {
		w.t.Fatal(err)
	}
	psql := w.command("psql", "-h", host, "-p", port, "-U", "alice", "-d", "app", "-Atc", "select current_user")
	psql.Env = append(psql.Env, "PGCONNECT_TIMEOUT=0")
	var said strings.Builder
	psql.Stdout, psql.Stderr = &said, &said
	if err := psql.Start(); err != nil {
		w.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- psql.Wait() }()
	w.become("a client that waits", func(state.Snapshot) bool { return w.tunnel("other_pg").Waiting == 1 })
	w.holds(icon, "Log in to other.test · psql (pid ")
	w.click(iconX, iconY)
	w.click(100, firstLine)
	title := "^Log in to other.test$"
	before := ""
	ask := func(shot, password string) {
		w.until("the dialog "+title, func() bool { next := w.owner(title); return next != "" && next != before })
		before = w.owner(title)
		w.answer(shot, title, password)
	}
	ask("mistype-1", "wrong")
	ask("mistype-2", "wrong again")
	ask("mistype-3", "and again")
	w.until("the last dialog to be closed", func() bool { return w.dialogs() == 0 })
	settle()
	w.point(500, 500)
	settle()
	w.shot("mistype-reason")
	if n := w.tunnel("other_pg").Waiting; n != 1 {
		w.t.Errorf("after three wrong passwords %d clients wait", n)
	}
	w.press(0, 1) // Log in
	ask("mistype-right", "alice-password")
	select {
	case err := <-ended:
		if err != nil || strings.TrimSpace(said.String()) != "alice" {
			w.t.Errorf("psql: %v, %s", err, said.String())
		}
	case <-time.After(30 * time.Second):
		w.t.Errorf("psql does not go on: %s", said.String())
	}
	w.point(500, 500)
	settle()
	w.shot("went-on")
}

// assumed has roles assumed in a long session.
func (w *world) assumed() {
	w.t.Helper()
	if err := w.Sim.Login(w.Home, "alice"); err != nil {
		w.t.Fatal(err)
	}
	w.become("a long session", func(s state.Snapshot) bool {
		return !slices.ContainsFunc(s.Profiles, func(p state.Profile) bool { return p.State != state.ProfileValid })
	})
	id := w.Sim.PutAccessRequest(simcluster.AccessRequest{User: "alice", Roles: []string{"dba"}, Reason: "migration"})
	if err := w.Sim.ResolveAccessRequest(id, types.RequestState_APPROVED, "ok"); err != nil {
		w.t.Fatal(err)
	}
	w.become("an approval", func(s state.Snapshot) bool {
		return slices.ContainsFunc(s.Requests, func(r state.Request) bool { return r.Assumable })
	})
	w.output(w.berth, "request", "assume", "--yes", id)
	w.become("the role", func(s state.Snapshot) bool {
		return slices.ContainsFunc(s.Requests, func(r state.Request) bool { return r.Assumed }) && len(s.Notices) == 0
	})
}

// fewPrograms leaves what the tray finds: nothing that opens files, and no tsh.
func (w *world) fewPrograms() {
	w.t.Helper()
	bin := filepath.Join(w.dir, "few")
	if err := os.Mkdir(bin, 0o700); err != nil {
		w.t.Fatal(err)
	}
	for _, name := range []string{"zenity", "xclip", "sh"} {
		path, err := exec.LookPath(name)
		if err != nil {
			w.t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(bin, name)); err != nil {
			w.t.Fatal(err)
		}
	}
	w.few = append(slices.Clone(w.environ), "PATH="+bin)
}

// restartTray starts the tray again, with another environment.
func (w *world) restartTray(environ []string) {
	w.t.Helper()
	_ = w.tray.Process.Kill()
	usual := w.environ
	w.environ = environ
	w.startTray()
	w.environ = usual
}

// withoutOpener has the tray open a file where nothing does.
func (w *world) withoutOpener() {
	w.t.Helper()
	w.restartTray(w.few)
	w.choose("no-opener", "Help", "Logs")
	w.until("the path on the clipboard", func() bool { return w.clipboard() == w.Paths.LogFile })
	w.point(500, 500)
	settle()
	w.shot("path-copied")
}

// withoutTSH is a new person's tray where there is no tsh.
func (w *world) withoutTSH() {
	w.t.Helper()
	if err := w.agent.Shutdown(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	home := filepath.Join(w.dir, "new")
	w.World = simworld.In(w.t, simcluster.Config{Name: "new.test"}, filepath.Join(w.dir, "tsh-new"), home)
	w.few = append(w.few, paths.HomeVar+"="+home, "TELEPORT_HOME="+w.Home)
	usual := w.environ
	w.environ = w.few
	w.agentProcess = w.start("agent", w.berth, "agent", "run")
	w.environ = usual
	w.agent = w.Client()
	w.become("an agent", func(state.Snapshot) bool { return true })
	w.restartTray(w.few)
	icon := dbustest.TrayOn(w.t, w.bus())
	w.face(icon, "no-tsh", "NeedsAttention", "0 of 0 tunnels ready · tsh is missing")
	w.holds(icon, "Get tsh, which logs you in")
	w.click(iconX, iconY)
	w.click(100, firstLine)
	w.until("how to get tsh", func() bool { return w.window("^berth needs tsh$") != "" })
	settle()
	w.shot("get-tsh")
	w.agree("get-tsh-copy")
	w.until("the words on the clipboard", func() bool { return strings.Contains(w.clipboard(), "https://goteleport.com/download") })
}

// bus is the address of the session's bus.
func (s *screen) bus() string { return "unix:path=" + filepath.Join(s.dir, "run", "bus") }
