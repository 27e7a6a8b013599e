package osservice

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"berth/internal/browser"
	"berth/internal/testwait"
)

// portsBack is how long a new agent's ports may be away, counted from
// the start of its process.
const portsBack = 2 * time.Second

// noManager: systemd runs, but not for this user.
func (in *inside) noManager() {
	in.exits(1, `by hand: "berth agent run"`, "agent", "install")
	in.exits(1, "cannot be reached", "agent", "uninstall")
	in.exits(3, "not running", "agent", "status")
}

// verify has systemd read the unit, in the awkward form too.
func (in *inside) verify() {
	in.login()
	for _, cfg := range []Config{plain, awkward} {
		cfg.Program = in.program()
		if cfg.Name == awkward.Name {
			cfg.Program = filepath.Join(in.home, `al ice 100% $x {{y}};#`, "berth")
			if err := os.MkdirAll(filepath.Dir(cfg.Program), 0o755); err != nil {
				in.t.Fatal(err)
			}
			if err := os.Symlink(in.program(), cfg.Program); err != nil {
				in.t.Fatal(err)
			}
		}
		file := filepath.Join(in.home, cfg.Name+".service")
		if err := os.WriteFile(file, []byte(Unit(cfg)), 0o644); err != nil {
			in.t.Fatal(err)
		}
		out, err := in.asUser("", "systemd-analyze", "verify", "--user", file).CombinedOutput()
		if err != nil || len(out) > 0 {
			in.t.Errorf("systemd-analyze verify: %v\n%s", err, out)
		}
	}
}

func (in *inside) neverInstalled() {
	in.must("was not installed", "agent", "uninstall")
	in.exits(1, "berth agent install", "agent", "start")
	in.exits(1, "berth agent install", "agent", "restart")
	in.must("is not running", "agent", "stop")
	in.exits(3, "not installed", "agent", "status")
}

func (in *inside) install() {
	in.must("was started", "agent", "install")
	in.up("v1")
	unit, err := os.ReadFile(in.userUnit())
	if err != nil {
		in.t.Fatal(err)
	}
	want := plain
	want.Program = in.program()
	if string(unit) != Unit(want) {
		in.t.Errorf("the unit is\n%s\nwant\n%s", unit, Unit(want))
	}
	in.must("running by systemd", "agent", "status")
	ready := time.Duration(in.status().Agent.ReadyMS * float64(time.Millisecond))
	in.t.Logf("FIGURE: %d ports bound %s after the start of the agent's process", tunnelCount, ready)
	if ready <= 0 {
		in.t.Errorf("the ports were bound after %s", ready)
	}
	testwait.Soon(in.t, "binding the ports", ready, portsBack)
	in.must("agent started", "agent", "logs")
}

func (in *inside) installAgain() {
	before := in.up("v1")
	in.must("installed already", "agent", "install")
	if after := in.up("v1"); after != before {
		in.t.Errorf("the second installation restarted the agent: pid %d, then %d", before, after)
	}
}

// page: a browser that the manager starts has the desktop's environment, which came after
// the agent, outlives the command that started it, and how that ended is known.
func (in *inside) page() {
	in.systemctl("set-environment", "DISPLAY=:7")
	opened := filepath.Join(in.home, "opened")
	command := filepath.Join(in.home, "bin", "page")
	if err := os.WriteFile(command, []byte("#!/bin/sh\nsleep 60 &\necho \"$DISPLAY $1 $!\" >"+opened+"\nexit \"$2\"\n"), 0o755); err != nil {
		in.t.Fatal(err)
	}
	for _, want := range []int{0, 3} {
		err := in.asUser("", in.managerLine(command, "%s", strconv.Itoa(want))...).Run()
		code := 0
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			code = exit.ExitCode()
		} else if err != nil {
			in.t.Fatal(err)
		}
		text, err := os.ReadFile(opened)
		var display, url string
		var pid int
		if _, scan := fmt.Sscan(string(text), &display, &url, &pid); err != nil || scan != nil {
			in.t.Fatalf("opened %q: %v, %v", text, err, scan)
		}
		if code != want || display != ":7" || url != "http://127.0.0.1:1/$HOME" {
			in.t.Errorf("exit code %d, want %d; opened %q with DISPLAY %q", code, want, url, display)
		}
		in.signal(pid, syscall.SIGKILL) // which fails if it no longer runs
	}
}

