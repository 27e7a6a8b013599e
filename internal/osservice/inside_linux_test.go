package osservice

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"berth/internal/testneeds"
	"berth/internal/testwait"
)

// tunnelCount is how many ports the agent of these tests binds.
const tunnelCount = 20

// inside is what the steps share.
type inside struct {
	t       *testing.T
	home    string
	ports   []int
	logins  int
	manager *exec.Cmd
	env     []string // of the user beside the usual
}

// agentJSON is what the steps read of "berth agent status --json".
type agentJSON struct {
	Manager        string `json:"manager"`
	Installed      bool   `json:"installed"`
	Enabled        bool   `json:"enabled"`
	File           string `json:"file"`
	Program        string `json:"program"`
	ProgramMissing bool   `json:"program_missing"`
	Trouble        string `json:"trouble"`
	Action         string `json:"action"`
	Agent          *struct {
		Version   string  `json:"version"`
		PID       int     `json:"pid"`
		ByService bool    `json:"by_service"`
		Outdated  bool    `json:"outdated"`
		ReadyMS   float64 `json:"ready_ms"`
	} `json:"agent"`
}

// TestInside is the part of TestUserManager that runs within the namespaces.
func TestInside(t *testing.T) {
	home := os.Getenv(insideVar)
	if home == "" {
		testneeds.Skip(t, "TestUserManager", "it runs this in namespaces of its own")
	}
	in := &inside{t: t, home: home}
	in.writeConfig()
	for _, dir := range []string{in.runtimeDir(), filepath.Join(home, "bin")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Lchown(dir, testUID, testUID); err != nil {
			t.Fatal(err)
		}
	}
	in.place("v1")
	steps := []struct {
		name string
		run  func(*inside)
	}{
		{"no_manager", (*inside).noManager},
		{"verify", (*inside).verify},
		{"never_installed", (*inside).neverInstalled},
		{"install", (*inside).install},
		{"install_again", (*inside).installAgain},
		{"page", (*inside).page},
		{"killed", (*inside).killed},
		{"upgrade", (*inside).upgrade},
		{"restarts", (*inside).restarts},
		{"hung", (*inside).hung},
		{"watchdog", (*inside).watchdog},
		{"stop_and_start", (*inside).stopAndStart},
		{"by_hand", (*inside).byHand},
		{"next_login", (*inside).nextLogin},
		{"moved", (*inside).moved},
		{"read_only", (*inside).readOnly},
		{"uninstall", (*inside).uninstall},
		{"packaged", (*inside).packaged},
		{"purge", (*inside).purge},
	}
	for _, step := range steps {
		if !t.Run(step.name, func(t *testing.T) { in.t = t; step.run(in) }) {
			t.Log(in.journalTail())
			break // the steps build on each other
		}
	}
	in.t = t
	in.logout()
}

func (in *inside) runtimeDir() string { return "/run/user/" + strconv.Itoa(testUID) }

func (in *inside) program() string { return filepath.Join(in.home, "bin", "berth") }

func (in *inside) userUnit() string {
	return filepath.Join(in.home, ".config", "systemd", "user", "berth.service")
}

func (in *inside) configFile() string {
	return filepath.Join(in.home, ".config", "berth", "config.yaml")
}

func (in *inside) writeConfig() {
	var b strings.Builder
	b.WriteString("version: 1\nhomes: [~/.tsh]\ntunnels:\n")
	for i := range tunnelCount {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			in.t.Fatal(err)
		}
		defer l.Close()
		port := l.Addr().(*net.TCPAddr).Port
		in.ports = append(in.ports, port)
		fmt.Fprintf(&b, "  - {name: db%d, kind: db, cluster: example.com, resource: r%d, db_user: alice, port: %d}\n", i, i, port)
	}
	dir := filepath.Dir(in.configFile())
	if err := os.MkdirAll(dir, 0o755); err != nil {
		in.t.Fatal(err)
	}
	if err := os.WriteFile(in.configFile(), []byte(b.String()), 0o644); err != nil {
		in.t.Fatal(err)
	}
	chownAll(in.t, filepath.Join(in.home, ".config"))
}

// place puts a version of the program in place as a package manager does:
// whole, by a rename.
func (in *inside) place(version string) {
	in.t.Helper()
	data, err := os.ReadFile(filepath.Join(in.home, version, "berth"))
	if err != nil {
		in.t.Fatal(err)
	}
	if err := os.WriteFile(in.program()+".new", data, 0o755); err != nil {
		in.t.Fatal(err)
	}
	if err := os.Rename(in.program()+".new", in.program()); err != nil {
		in.t.Fatal(err)
	}
}

