package selftest

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"berth/agent/ipc/client"
	"berth/agent/secrets"
	"berth/agent/state"
	"berth/internal/doctor"
	"berth/internal/osservice"
	"berth/internal/paths"
	"berth/internal/wake"
	"berth/notify"
)

// askEvery is how often something that is to come is looked for.
const askEvery = 50 * time.Millisecond

// until asks is until it says yes, the child has ended or ctx has.
func until(ctx context.Context, c *child, is func() bool) error {
	for !is() {
		if c.ended() {
			return c.death()
		}
		if !wake.Sleep(ctx, askEvery) {
			return context.Cause(ctx)
		}
	}
	return nil
}

// tryCluster starts the simulated cluster of berth-demo, which also lends a config
// that leads to it. Without one the config has no tunnel.
func (r *run) tryCluster(ctx context.Context) verdict {
	if r.Demo == "" {
		if err := r.configure(); err != nil {
			return failed(err, "")
		}
		return skipped("no berth-demo is beside berth or on PATH, so no tunnel is tried",
			"build it from berth's sources with \"make demo\", or go build ./cmd/berth-demo, and put it beside berth")
	}
	env := r.environ()
	for _, name := range []string{"TMPDIR", "TMP", "TEMP"} {
		env = append(env, name+"="+r.dir)
	}
	out, in := io.Pipe()
	demo, err := r.start(in, r.Demo, env, "--cluster-only", "--stand-ins")
	if err != nil {
		return failed(err, "")
	}
	go func() {
		<-demo.done
		_ = in.CloseWithError(demo.death())
	}()
	line, err := firstLine(ctx, out)
	home, said := strings.CutPrefix(line, paths.HomeVar+"=")
	if err == nil && (!said || !r.owns(home)) {
		err = fmt.Errorf("berth-demo says %q", line)
	}
	if err != nil {
		return failed(errors.Join(fmt.Errorf("the simulated cluster does not start: %w", err), r.configure()), "see that berth-demo is of berth's own version")
	}
	demo.home = home
	r.demo = demo
	if err := r.record(); err != nil {
		return failed(err, "")
	}
	return ok("the simulated cluster runs, with stand-ins for its databases")
}

// owns reports whether a folder lies in the test's own. Another one may be the
// user's: whatever is called berth-demo on PATH can name it.
func (r *run) owns(dir string) bool {
	own, err := filepath.EvalSymlinks(r.dir)
	if err != nil {
		return false
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return false
	}
	rel, err := filepath.Rel(own, dir)
	return err == nil && rel != "." && filepath.IsLocal(rel)
}

// configure writes a config that leads nowhere: the default one would lead to
// the user's own sessions.
func (r *run) configure() error {
	p, err := paths.Resolve(r.lookup)
	if err != nil {
		return err
	}
	if err := p.MakeDirs(); err != nil {
		return err
	}
	text := fmt.Sprintf("version: 1\nhomes: ['%s']\n", filepath.Join(r.dir, "tsh"))
	return os.WriteFile(p.Config, []byte(text), 0o600)
}

func (r *run) tryAgent(ctx context.Context) verdict {
	p, err := paths.Resolve(r.lookup)
	if err != nil {
		return failed(err, "")
	}
	r.paths = p
	// In a long temporary folder the socket is elsewhere.
	if dir := p.SocketDir(); dir != "" && !strings.HasPrefix(dir, r.dir) {
		r.undo = append(r.undo, func(context.Context) error {
			if err := os.Remove(dir); !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			return nil
		})
	}
	r.client = client.Dial(p.Socket)
	r.undo = append(r.undo, func(context.Context) error { return r.client.Close() })
	begun := time.Now()
	if r.agent, err = r.start(nil, r.Program, r.environ(), "agent", "run", "--quiet"); err != nil {
		return failed(err, "")
	}
	var info state.Agent
	err = until(ctx, r.agent, func() bool {
		var err error
		info, err = r.client.Info(ctx)
		return err == nil
	})
	switch {
	case err != nil:
		return failed(fmt.Errorf("the agent does not start: %w", err), "run \"berth agent run\" and read what it says")
	case info.Version != r.Version:
		return failed(fmt.Errorf("the agent is version %s, and this program %s", info.Version, r.Version), "install berth again")
	}
	return ok("it answers %v after its start", time.Since(begun).Round(10*time.Millisecond))
}