// managerLine is what berth asks of the manager to have a command open a page.
func (in *inside) managerLine(command ...string) []string {
	in.t.Helper()
	dir := in.t.TempDir()
	asked := filepath.Join(dir, "asked")
	script := "#!/bin/sh\nprintf '%s\\n' systemd-run \"$@\" >" + asked + ".new\nmv " + asked + ".new " + asked + "\n"
	if err := os.WriteFile(filepath.Join(dir, "systemd-run"), []byte(script), 0o700); err != nil {
		in.t.Fatal(err)
	}
	in.t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	if err := browser.OpenFromService(in.t.Context(), "http://127.0.0.1:1/$HOME", command, os.Getenv); err != nil {
		in.t.Fatal(err)
	}
	var line []byte // which may come after Open has ceased to watch the program
	in.await("the manager to be asked", func() (ok bool) {
		var err error
		line, err = os.ReadFile(asked)
		return err == nil
	})
	return strings.Split(strings.TrimSpace(string(line)), "\n")
}

func (in *inside) killed() {
	pid := in.up("v1")
	killed := time.Now()
	away := in.watchPort()
	in.signal(pid, syscall.SIGKILL)
	in.await("a new agent", func() bool {
		st := in.status()
		return st.Agent != nil && st.Agent.PID != pid && st.Trouble == ""
	})
	in.up("v1")
	in.notRefused("a crash", away())
	in.t.Logf("killed, and back after %s", time.Since(killed).Round(time.Millisecond))
}

// upgrade replaces the program and, by another environment, the unit.
func (in *inside) upgrade() {
	before := in.up("v1")
	in.place("v2")
	if st := in.status(); !st.Agent.Outdated || st.Action != "berth agent restart" {
		in.t.Errorf("status = %+v, want the agent to be outdated", st)
	}
	in.env = []string{"TELEPORT_HOME=" + filepath.Join(in.home, "tele port")}
	away := in.watchPort()
	in.must("was restarted", "agent", "install")
	in.notRefused("the upgrade", away())
	in.succeeded(before)
	if after := in.up("v2"); after == before {
		in.t.Error("the old agent runs on")
	}
	unit, err := os.ReadFile(in.userUnit())
	if err != nil || !strings.Contains(string(unit), `Environment="TELEPORT_HOME=`) {
		in.t.Errorf("the unit was not replaced: %v\n%s", err, unit)
	}
	if _, err := os.Stat(in.userUnit() + ".berth-old"); !errors.Is(err, fs.ErrNotExist) {
		in.t.Errorf("the old unit is there still: %v", err)
	}
}

// restarts: whatever restarts the agent, no client is refused.
func (in *inside) restarts() {
	for _, step := range []struct {
		name    string
		restart func()
	}{ // systemd's own first: it does not wait for a process that it did not start
		{"restart", func() { in.systemctl("restart", "berth.service") }},
		{"reload", func() { in.systemctl("reload", "berth.service") }},
		{"command", func() { in.must("was started", "agent", "restart") }},
	} {
		name, restart := step.name, step.restart
		before := in.up("v2")
		refused := in.watchPort()
		restart()
		in.await("a new agent after "+name, func() bool {
			st := in.status()
			return st.Agent != nil && st.Agent.PID != before && st.Agent.ByService && st.Trouble == ""
		})
		in.succeeded(before)
		in.notRefused(name, refused())
	}
}

