//go:build desktop && linux

package desktop

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"berth/agent/state"
	"berth/internal/paths"
	"berth/internal/simcluster"
	"berth/internal/simworld"
)

// firstRun is a person who has just installed berth, on a dark desktop: without
// a config and without a terminal they log in, mistype their password on the
// way, and find out that a port is taken.
func (w *world) firstRun() {
	w.t.Helper()
	w.newPerson()
	w.click(iconX, iconY)
	w.shot("first-run")
	w.click(100, firstLine) // Log in…
	w.answer("login-where", "^Log in to Teleport$", w.Sim.ProxyAddr())
	title := "^Log in to localhost"
	w.until("the dialog "+title, func() bool { return w.window(title) != "" })
	first := w.owner(title)
	w.answer("login", title, "wrong")
	w.until("the dialog after a wrong password", func() bool { next := w.owner(title); return next != "" && next != first })
	w.answer("login-again", title, "alice-password")
	w.become("a session", func(s state.Snapshot) bool { return len(s.Profiles) == 1 && s.Profiles[0].State == state.ProfileValid })
	settle()
	w.shot("logged-in")
	w.takenPort()
	w.openWindow()
}

// openWindow opens berth's window from the menu.
func (w *world) openWindow() {
	w.t.Helper()
	file := filepath.Join(w.dir, "window")
	if err := os.Remove(file); err != nil {
		w.t.Fatal(err)
	}
	w.click(iconX, iconY)
	w.shot("menu-dark")
	y, _ := w.line("Open berth", "")
	w.point(100, y)
	settle()
	w.click(100, y)
	var link string
	w.until("a link to the window", func() bool {
		text, err := os.ReadFile(file)
		link = strings.TrimSpace(string(text))
		return err == nil && strings.HasPrefix(link, "http://127.0.0.1:")
	})
	w.looksAt(link)
	rss := 0
	w.until("the tray to be small again", func() bool {
		rss = procNumber(w.t, fmt.Sprintf("/proc/%d/status", w.tray.Process.Pid), "VmRSS:")
		return rss <= 45_000
	})
	w.t.Logf("the tray with the window open: %d kB", rss)
}

// looksAt asks the window for what its page asks for, until the first snapshot has come.
// The stream stays open as long as the test.
func (w *world) looksAt(link string) {
	w.t.Helper()
	address, token, _ := strings.Cut(link, "/#")
	token, _, _ = strings.Cut(token, "&")
	jar, err := cookiejar.New(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	page := &http.Client{Jar: jar}
	ask := func(method, path, body string) io.Reader {
		r, err := http.NewRequestWithContext(w.t.Context(), method, address+path, strings.NewReader(body))
		if err != nil {
			w.t.Fatal(err)
		}
		r.Header.Set("Origin", address)
		answer, err := page.Do(r)
		if err != nil {
			w.t.Fatal(err)
		}
		w.t.Cleanup(func() { _ = answer.Body.Close() })
		if answer.StatusCode != http.StatusOK {
			w.t.Fatalf("the window answers %s with %s", path, answer.Status)
		}
		return answer.Body
	}
	for _, path := range []string{"/", "/app.js", "/app.css"} {
		if _, err := io.Copy(io.Discard, ask(http.MethodGet, path, "")); err != nil {
			w.t.Fatal(err)
		}
	}
	ask(http.MethodPost, "/api/open", fmt.Sprintf(`{"token": %q}`, token))
	for lines := bufio.NewScanner(ask(http.MethodGet, "/api/snapshot/stream", "")); ; {
		if !lines.Scan() {
			w.t.Fatalf("the window sends no snapshot: %v", lines.Err())
		}
		if strings.HasPrefix(lines.Text(), "data: ") {
			return
		}
	}
}

// newPerson starts an agent and a tray in empty homes, beside a cluster whose
// users have passwords.
func (w *world) newPerson() {
	w.t.Helper()
	if err := w.agent.Shutdown(context.Background()); err != nil {
		w.t.Fatal(err)
	}
	_ = w.tray.Process.Kill()
	_ = w.panel.Process.Kill()
	home, tshHome := filepath.Join(w.dir, "berth2"), filepath.Join(w.dir, "tsh2")
	w.World = simworld.In(w.t, simcluster.Config{
		Name: "second.test", Users: []simcluster.User{{Name: "alice", Password: "alice-password"}},
		Databases: []simcluster.Database{{Name: "pg-prod", Protocol: "postgres"}},
	}, tshHome, home)
	w.environ = append(w.environ, paths.HomeVar+"="+home, "TELEPORT_HOME="+tshHome, "SSL_CERT_FILE="+w.CAFile(), "USER=alice",
		"GTK_THEME=Adwaita:dark")
	w.panel = w.start("xfce4-panel", "xfce4-panel", "--disable-wm-check")
	w.agentProcess = w.start("agent", w.berth, "agent", "run")
	w.agent = w.Client()
	w.become("an agent", func(state.Snapshot) bool { return true })
	w.awaitName("org.kde.StatusNotifierWatcher")
	w.startTray()
}

// takenPort has another program hold a tunnel's port, and changes it.
func (w *world) takenPort() {
	w.t.Helper()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	port := taken.Addr().(*net.TCPAddr).Port
	ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
	defer cancel()
	spec := state.TunnelSpec{Name: "prod_pg", Kind: state.KindDB, Cluster: "second.test", Resource: "pg-prod", DBUser: "alice", Port: port}
	if _, err := w.agent.AddTunnel(ctx, spec); err != nil {
		w.t.Fatal(err)
	}
	w.become("a taken port", func(s state.Snapshot) bool { return len(s.Tunnels) == 1 && s.Tunnels[0].State == state.TunnelPortInUse })
	settle()
	settle()
	w.choose("needs-you", "1 needs you", "prod__pg: port in use")
	next := simworld.FreePort(w.t)
	w.answer("change-port", "^Change the port of prod_pg$", "\b"+strconv.Itoa(next))
	w.become("another port", func(state.Snapshot) bool {
		t := w.tunnel("prod_pg")
		return t.State == state.TunnelReady && strings.HasSuffix(t.Address, ":"+strconv.Itoa(next))
	})
	settle()
	w.shot("changed-port")
}

// window is the dialog with a title; empty means that there is none.
func (s *screen) window(title string) string {
	out, err := s.command("xdotool", "search", "--onlyvisible", "--class", "zenity").Output()
	if err != nil {
		return ""
	}
	for id := range strings.FieldsSeq(string(out)) {
		found, err := s.command("xdotool", "search", "--onlyvisible", "--name", title).Output()
		if err == nil && strings.Contains(string(found), id) {
			return id
		}
	}
	return ""
}

// owner is the process of a dialog, which no other dialog has: ids of windows come
// again. It is empty while there is none.
func (s *screen) owner(title string) string {
	id := s.window(title)
	if id == "" {
		return ""
	}
	pid, err := s.command("xdotool", "getwindowpid", id).Output()
	if err != nil {
		return "" // it is gone meanwhile
	}
	return strings.TrimSpace(string(pid))
}

// answer types into a dialog, in the place of what stands there.
func (s *screen) answer(shot, title, text string) {
	s.t.Helper()
	s.until("the dialog "+title, func() bool { return s.window(title) != "" })
	s.output("xdotool", "windowfocus", "--sync", s.window(title))
	settle()
	s.shot(shot)
	if cleared, ok := strings.CutPrefix(text, "\b"); ok {
		s.output("xdotool", "key", "ctrl+a")
		text = cleared
	}
	s.output("xdotool", "type", text)
	s.key("Return")
}
