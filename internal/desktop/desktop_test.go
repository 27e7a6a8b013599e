//go:build desktop && linux

package desktop

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gravitational/teleport/api/types"

	"berth/agent/config"
	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/internal/paths"
	"berth/internal/simcluster"
	"berth/internal/simworld"
	"berth/internal/testwait"
	"berth/proxies"
	"berth/tray"
)

const (
	// Where the panel draws the icon, and the lines of its menu.
	iconX, iconY = 20, 16
	firstLine    = 49
	lineHeight   = 25
)

// browserScript stands in for a browser, and for the person who logs in there
// as alice. It writes the link to berth's window into the file "window", and
// fails where that is a folder.
const browserScript = `#!/bin/sh
case "$1" in *127.0.0.1*#*) echo "$1" > "$(dirname "$0")/window"; exit $? ;; esac
page=$(curl -sSkL -o page.html -w '%{url_effective}' "$1")
link=$(sed -n 's/.*href="\([^"]*user=alice[^"]*\)".*/\1/p' page.html | sed 's/&amp;/\&/g')
curl -sSkL -o /dev/null "$(printf %s "$page" | sed 's|\(https://[^/]*\).*|\1|')$link"
`

// openerScript stands in for the program that opens files.
const openerScript = "#!/bin/sh\necho \"$1\" > opened\n"

// world is what the journeys share.
type world struct {
	*screen
	*simworld.World

	berth string // the program under test
	agent *client.Client

	tray, agentProcess *exec.Cmd

	few []string // the environment of fewPrograms
}

// newWorld makes a world whose pictures go to a folder of build.
func newWorld(t *testing.T, pictures string) *world {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	shots := filepath.Join(root, "build", pictures)
	if err := os.RemoveAll(shots); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(shots, 0o755); err != nil {
		t.Fatal(err)
	}
	w := &world{screen: newScreen(t, shots), berth: filepath.Join(root, "bin", "berth")}
	if _, err := os.Stat(w.berth); err != nil {
		t.Fatalf("no program to test: %v", err)
	}
	w.startCluster()
	w.startAgent()
	return w
}

func (w *world) startCluster() {
	w.t.Helper()
	build := exec.CommandContext(w.t.Context(), "go", "build", "-o", filepath.Join(w.dir, "tsh"), "berth/internal/simcluster/cmd/tsh")
	if out, err := build.CombinedOutput(); err != nil {
		w.t.Fatalf("build the stand-in for tsh: %v\n%s", err, out)
	}
	cfg := simcluster.Config{
		Name: "example.com", SessionTTL: 12 * time.Hour,
		Roles: []simcluster.Role{
			{Name: "access", Request: simcluster.RequestRules{Roles: []string{"dba"}}, Review: []string{"admin"}}, {Name: "dba"}, {Name: "admin"},
		},
		Users:      []simcluster.User{{Name: "alice"}, {Name: "carol"}},
		Connectors: []simcluster.Connector{{Name: "okta", Type: "saml"}},
		Databases: []simcluster.Database{
			{Name: "pg-prod", Protocol: "postgres"}, {Name: "orders", Protocol: "mysql"}, {Name: "cache", Protocol: "redis"},
			{Name: "pg-staging", Protocol: "postgres"},
		},
	}
	home, tshHome := filepath.Join(w.dir, "berth"), filepath.Join(w.dir, "tsh-home")
	browser := filepath.Join(w.dir, "browser")
	for name, script := range map[string]string{browser: browserScript, filepath.Join(w.dir, "xdg-open"): openerScript} {
		if err := os.WriteFile(name, []byte(script), 0o700); err != nil {
			w.t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(w.dir, "window"), 0o700); err != nil { // long texts open in dialogs until firstRun
		w.t.Fatal(err)
	}
	w.environ = append(w.environ, "PATH="+w.dir+":"+os.Getenv("PATH"), paths.HomeVar+"="+home, "TELEPORT_HOME="+tshHome, "BROWSER="+browser)
	w.World = simworld.In(w.t, cfg, tshHome, home)
	w.configure()
}

// configure writes a config with two tunnels and logs in.
func (w *world) configure() {
	w.t.Helper()
	w.Configure(w.Trust()+", auth: okta", fmt.Sprintf("tsh: {path: %q}", filepath.Join(w.dir, "tsh")))
	for _, names := range [][2]string{{"prod_pg", "pg-prod"}, {"shop", "orders"}} { // in an order, for the pictures
		name, resource := names[0], names[1]
		spec := state.TunnelSpec{Name: name, Kind: state.KindDB, Cluster: "example.com", Resource: resource, DBUser: "alice", DBName: "app"}
		spec.Port = proxies.DerivePort(spec.Cluster, "db", resource, proxies.PortBusy)
		if err := config.AddTunnel(w.Paths.Config, spec); err != nil {
			w.t.Fatal(err)
		}
	}
	w.Login()
}

func (w *world) startAgent() {
	w.t.Helper()
	w.agentProcess = w.start("agent", w.berth, "agent", "run")
	w.agent = w.Client()
	w.become("two ready tunnels", func(s state.Snapshot) bool {
		return len(s.Tunnels) == 2 && !slices.ContainsFunc(s.Tunnels, func(t state.Tunnel) bool { return t.State != state.TunnelReady })
	})
}

func (w *world) startTray() {
	w.t.Helper()
	before := w.logged("the agent answers")
	w.tray = w.start("tray", w.berth, "tray", "--log-level", "debug")
	w.until("the icon", func() bool { return w.logged("the agent answers") > before })
	settle()
	settle()
}

// logged is how often the trays have said something in their log.
func (w *world) logged(what string) int {
	w.t.Helper()
	log, err := os.ReadFile(filepath.Join(w.shots, "tray.log"))
	if err != nil {
		return 0 // there is none yet
	}
	return strings.Count(string(log), what)
}

// become waits until the agent says that something is so.
func (w *world) become(what string, is func(state.Snapshot) bool) {
	w.t.Helper()
	w.until(what, func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		s, err := w.agent.Snapshot(ctx)
		return err == nil && is(s)
	})
}