// succeeded waits until the agent before has ended, and systemd knows the one that
// took over and keeps its sockets, two for each tunnel: a restart within that time
// may refuse clients, see docs/RELIABILITY.md.
func (in *inside) succeeded(before int) {
	in.t.Helper()
	in.await("the agent before to have ended, and systemd to know", func() bool {
		_, err := os.Stat(fmt.Sprintf("/proc/%d", before))
		known, _ := in.asUser("", "systemctl", "--user", "show", "-P", "MainPID", "-P", "NFileDescriptorStore", "berth.service").Output()
		return err != nil && strings.TrimSpace(string(known)) == fmt.Sprintf("%d\n%d", in.up("v2"), 2*tunnelCount)
	})
}

func (in *inside) systemctl(args ...string) {
	in.t.Helper()
	if out, err := in.asUser("", append([]string{"systemctl", "--user"}, args...)...).CombinedOutput(); err != nil {
		in.t.Errorf("systemctl %v: %v: %s", args, err, out)
	}
}

// notRefused checks what watchPort has seen: it looks again after two milliseconds.
func (in *inside) notRefused(during string, away time.Duration) {
	in.t.Helper()
	in.t.Logf("FIGURE: a port was away for %s during %s", away.Round(time.Millisecond), during)
	if away > time.Millisecond {
		in.t.Errorf("a client was refused during %s", during)
	}
}

// watchPort has six clients connect to a port over and over until the returned function
// is called, which tells how long it was away in one piece.
func (in *inside) watchPort() (away func() time.Duration) {
	began, stop := time.Now(), make(chan struct{})
	var connects, worst atomic.Int64
	var clients sync.WaitGroup
	for range 6 {
		clients.Go(func() {
			for answered := time.Now(); ; {
				select {
				case <-stop:
					return
				case <-time.After(2 * time.Millisecond):
				}
				if open(in.ports[0]) {
					answered = time.Now()
					connects.Add(1)
					continue
				}
				for gone := int64(time.Since(answered)); ; {
					if was := worst.Load(); was >= gone || worst.CompareAndSwap(was, gone) {
						break
					}
				}
			}
		})
	}
	return func() time.Duration {
		close(stop)
		clients.Wait()
		in.t.Logf("FIGURE: %d connects, %.0f a second", connects.Load(), float64(connects.Load())/time.Since(began).Seconds())
		return time.Duration(worst.Load())
	}
}

// hung: an agent that does not answer is restarted all the same.
func (in *inside) hung() {
	pid := in.up("v2")
	in.signal(pid, syscall.SIGSTOP)
	st := in.status()
	if !strings.Contains(st.Trouble, "does not answer") || st.Action != "berth agent restart" {
		in.t.Errorf("status = %+v", st)
	}
	in.must("was started", "agent", "restart")
	if after := in.up("v2"); after == pid {
		in.t.Error("the hung agent is there still")
	}
}

// watchdog: an agent gives signs of life, also one that took another's place, and
// systemd itself ends and restarts one that is stuck. The limit is a short one here.
func (in *inside) watchdog() {
	const limit = 6 * time.Second
	dropIn := in.userUnit() + ".d"
	if err := os.Mkdir(dropIn, 0o755); err != nil {
		in.t.Fatal(err)
	}
	text := fmt.Sprintf("[Service]\nWatchdogSec=%d\n", limit/time.Second)
	if err := os.WriteFile(filepath.Join(dropIn, "watchdog.conf"), []byte(text), 0o644); err != nil {
		in.t.Fatal(err)
	}
	in.forgetCrashes()
	in.systemctl("daemon-reload")
	in.systemctl("restart", "berth.service")
	first := in.up("v2")
	in.systemctl("reload", "berth.service")
	in.succeeded(first)
	for _, how := range []string{"that took another's place", "that systemd started"} {
		pid, began := in.up("v2"), in.number("WatchdogTimestampMonotonic")
		in.await("signs of life for longer than the limit", func() bool {
			return in.number("WatchdogTimestampMonotonic")-began > limit.Microseconds()*3/2
		})
		if now := in.up("v2"); now != pid {
			in.t.Errorf("an agent %s was restarted though it was alive", how)
		}
		stopped, restarts := time.Now(), in.number("NRestarts")
		in.signal(pid, syscall.SIGSTOP)
		in.await("systemd to restart the agent", func() bool { return in.number("NRestarts") > restarts })
		in.t.Logf("FIGURE: an agent %s and got stuck was restarted after %s", how, time.Since(stopped).Round(time.Millisecond))
		in.await("the new agent", func() bool {
			st := in.status()
			return st.Agent != nil && st.Agent.PID != pid && st.Trouble == ""
		})
	}
	if err := os.RemoveAll(dropIn); err != nil {
		in.t.Fatal(err)
	}
	in.forgetCrashes()
	in.systemctl("daemon-reload")
	in.systemctl("restart", "berth.service")
	in.up("v2")
}