// asUser is a command of the user's, with the environment of a login.
func (in *inside) asUser(group string, args ...string) *exec.Cmd {
	uid := strconv.Itoa(testUID)
	enter := "true"
	if group != "" {
		enter = "echo $$ >/sys/fs/cgroup/" + group + "/cgroup.procs"
	}
	line := []string{
		"-c", enter + ` && exec setpriv --reuid ` + uid + ` --regid ` + uid + ` --clear-groups -- env -i "$@"`, "sh",
		"HOME=" + in.home, "USER=tester", "LOGNAME=tester", "SHELL=/bin/sh", "PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8",
		"XDG_RUNTIME_DIR=" + in.runtimeDir(), "DBUS_SESSION_BUS_ADDRESS=unix:path=" + in.runtimeDir() + "/bus",
	}
	cmd := exec.Command("sh", append(append(line, in.env...), args...)...)
	cmd.Dir = in.home
	return cmd
}

// login starts the user's manager, in a control group of its own.
func (in *inside) login() {
	in.t.Helper()
	in.logins++
	group := "login" + strconv.Itoa(in.logins)
	dir := "/sys/fs/cgroup/" + group
	if err := os.Mkdir(dir, 0o755); err != nil {
		in.t.Fatal(err)
	}
	chownAll(in.t, dir)
	in.manager = in.asUser(group, "/lib/systemd/systemd", "--user", "--log-target=console", "--log-level=notice")
	in.manager.Stdout, in.manager.Stderr = os.Stderr, os.Stderr
	if err := in.manager.Start(); err != nil {
		in.t.Fatal(err)
	}
	in.await("the manager to run", func() bool {
		out, _ := in.asUser("", "systemctl", "--user", "is-system-running").Output()
		state := strings.TrimSpace(string(out))
		return state == "running" || state == "degraded"
	})
}

// logout ends the user's manager, and all it started.
func (in *inside) logout() {
	in.t.Helper()
	if in.manager == nil {
		return
	}
	if out, err := in.asUser("", "systemctl", "--user", "exit").CombinedOutput(); err != nil {
		in.t.Errorf("exit the manager: %v: %s", err, out)
	}
	_ = in.manager.Wait() // it exits as it likes
	in.manager = nil
}

// berth runs the program and returns its exit code and what it printed.
func (in *inside) berth(args ...string) (int, string) {
	in.t.Helper()
	out, err := in.asUser("", append([]string{in.program()}, args...)...).CombinedOutput()
	in.t.Logf("berth %s\n%s", strings.Join(args, " "), out)
	code := 0
	if err != nil {
		code = -1
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			code = exit.ExitCode()
		}
	}
	return code, string(out)
}

// must runs the program, which must succeed and say so.
func (in *inside) must(want string, args ...string) {
	in.t.Helper()
	in.exits(0, want, args...)
}

func (in *inside) exits(want int, says string, args ...string) {
	in.t.Helper()
	code, out := in.berth(args...)
	if code != want || !strings.Contains(out, says) {
		in.t.Fatalf("berth %v: exit code %d, want %d, and %q in:\n%s", args, code, want, says, out)
	}
}

// status asks for the service's status; with an agent the exit code is 0.
func (in *inside) status() agentJSON {
	in.t.Helper()
	out, err := in.asUser("", in.program(), "agent", "status", "--json").Output()
	var st agentJSON
	if err := json.Unmarshal(out, &st); err != nil {
		in.t.Fatalf("status: %v: %s", err, out)
	}
	if (err == nil) != (st.Agent != nil) {
		in.t.Errorf("exit %v with the agent %+v", err, st.Agent)
	}
	return st
}

// up checks that the service's agent runs and holds every port.
func (in *inside) up(version string) (pid int) {
	in.t.Helper()
	st := in.status()
	if st.Agent == nil || !st.Agent.ByService || st.Agent.Version != version || !st.Installed || !st.Enabled || st.Trouble != "" {
		in.t.Fatalf("status = %+v with agent %+v, want %s up by the service", st, st.Agent, version)
	}
	if st.Agent.Outdated {
		in.t.Error("the agent passes for outdated")
	}
	for _, port := range in.ports {
		if !open(port) {
			in.t.Errorf("port %d is not bound", port)
		}
	}
	return st.Agent.PID
}

// down checks that nothing runs and no port is bound.
func (in *inside) down() {
	in.t.Helper()
	if st := in.status(); st.Agent != nil {
		in.t.Errorf("an agent runs: %+v", st.Agent)
	}
	for _, port := range in.ports {
		if open(port) {
			in.t.Errorf("port %d is bound still", port)
		}
	}
}

func open(port int) bool {
	conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return false
	}
	_ = conn.(*net.TCPConn).SetLinger(0) // no port of a test lingers
	_ = conn.Close()
	return true
}

func (in *inside) await(what string, done func() bool) {
	in.t.Helper()
	testwait.Eventually(in.t, what, done)
}

func (in *inside) journalTail() string {
	out, _ := os.ReadFile(filepath.Join(in.home, ".local", "state", "berth", "agent.log"))
	return string(out[max(0, len(out)-4000):])
}

func (in *inside) signal(pid int, s syscall.Signal) {
	in.t.Helper()
	if err := syscall.Kill(pid, s); err != nil {
		in.t.Fatal(err)
	}
}
