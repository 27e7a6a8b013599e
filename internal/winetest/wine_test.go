//go:build wine && linux

package winetest

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"berth/internal/displaytest"
	"berth/internal/simcluster"
	"berth/internal/simcluster/simdb"
	"berth/internal/simworld"
	"berth/internal/testneeds"
	"berth/internal/testwait"
	"berth/internal/wake"
	"berth/proxies"
)

const (
	// minWine is the first that is known to run what Go makes: Wine 8 of Debian
	// 12 lacks ProcessPrng.
	minWine  = 10
	patience = 60 * time.Second
	// Where Wine's taskbar draws the first icon, on a desktop of this size.
	desktop      = "640x480"
	iconX, iconY = 628, 470
	payload      = 1 << 20
)

// wine is a Windows with berth.exe in it.
type wine struct {
	t       *testing.T
	prefix  []string // enters the world that wine is in
	root    string   // which is this folder here
	dir     string   // of everything the test writes, as seen from here
	shots   string
	display string
}

func newWine(t *testing.T) *wine {
	t.Helper()
	w := &wine{t: t, prefix: strings.Fields(os.Getenv("BERTH_WINE")), root: os.Getenv("BERTH_WINE_ROOT")}
	if w.root == "" {
		w.root = "/"
	}
	out, err := w.command(t.Context(), nil, "wine", "--version").Output()
	want := fmt.Sprintf("wine %d or later", minWine)
	if err != nil {
		testneeds.Skip(t, want, fmt.Sprintf("install it, or name it in BERTH_WINE (%v)", err))
	}
	version, ok := strings.CutPrefix(strings.TrimSpace(string(out)), "wine-")
	major, err := strconv.Atoi(strings.FieldsFunc(version+".", func(r rune) bool { return r < '0' || r > '9' })[0])
	if !ok || err != nil || major < minWine {
		testneeds.Skip(t, want, fmt.Sprintf("name it in BERTH_WINE, this one is %q", version))
	}
	t.Logf("wine %s", version)
	if w.dir, err = os.MkdirTemp(filepath.Join(w.root, "tmp"), "berth-wine-"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(w.dir, "home"), 0o700); err != nil {
		t.Fatal(err)
	}
	repository, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	w.shots = filepath.Join(repository, "build", "wine")
	if err := os.MkdirAll(w.shots, 0o755); err != nil {
		t.Fatal(err)
	}
	w.display = displaytest.Start(t, "800x600x24")
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_ = w.command(ctx, nil, "wineserver", "--kill").Run() // ends all of this prefix
		_ = os.RemoveAll(w.dir)
	})
	if out, err := w.command(t.Context(), nil, "wineboot", "--init").CombinedOutput(); err != nil {
		t.Fatalf("wineboot: %v\n%s", err, out)
	}
	w.build("berth.exe", "berth/cmd/berth")
	w.build("helper.exe", "berth/internal/winetest/helper")
	return w
}

func (w *wine) build(name, pkg string) {
	w.t.Helper()
	cmd := exec.CommandContext(w.t.Context(), "go", "build", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(w.dir, name), pkg)
	cmd.Env = append(os.Environ(), "GOOS=windows", "GOARCH=amd64", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		w.t.Fatalf("build %s: %v\n%s", name, err, out)
	}
}

// command is a command of Wine's world.
func (w *wine) command(ctx context.Context, env []string, argv ...string) *exec.Cmd {
	home := strings.TrimPrefix(w.dir, strings.TrimSuffix(w.root, "/")) + "/home"
	args := append([]string{}, w.prefix...)
	args = append(args, "env", "-i", "PATH=/usr/local/bin:/usr/bin:/bin", "HOME="+home, "WINEPREFIX="+home+"/wine",
		"WINEDEBUG=-all", "DISPLAY="+w.display, "XDG_RUNTIME_DIR="+home)
	args = append(args, env...)
	args = append(args, argv...)
	return exec.CommandContext(ctx, args[0], args[1:]...)
}