// forgetCrashes spares the next starts the pause that an agent makes after crashes.
func (in *inside) forgetCrashes() {
	in.t.Helper()
	notes, err := filepath.Glob(filepath.Join(in.home, ".local", "state", "berth", "*.crashes"))
	if err != nil || len(notes) != 1 {
		in.t.Fatalf("the notes of crashes: %q, %v", notes, err)
	}
	if err := os.Remove(notes[0]); err != nil {
		in.t.Fatal(err)
	}
}

// number is a property of the service that systemd knows.
func (in *inside) number(property string) int64 {
	in.t.Helper()
	out, err := in.asUser("", "systemctl", "--user", "show", "-P", property, "berth.service").Output()
	n, parseErr := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
	if err = errors.Join(err, parseErr); err != nil {
		in.t.Fatalf("%s: %v", property, err)
	}
	return n
}

func (in *inside) stopAndStart() {
	in.must("is stopped", "agent", "stop")
	in.down()
	in.must("is not running", "agent", "stop")
	in.must("was started", "agent", "start")
	pid := in.up("v2")
	in.must("running already", "agent", "start")
	in.must("was started", "agent", "restart")
	if after := in.up("v2"); after == pid {
		in.t.Error("restart left the agent alone")
	}
}

// byHand: an agent started in a terminal gives way.
func (in *inside) byHand() {
	in.systemctl("restart", "berth.service") // systemd gives no time to a main process that it has not started
	in.must("is stopped", "agent", "stop")
	hand := in.asUser("", filepath.Join(in.home, "v1", "berth"), "agent", "run", "--quiet")
	if err := hand.Start(); err != nil {
		in.t.Fatal(err)
	}
	in.await("the agent by hand", func() bool { return in.status().Agent != nil })
	if st := in.status(); st.Agent.ByService || !strings.Contains(st.Trouble, "not the service's") {
		in.t.Errorf("status = %+v with agent %+v", st, st.Agent)
	}
	in.must("was restarted", "agent", "install")
	if err := hand.Wait(); err != nil {
		in.t.Errorf("the agent by hand: %v", err)
	}
	in.up("v2")
}

// nextLogin: without any help.
func (in *inside) nextLogin() {
	before := in.up("v2")
	in.logout()
	for _, port := range in.ports {
		if open(port) {
			in.t.Errorf("port %d outlived the login", port)
		}
	}
	in.login()
	in.await("the agent", func() bool { return in.status().Agent != nil })
	if after := in.up("v2"); after == before {
		in.t.Error("the same process as before the login")
	}
}