func (w *world) tunnel(name string) state.Tunnel {
	w.t.Helper()
	s, err := w.agent.Snapshot(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	for _, t := range s.Tunnels {
		if t.Name == name {
			return t
		}
	}
	w.t.Fatalf("no tunnel %s", name)
	return state.Tunnel{}
}

// line is a line of the menu that is opened by clicking the icon: its place on
// the screen, and how many lines down from the first of its submenu a child is.
func (w *world) line(parent, child string) (y, down int) {
	w.t.Helper()
	s, err := w.agent.Snapshot(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	psql := func(state.Tunnel) (string, string, bool) { return "psql", "psql", true }
	first := tray.Setting{Title: "Notifications", Kind: tray.SettingSwitch, Value: "true"}
	if strings.Contains(w.config(), "enabled: false") {
		first.Value = "false"
	}
	env := tray.Env{GOOS: "linux", Client: psql, Window: true, Settings: []tray.Setting{first}}
	y = firstLine
	group := tray.GroupFirst
	for _, it := range tray.Layout(s, env, time.Now()) {
		for _, line := range []tray.Group{tray.GroupNote, tray.GroupFoot} {
			if group < line && it.Group >= line {
				y++ // of the line between
			}
		}
		group = it.Group
		if strings.Contains(it.Label, parent) {
			for i, c := range it.Children {
				if c.Label == child {
					return y, i
				}
			}
			if child == "" {
				return y, 0
			}
		}
		y += lineHeight
	}
	w.t.Fatalf("the menu has no %q with %q", parent, child)
	return 0, 0
}

// choose clicks a line of a submenu, and takes a picture before.
func (w *world) choose(shot, parent, child string) {
	w.t.Helper()
	y, down := w.line(parent, child)
	w.click(iconX, iconY)
	w.point(100, y)
	settle()
	w.key("Right")
	for range down {
		w.output("xdotool", "key", "Down")
	}
	settle()
	if shot != "" {
		w.shot(shot)
	}
	w.key("Return")
	if w.menuOpen() { // a busy machine loses a key
		w.key("Return")
	}
}

func TestDesktop(t *testing.T) {
	w := newWorld(t, "desktop")
	w.startTray()
	w.click(iconX, iconY)
	w.shot("menu")
	w.key("Escape")

	w.choose("copy-address", "prod__pg", "Copy address")
	w.until("the address on the clipboard", func() bool { return w.clipboard() == w.tunnel("prod_pg").Address })
	w.choose("copy-command", "shop", "Copy psql command")
	w.until("the command on the clipboard", func() bool { return strings.HasPrefix(w.clipboard(), "mysql ") })

	w.choose("stop", "shop", "Stop")
	w.become("a stopped tunnel", func(state.Snapshot) bool { return w.tunnel("shop").State == state.TunnelStopped })
	settle()
	w.choose("start", "shop", "Start")
	w.become("a started tunnel", func(state.Snapshot) bool { return w.tunnel("shop").State == state.TunnelReady })

	settle()
	w.choose("settings", "Settings", "Notifications: on · turn off")
	w.until("a config without notifications", func() bool { return strings.Contains(w.config(), "enabled: false") })
	settle()
	w.choose("settings-off", "Settings", "Notifications: off · turn on")
	w.until("a config with notifications", func() bool { return strings.Contains(w.config(), "enabled: true") })

	settle()
	w.click(iconX, iconY)
	y, _ := w.line("Add tunnel", "")
	w.point(100, y)
	settle()
	w.shot("add-tunnel")
	w.key("Right")
	w.key("Return")
	w.become("a third tunnel", func(s state.Snapshot) bool { return len(s.Tunnels) == 3 && s.Tunnels[2].State == state.TunnelReady })
	settle()
	w.shot("added")

	before := w.validUntil()
	testwait.NextSecond()
	w.choose("renew", "alice", "Renew now")
	w.become("a later end", func(state.Snapshot) bool { return w.validUntil().After(before) })
	settle()
	w.shot("renewed")

	if err := w.Sim.Login(filepath.Join(w.dir, "tsh-home"), "alice", simcluster.WithTTL(40*time.Second)); err != nil {
		t.Fatal(err)
	}
	w.become("a notice", func(s state.Snapshot) bool { return len(s.Notices) > 0 })
	settle()
	settle()
	w.shot("expiring")
	before = w.validUntil()
	w.press(0, 2) // Renew now
	w.become("a later end, and no notice", func(s state.Snapshot) bool {
		return w.validUntil().Sub(before) > time.Hour && len(s.Notices) == 0
	})
	settle()
	w.shot("renewed-by-button")

	w.requests()
	w.answers()
	w.agentAway()
	w.small()
	w.firstRun()
}

// config is the config file's text.
func (w *world) config() string {
	w.t.Helper()
	text, err := os.ReadFile(w.Paths.Config)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(text)
}

// requests reviews one access request and assumes another, by the buttons of
// their notifications.
func (w *world) requests() {
	w.t.Helper()
	asked := w.Sim.PutAccessRequest(simcluster.AccessRequest{User: "carol", Roles: []string{"admin"}, Reason: "incident 42: <b>orders</b> & co"})
	w.noticed("review")
	w.click(iconX, iconY)
	w.shot("review-menu")
	w.key("Escape")
	w.press(0, 2) // Approve
	w.until("the approval", func() bool {
		r, ok := w.Sim.AccessRequest(asked)
		return ok && r.GetState() == types.RequestState_APPROVED
	})
	settle()

	mine := w.Sim.PutAccessRequest(simcluster.AccessRequest{User: "alice", Roles: []string{"dba"}, Reason: "migration"})
	w.become("a request of one's own", func(s state.Snapshot) bool { return len(s.Requests) > 1 })
	if err := w.Sim.ResolveAccessRequest(mine, types.RequestState_APPROVED, "ok for tonight"); err != nil {
		w.t.Fatal(err)
	}
	w.noticed("approved")
	w.press(1, 2) // Details, which keep the button where the window does not open
	w.until("no window", func() bool { return w.logged("the window was not opened") == 1 })
	w.point(500, 500)
	settle()
	settle()
	w.shot("approved-details")
	w.press(0, 1)      // Assume
	w.agree("confirm") // since the session ends earlier with it
	w.become("the role", func(s state.Snapshot) bool {
		return len(s.Profiles) == 1 && slices.Contains(s.Profiles[0].Roles, "dba")
	})
	settle()
	settle()
	w.click(iconX, iconY)
	w.shot("assumed-menu")
	w.key("Escape")
}

// answers looks at what the tray says for itself: to a second start, and of
// what the doctor found, whose report is opened by the notification's button.
func (w *world) answers() {
	w.t.Helper()
	w.output(w.berth, "tray")
	w.point(500, 500)
	settle()
	w.shot("second-start")
	w.choose("help-menu", "Help", "Doctor")
	report := filepath.Join(w.dir, "berth", "state", "doctor.txt")
	w.until("the doctor's report", func() bool { _, err := os.Stat(report); return err == nil })
	w.agree("doctor") // Copy
	w.until("the report on the clipboard", func() bool { return strings.Contains(w.clipboard(), "tsh") })
}

// noticed waits for a notice and takes a picture of it.
func (w *world) noticed(shot string) {
	w.t.Helper()
	w.become("a notice", func(s state.Snapshot) bool { return len(s.Notices) > 0 })
	w.point(500, 500) // not over its buttons
	settle()
	settle()
	w.shot(shot)
}

// agentAway kills the agent, and starts it from the menu.
func (w *world) agentAway() {
	w.t.Helper()
	_ = w.agentProcess.Process.Kill()
	w.until("the agent's end", func() bool { _, err := w.agent.Snapshot(w.t.Context()); return err != nil })
	settle()
	settle()
	w.click(iconX, iconY)
	w.shot("away")
	w.click(100, firstLine)
	started := w.agent
	w.t.Cleanup(func() { _ = started.Shutdown(context.Background()) }) // firstRun does, unless it does not come to that
	w.become("an agent that works", func(s state.Snapshot) bool {
		return len(s.Tunnels) == 3 && s.Tunnels[0].State == state.TunnelReady
	})
	w.until("the tray's answer", func() bool { return w.logged("the agent answers") == 2 })
	settle()
	settle()
	w.shot("back")
}

func (w *world) validUntil() time.Time {
	w.t.Helper()
	s, err := w.agent.Snapshot(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	if len(s.Profiles) != 1 || s.Profiles[0].ValidUntil == nil {
		return time.Time{}
	}
	return *s.Profiles[0].ValidUntil
}