// windows is a path of the test's folder as Windows has it.
func (w *wine) windows(names ...string) string {
	inside := strings.TrimPrefix(w.dir, strings.TrimSuffix(w.root, "/"))
	return "Z:" + strings.ReplaceAll(filepath.Join(append([]string{inside}, names...)...), "/", `\`)
}

func (w *wine) berthHome() string { return "BERTH_HOME=" + w.windows("berth") }

// run runs a program of the test's folder and returns what it says.
func (w *wine) run(env []string, program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(w.t.Context(), 2*patience)
	defer cancel()
	out, err := w.command(ctx, env, append([]string{"wine", w.windows(program)}, args...)...).CombinedOutput()
	w.t.Logf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
	return string(out), err
}

func (w *wine) must(program string, args ...string) string {
	w.t.Helper()
	out, err := w.run([]string{w.berthHome()}, program, args...)
	if err != nil {
		w.t.Fatalf("%s %s: %v", program, strings.Join(args, " "), err)
	}
	return out
}

// explore has Windows' shell start a program, as it does at login.
func (w *wine) explore(program string, args ...string) *exec.Cmd {
	w.t.Helper()
	argv := append([]string{"wine", "explorer", "/desktop=shell," + desktop, w.windows(program)}, args...)
	cmd := w.command(context.Background(), []string{w.berthHome()}, argv...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd
}

func (w *wine) until(what string, is func() bool) {
	w.t.Helper()
	if !testwait.Until(is) {
		w.shot("failed")
		log, _ := os.ReadFile(filepath.Join(w.dir, "berth", "state", "tray.log"))
		w.t.Fatalf("waited in vain for: %s; the tray's log:\n%s", what, log)
	}
}

// shot takes a picture.
func (w *wine) shot(name string) {
	cmd := exec.CommandContext(w.t.Context(), "scrot", "--overwrite", filepath.Join(w.shots, name+".png"))
	cmd.Env = append(os.Environ(), "DISPLAY="+w.display)
	if out, err := cmd.CombinedOutput(); err != nil {
		w.t.Logf("no picture %s: %v %s", name, err, out)
	}
}

func (w *wine) click(x, y int) {
	w.t.Helper()
	cmd := exec.CommandContext(w.t.Context(), "xdotool", "mousemove", strconv.Itoa(x), strconv.Itoa(y), "click", "3")
	cmd.Env = append(os.Environ(), "DISPLAY="+w.display)
	if out, err := cmd.CombinedOutput(); err != nil {
		w.t.Fatalf("click: %v %s", err, out)
	}
}

// menuSeen reports whether a menu is open, by the class Windows gives to menus.
func (w *wine) menuSeen() bool {
	w.t.Helper()
	answer := filepath.Join(w.dir, "answer")
	_ = os.Remove(answer)
	w.explore("helper.exe", "window", "#32768", w.windows("answer"))
	var said []byte
	w.until("the helper's answer", func() bool {
		said, _ = os.ReadFile(answer)
		return len(said) > 0
	})
	return string(said) == "true"
}

// echo sends back what comes.
type echo struct{}

// Serve implements simcluster's backend of a database.
func (echo) Serve(ctx context.Context, conn net.Conn, _ simdb.Session) error {
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	_, err := io.Copy(conn, conn)
	return err
}

// configure starts a cluster and writes a config with one tunnel to it, on port.
func (w *wine) configure() (port int) {
	w.t.Helper()
	sim := simworld.Start(w.t, simcluster.Config{
		Name: "example.com", Databases: []simcluster.Database{{Name: "pg-prod", Protocol: "postgres", Backend: echo{}}},
	})
	if err := sim.Login(filepath.Join(w.dir, "tsh"), "alice"); err != nil {
		w.t.Fatal(err)
	}
	if err := sim.WriteWebCA(filepath.Join(w.dir, "web-ca.pem")); err != nil {
		w.t.Fatal(err)
	}
	port = proxies.DerivePort("example.com", "db", "wine", proxies.PortBusy)
	text := fmt.Sprintf("version: 1\nhomes: ['%s']\nprofiles:\n  - {proxy: %q, ca_file: '%s'}\n"+
		"tunnels:\n  - {name: prod-pg, kind: db, cluster: example.com, resource: pg-prod, db_user: alice, db_name: app, port: %d}\n",
		w.windows("tsh"), sim.ProxyAddr(), w.windows("web-ca.pem"), port)
	if err := os.Mkdir(filepath.Join(w.dir, "berth"), 0o700); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.dir, "berth", "config.yaml"), []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	return port
}

func TestWine(t *testing.T) {
	w := newWine(t)
	if out := w.must("berth.exe", "version"); !strings.Contains(out, "berth ") {
		t.Errorf("berth version says %q", out)
	}
	port := w.configure()

	// The tray as the Run key starts it; it starts the agent.
	w.explore("berth.exe", "tray", "--quiet", "--log-level", "debug")
	w.until("the tray, with an agent", func() bool {
		log, _ := os.ReadFile(filepath.Join(w.dir, "berth", "state", "tray.log"))
		return bytes.Contains(log, []byte("the agent answers"))
	})
	// The pipe.
	if out := w.must("berth.exe", "status", "--wait", "--timeout", "60s"); !strings.Contains(out, "prod-pg") {
		t.Errorf("the status is %q", out)
	}
	// Bytes through a tunnel.
	out := w.must("helper.exe", "echo", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), strconv.Itoa(payload))
	if !strings.Contains(out, "came back") {
		t.Errorf("the tunnel's client says %q", out)
	}
	// The menu.
	if w.menuSeen() {
		t.Error("a menu is open before anybody clicks")
	}
	w.until("the menu", func() bool {
		w.click(iconX, iconY)
		wake.Sleep(w.t.Context(), time.Second)
		return w.menuSeen()
	})
	w.shot("menu")
	// The second start.
	w.until("the second tray to be heard", func() bool { // on a busy machine the first one takes a while
		out, err := w.run([]string{w.berthHome()}, "berth.exe", "tray")
		return err == nil && strings.Contains(out, "shows how things are")
	})
	w.until("the tray to hear of the second one", func() bool {
		log, _ := os.ReadFile(filepath.Join(w.dir, "berth", "state", "tray.log"))
		return bytes.Contains(log, []byte("berth: 1 of 1 tunnel ready"))
	})
	w.tryPipe()
	w.tryWindow()
	w.tryPolicy()
	w.must("berth.exe", "agent", "stop")
}

// tryPipe: the agent's pipe is its user's alone, as far as Wine looks at that.
func (w *wine) tryPipe() {
	w.t.Helper()
	out := w.must("helper.exe", "pipe")
	for _, want := range []string{"its user is let in", "its list names its user alone"} {
		if !strings.Contains(out, want) {
			w.t.Errorf("of the pipe the helper says %q, without %q", out, want)
		}
	}
	if !strings.Contains(out, "someone else is refused") && !strings.Contains(out, "does not ask the lists of pipes") {
		w.t.Errorf("of the pipe the helper says %q, and nothing of others", out)
	}
}

// tryWindow: the window is served, and its link works once.
func (w *wine) tryWindow() {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	cmd := w.command(ctx, []string{w.berthHome()}, "wine", w.windows("berth.exe"), "open", "--no-browser")
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { cancel(); _ = cmd.Wait() }()
	link, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		w.t.Fatalf("berth open prints %q: %v", link, err)
	}
	link = strings.TrimSpace(link)
	if said := w.must("helper.exe", "get", link); !strings.Contains(said, "status 200") {
		w.t.Errorf("the window's page: %q", said)
	}
}

// tryPolicy: a policy that is not the administrators' alone is refused, and every
// rule holds then.
func (w *wine) tryPolicy() {
	w.t.Helper()
	dir := filepath.Join(w.dir, "home", "wine", "drive_c", "ProgramData", "berth")
	if err := os.MkdirAll(dir, 0o777); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "policy.yaml"), []byte("version: 1\nhold: 1m\n"), 0o666); err != nil {
		w.t.Fatal(err)
	}
	if out, err := w.run([]string{w.berthHome()}, "berth.exe", "config", "check", "--policy"); err == nil || !strings.Contains(out, "policy.yaml: ") {
		w.t.Errorf("a policy that anyone can write was taken: %v, %q", err, out)
	}
	if out := w.must("berth.exe", "config", "check"); !strings.Contains(out, "its rules hold at their strictest") {
		w.t.Errorf("of the policy the check of the config says %q", out)
	}
	if err := os.RemoveAll(dir); err != nil {
		w.t.Fatal(err)
	}
}

// TestWineAutostart: the entry is where Windows looks for it.
func TestWineAutostart(t *testing.T) {
	w := newWine(t)
	query := func() string {
		out, _ := w.command(t.Context(), nil, "wine", "reg", "query", `HKCU\Software\Microsoft\Windows\CurrentVersion\Run`).CombinedOutput()
		return string(out)
	}
	if _, err := w.run(nil, "berth.exe", "tray", "install"); err != nil {
		t.Error(err)
	}
	if out := query(); !strings.Contains(out, w.windows("berth.exe")+" tray --quiet") {
		t.Errorf("the Run key has %q", out)
	}
	class := func() string {
		out, _ := w.command(t.Context(), nil, "wine", "reg", "query", `HKCU\Software\Classes\berth\shell\open\command`).CombinedOutput()
		return string(out)
	}
	if out := class(); !strings.Contains(out, w.windows("berth.exe")) || !strings.Contains(out, `link follow -- "%1"`) {
		t.Errorf("links are followed by %q", out)
	}
	if out, err := w.run(nil, "berth.exe", "link", "follow", "--", "berth://nonsense/x"); err == nil {
		t.Errorf("a link that is none was followed: %q", out)
	}
	if _, err := w.run(nil, "berth.exe", "tray", "uninstall"); err != nil {
		t.Error(err)
	}
	if out := class(); strings.Contains(out, "link follow") {
		t.Errorf("links are still followed by %q", out)
	}
	if out := query(); strings.Contains(out, "berth-tray") {
		t.Errorf("the Run key still has %q", out)
	}
}