// moved: the program goes elsewhere after the installation.
func (in *inside) moved() {
	in.must("is stopped", "agent", "stop")
	if err := os.Rename(in.program(), in.program()+"-moved"); err != nil {
		in.t.Fatal(err)
	}
	elsewhere := filepath.Join(in.home, "v2", "berth")
	run := func(args ...string) string {
		out, _ := in.asUser("", append([]string{elsewhere}, args...)...).CombinedOutput()
		in.t.Logf("%s", out)
		return string(out)
	}
	if out := run("agent", "status"); !strings.Contains(out, "which is gone") || !strings.Contains(out, "berth agent install") {
		in.t.Errorf("status says nothing of the program that is gone")
	}
	if out := run("agent", "start"); !strings.Contains(out, "which is gone") {
		in.t.Errorf("start says nothing of the program that is gone")
	}
	if out := run("agent", "install"); !strings.Contains(out, "was started") {
		in.t.Errorf("not installed from its new place")
	}
	if err := os.Rename(in.program()+"-moved", in.program()); err != nil {
		in.t.Fatal(err)
	}
	if st := in.status(); st.Program != elsewhere {
		in.t.Errorf("the service starts %q, want %q", st.Program, elsewhere)
	}
	in.must("was restarted", "agent", "install")
	in.up("v2")
}

// readOnly: the folder of units cannot be written; what is there stays.
func (in *inside) readOnly() {
	dir := filepath.Dir(in.userUnit())
	if err := os.Chmod(dir, 0o555); err != nil {
		in.t.Fatal(err)
	}
	in.env = nil // so that the unit would change
	code, out := in.berth("agent", "install")
	if code != 1 || !strings.Contains(out, "make the folder writable") {
		in.t.Errorf("exit code %d: %s", code, out)
	}
	if _, err := os.Stat(in.userUnit()); err != nil {
		in.t.Errorf("the unit is gone: %v", err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		in.t.Fatal(err)
	}
	in.up("v2")
}

func (in *inside) uninstall() {
	in.must("Your config stays", "agent", "uninstall")
	in.down()
	for _, file := range []string{in.userUnit(), filepath.Join(filepath.Dir(in.userUnit()), "default.target.wants", "berth.service")} {
		if _, err := os.Lstat(file); !errors.Is(err, fs.ErrNotExist) {
			in.t.Errorf("%s is there still: %v", file, err)
		}
	}
	for _, file := range []string{in.configFile(), filepath.Join(in.home, ".local", "state", "berth")} {
		if _, err := os.Stat(file); err != nil {
			in.t.Errorf("uninstall took more than the service: %v", err)
		}
	}
	in.must("was not installed", "agent", "uninstall")
}

// packaged: a unit that a package brought is enabled, not copied.
func (in *inside) packaged() {
	cfg := plain
	cfg.Program = in.program()
	file := "/etc/systemd/user/berth.service"
	if err := os.WriteFile(file, []byte(Unit(cfg)), 0o644); err != nil {
		in.t.Fatal(err)
	}
	if out, err := in.asUser("", "systemctl", "--user", "daemon-reload").CombinedOutput(); err != nil {
		in.t.Fatalf("%v: %s", err, out)
	}
	if st := in.status(); st.Installed || st.Enabled {
		in.t.Errorf("status = %+v, want a packaged unit to count as not installed", st)
	}
	in.must("was started", "agent", "install")
	in.up("v2")
	// systemd may call the folder /etc/xdg/systemd/user.
	if st := in.status(); !strings.HasPrefix(st.File, "/etc/") {
		in.t.Errorf("the unit is %s, want %s", st.File, file)
	}
	if _, err := os.Stat(in.userUnit()); !errors.Is(err, fs.ErrNotExist) {
		in.t.Errorf("the unit was copied: %v", err)
	}
	in.logout()
	in.login()
	in.await("the agent", func() bool { return in.status().Agent != nil })
	in.must("is gone", "agent", "uninstall")
	in.down()
	if _, err := os.Stat(file); err != nil {
		in.t.Errorf("the package's unit: %v", err)
	}
	if st := in.status(); st.Installed || st.Enabled {
		in.t.Errorf("status after uninstall = %+v", st)
	}
}

func (in *inside) purge() {
	in.must("was started", "agent", "install")
	in.up("v2")
	in.must("are gone too", "agent", "uninstall", "--purge", "--yes")
	in.down()
	for _, path := range []string{filepath.Dir(in.configFile()), filepath.Join(in.home, ".local", "state", "berth")} {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			in.t.Errorf("%s is there still: %v", path, err)
		}
	}
}