// tryControl looks at the socket or pipe: it must answer, be the user's alone, and
// be one agent's.
func (r *run) tryControl(ctx context.Context) verdict {
	if _, err := r.client.Snapshot(ctx); err != nil {
		return failed(fmt.Errorf("the agent does not say how things are: %w", err), "")
	}
	if err := r.paths.CheckSocketDir(); err != nil {
		return failed(err, "")
	}
	switch _, err := r.berth(ctx, "agent", "run", "--quiet"); {
	case err == nil:
		return failed(errors.New("a second agent ran and ended, instead of being refused"), "")
	case !strings.Contains(err.Error(), "already running"):
		return failed(fmt.Errorf("a second agent is refused, but not because there is one: %w", err), "")
	}
	kind := "socket"
	if r.paths.SocketDir() == "" {
		kind = "pipe"
	}
	return ok("the control %s answers, its place is private, and a second agent is refused", kind)
}

func (r *run) tryTunnels(ctx context.Context) verdict {
	begun := time.Now()
	var last state.Snapshot
	for s, err := range r.client.Follow(ctx) {
		if err != nil {
			if ctx.Err() != nil {
				break
			}
			continue // it is tried again
		}
		last = s
		if len(s.Tunnels) > 0 && len(notReady(s)) == 0 {
			return ok("%d tunnels are ready, %v later", len(s.Tunnels), time.Since(begun).Round(10*time.Millisecond))
		}
		if why := forbidden(s); why != "" {
			return skipped(why, "run the self-test where the policy allows the proxy of berth-demo")
		}
	}
	if len(last.Tunnels) == 0 {
		return failed(errors.New("the agent has no tunnels"), "")
	}
	return failed(fmt.Errorf("the tunnels are not ready: %s", strings.Join(notReady(last), "; ")), "")
}

// forbidden says why a policy of this machine keeps tunnels from getting ready;
// empty means that none does.
func forbidden(s state.Snapshot) string {
	for _, t := range s.Tunnels {
		if t.Problem != nil && t.Problem.Code == state.CodeProxyForbidden {
			return "this machine's policy is in the way: " + t.Problem.Text
		}
	}
	return ""
}

// notReady says which tunnels are not ready, and why.
func notReady(s state.Snapshot) []string {
	var list []string
	for _, t := range s.Tunnels {
		if t.State == state.TunnelReady {
			continue
		}
		why := string(t.State)
		if t.Problem != nil {
			why = t.Problem.Text
		}
		list = append(list, t.Name+": "+why)
	}
	return list
}

// trayLog is what the tray's log says once it is there, with an agent.
const trayLog = "the agent answers"

// tryTray starts the tray where something shows icons.
func (r *run) tryTray(ctx context.Context) verdict {
	for _, f := range doctor.Desktop(ctx) {
		if f.Check != "notifications" && f.Status != doctor.OK {
			return skipped(f.Text, f.Fix)
		}
	}
	begun := time.Now()
	tray, err := r.start(nil, r.Program, r.environ(), "tray", "--quiet", "--log-level", "debug")
	if err != nil {
		return failed(err, "")
	}
	path := filepath.Join(filepath.Dir(r.paths.LogFile), "tray.log")
	err = until(ctx, tray, func() bool {
		log, err := os.ReadFile(path)
		return err == nil && strings.Contains(string(log), trayLog)
	})
	if err != nil {
		return failed(fmt.Errorf("the tray does not start: %w", err), "run \"berth tray\" and read what it says")
	}
	took := time.Since(begun).Round(10 * time.Millisecond)
	tray.stop()
	return ok("the tray was there after %v, with its menu; only you can say what it looked like", took)
}

// tryNotification shows a notification and withdraws it.
func (r *run) tryNotification(ctx context.Context) verdict {
	for _, f := range doctor.Desktop(ctx) {
		if f.Check != "tray_host" && (f.Status == doctor.Skip || f.Status == doctor.Warn && !strings.Contains(f.Text, "buttons")) {
			return skipped(f.Text, f.Fix)
		}
	}
	n := notify.New(notify.Config{Logger: slog.New(slog.DiscardHandler), DesktopEntry: "berth", Icon: r.Icon})
	running, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = n.Run(running) // it returns nil
	}()
	err := n.Show(ctx, notify.Notification{
		ID: "selftest", Title: "berth tries itself", Body: "This notification goes away by itself.", Urgency: notify.UrgencyLow,
	})
	can := n.Capabilities()
	if err == nil {
		wake.Sleep(ctx, time.Second) // long enough to be seen
		n.Close("selftest")
	}
	stop()
	<-ended
	if err != nil {
		return failed(fmt.Errorf("no notification is shown: %w", err), "allow notifications for berth in the system's settings")
	}
	how := "without buttons"
	if can.Actions {
		how = "with buttons"
	}
	return ok("one was shown and withdrawn, by %s, %s", can.Backend, how)
}

// tryKeychain stores a random secret, reads it and removes it.
func (r *run) tryKeychain(ctx context.Context) verdict {
	store := secrets.New(slog.New(slog.DiscardHandler))
	// A name that no proxy has, and no other self-test.
	key := secrets.Key{Proxy: "selftest.invalid:443", User: "selftest-" + rand.Text(), Kind: secrets.Password}
	secret := rand.Text()
	err := store.Set(ctx, key, secrets.NewSecret(secret))
	if none, ok := errors.AsType[*secrets.NoKeychainError](err); ok {
		return skipped(fmt.Sprintf("there is no keychain: %v", none.Err), none.Hint())
	}
	if locked, ok := errors.AsType[*secrets.LockedError](err); ok {
		return skipped(locked.Error(), locked.Hint())
	}
	// Whatever went wrong, the entry is taken back.
	removed := false
	r.undo = append(r.undo, func(ctx context.Context) error {
		if removed {
			return nil
		}
		return store.Delete(ctx, key)
	})
	if err != nil {
		return failed(err, "")
	}
	got, err := store.Get(ctx, key)
	switch {
	case err != nil:
		return failed(fmt.Errorf("the entry was not found: %w", err), "")
	case got.Reveal() != secret:
		return failed(errors.New("the keychain returned another secret than it was given"), "")
	}
	if err := store.Delete(ctx, key); err != nil {
		return failed(fmt.Errorf("the entry was not removed: %w", err), "")
	}
	if _, err := store.Get(ctx, key); !errors.Is(err, secrets.ErrNotStored) {
		return failed(errors.New("the entry is still there after it was removed"), "")
	}
	removed = true
	return ok("an entry was stored, read and removed")
}

func (r *run) tryStop(ctx context.Context) verdict {
	if err := r.client.Shutdown(ctx); err != nil {
		return failed(fmt.Errorf("the agent does not stop: %w", err), "")
	}
	select {
	case <-r.agent.done:
	case <-ctx.Done():
		return failed(context.Cause(ctx), "")
	}
	if r.agent.err != nil {
		return failed(fmt.Errorf("the agent ended with an error: %w", r.agent.death()), "")
	}
	return ok("the agent ended when it was asked to")
}

// service is what "berth agent status --json" says that matters here.
type service struct {
	Manager   string `json:"manager"`
	Installed bool   `json:"installed"`
	Trouble   string `json:"trouble"`
	Agent     *struct {
		ByService bool `json:"by_service"`
	} `json:"agent"`
}

func (r *run) service(ctx context.Context) (service, error) {
	out, err := r.berth(ctx, "agent", "status", "--json") // it fails where none runs
	var s service
	if json.Unmarshal([]byte(out), &s) != nil {
		return s, errors.Join(err, errors.New("the service's status cannot be read"))
	}
	return s, nil
}

// tryService installs the agent of this test as a service of its own, as a second
// BERTH_HOME has it, and takes it away.
func (r *run) tryService(ctx context.Context) verdict {
	s, err := r.service(ctx)
	if err != nil {
		return failed(err, "")
	}
	// Only the desktop reads autostart entries, at login. A service manager would
	// not find what is elsewhere.
	r.ownConfig = s.Manager == string(osservice.KindAutostart)
	if err := r.record(); err != nil {
		return failed(err, "")
	}
	installed := true
	uninstall := func(ctx context.Context) error {
		if !installed {
			return nil
		}
		_, err := r.berth(ctx, "agent", "uninstall")
		installed = err != nil
		return err
	}
	r.undo = append(r.undo, uninstall)
	if _, err := r.berth(ctx, "agent", "install"); err != nil {
		if strings.Contains(err.Error(), "service manager cannot be reached") {
			return verdict{Skipped, err.Error(), failed(err, "").next}
		}
		return failed(err, "")
	}
	switch s, err = r.service(ctx); {
	case err != nil:
		return failed(err, "")
	case !s.Installed || s.Agent == nil:
		return failed(fmt.Errorf("%s does not have the agent run: %s", s.Manager, s.Trouble), "")
	}
	supervised := s.Agent.ByService
	if err := uninstall(ctx); err != nil {
		return failed(err, "")
	}
	if s, err = r.service(ctx); err != nil || s.Installed || s.Agent != nil {
		return failed(errors.Join(fmt.Errorf("%s still has the agent after it was uninstalled", s.Manager), err), "")
	}
	how := "started"
	if supervised {
		how = "started and supervised"
	}
	return ok("%s installed, %s and removed an agent", s.Manager, how)
}
