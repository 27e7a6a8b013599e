package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/internal/osservice"
	"berth/internal/paths"
)

// agentWait is how long the agent may take to answer, or to be gone, after the
// system was asked to start or stop it.
var agentWait = 20 * time.Second

// answerWait is how long an agent may take to say who it is before it counts
// as hung.
var answerWait = 3 * time.Second

// agentService is the agent as a service of this user: what the system knows
// of it, and the agent itself.
type agentService struct {
	osservice.Manager
	app   *app
	paths paths.Paths
	cfg   osservice.Config
	// dropped are the variables that the service has set until now.
	dropped []string
}

func (a *app) agentService() (*agentService, error) {
	p, err := paths.Resolve(a.env)
	if err != nil {
		return nil, err
	}
	program, err := ownProgram()
	if err != nil {
		return nil, err
	}
	cfg := serviceConfig(serviceName(a.env(paths.HomeVar)), program)
	cfg.Env, cfg.LogDir = serviceEnv(a.env, exec.LookPath), filepath.Dir(p.LogFile)
	m, err := osservice.New(cfg)
	if err != nil {
		return nil, err
	}
	if m.Kind() != osservice.KindSystemd {
		// Only the journal is a place where a second log is of use.
		cfg.Args = append(cfg.Args, "--quiet")
		if m, err = osservice.New(cfg); err != nil {
			return nil, err
		}
	}
	return &agentService{Manager: m, app: a, paths: p, cfg: cfg}, nil
}

// ofDemo reports whether the agent is berth-demo's.
func ofDemo(p paths.Paths) bool { return there(p.Demo()) }

// notOfDemo refuses what would take the demo's agent away from it, or leave a service
// behind that outlives the demo's folder.
func (s *agentService) notOfDemo() error {
	if !ofDemo(s.paths) {
		return nil
	}
	return withHint(errors.New("this agent is the demo's, which starts and ends it"), "end the demo with Ctrl-C; start it again with berth-demo")
}

// serviceConfig returns what every agent's service has in common.
func serviceConfig(name, program string) osservice.Config {
	return osservice.Config{
		Name: name, Description: "berth, Teleport tunnels on local addresses that never change",
		Program: program, Args: []string{"agent", "run"},
	}
}

// ownProgram is the path under which berth was called, if that leads to this
// program: a link that a package manager moves to the next version shall stay
// a link.
func ownProgram() (string, error) {
	own, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find berth's own program: %w", err)
	}
	ownInfo, err := os.Stat(own)
	if err != nil {
		return "", withHint(fmt.Errorf("find berth's own program: %w", err), "it was moved or removed while it ran: start it again")
	}
	called, err := exec.LookPath(os.Args[0])
	if err != nil {
		return own, nil
	}
	if called, err = filepath.Abs(called); err != nil {
		return own, nil
	}
	if info, err := os.Stat(called); err == nil && os.SameFile(info, ownInfo) {
		return called, nil
	}
	return own, nil
}

// serviceName tells the services of second instances apart.
func serviceName(home string) string {
	if home == "" {
		return "berth"
	}
	if abs, err := filepath.Abs(home); err == nil {
		home = abs
	}
	sum := sha256.Sum256([]byte(home))
	return "berth-" + hex.EncodeToString(sum[:4])
}

// carried are the variables that say where berth's and Teleport's files are:
// with others the agent and the commands would not meet.
var carried = []string{
	paths.HomeVar, "TELEPORT_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "SSL_CERT_FILE", "SSL_CERT_DIR",
	"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy",
}

// serviceEnv returns the variables that the agent needs besides those that the
// system sets. A proxy's address with a password in it stays out: a unit is no
// place for secrets.
func serviceEnv(env func(string) string, look func(string) (string, error)) []osservice.EnvVar {
	var vars []osservice.EnvVar
	for _, name := range carried {
		value := env(name)
		if value == "" || strings.Contains(value, "@") && strings.HasSuffix(strings.ToUpper(name), "_PROXY") {
			continue
		}
		if name == paths.HomeVar {
			if abs, err := filepath.Abs(value); err == nil && !strings.HasPrefix(value, "~") {
				value = abs
			}
		}
		vars = append(vars, osservice.EnvVar{Name: name, Value: value})
	}
	if tsh, err := look("tsh"); err == nil && !slices.Contains(usualPath, filepath.Dir(tsh)) {
		vars = append(vars, osservice.EnvVar{Name: "PATH", Value: env("PATH")})
	}
	return vars
}

// droppedFrom returns the carried variables that a service with this text sets, and one
// with these variables does not.
func droppedFrom(text string, vars []osservice.EnvVar) []string {
	var dropped []string
	for _, name := range carried {
		if strings.Contains(text, name) && !slices.ContainsFunc(vars, func(v osservice.EnvVar) bool { return v.Name == name }) {
			dropped = append(dropped, name)
		}
	}
	return dropped
}

// usualPath are the folders in which every service finds programs.
var usualPath = []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}

// running is the agent that answers, if any.
func (s *agentService) running(ctx context.Context) (info state.Agent, ok bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	err = s.app.withAgent(func(c *client.Client) (err error) {
		info, err = c.Info(ctx)
		return err
	})
	if errors.Is(err, client.ErrNotRunning) {
		return state.Agent{}, false, nil
	}
	return info, err == nil, err
}

// runningUnder is running, for a service: if its agent does not answer it can
// still be restarted.
func (s *agentService) runningUnder(ctx context.Context, st osservice.Status) (state.Agent, bool, error) {
	info, ok, err := s.running(ctx)
	if err != nil && s.Kind().Supervises() && st.Running {
		return state.Agent{PID: st.PID}, true, nil
	}
	return info, ok, err
}

// shutdown tells a running agent to stop, and waits until it is gone.
func (s *agentService) shutdown(ctx context.Context, pid int) error {
	err := s.app.withAgent(func(c *client.Client) error { return c.Shutdown(ctx) })
	if err != nil && !errors.Is(err, client.ErrNotRunning) {
		return fmt.Errorf("stop the agent (pid %d): %w", pid, err)
	}
	return s.await(ctx, "the agent does not stop", func() bool {
		_, err := os.Stat(s.paths.LockPID()) // gone when the last connection is
		return errors.Is(err, fs.ErrNotExist)
	})
}

// awaitAnswer waits until an agent answers.
func (s *agentService) awaitAnswer(ctx context.Context) (info state.Agent, err error) {
	err = s.await(ctx, "the agent was started, and does not answer", func() bool {
		var ok bool
		info, ok, _ = s.running(ctx)
		return ok
	})
	return info, err
}

// await waits until done, for as long as an agent may take.
func (s *agentService) await(ctx context.Context, otherwise string, done func() bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, agentWait, withHint(errors.New(otherwise), `see "berth agent logs"`))
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
	return nil
}

// startService starts the installed service and waits until the agent answers.
func (s *agentService) startService(ctx context.Context) (state.Agent, error) {
	if err := s.Start(ctx); err != nil {
		return state.Agent{}, withHint(err, `see "berth agent logs"`)
	}
	return s.awaitAnswer(ctx)
}

// handOver has a new process of the program take the running agent's place: no port
// is free meanwhile, and no connection is lost. false means that the running agent
// cannot do that.
func (s *agentService) handOver(ctx context.Context) (state.Agent, bool, error) {
	env := make([]string, 0, len(s.cfg.Env))
	for _, e := range s.cfg.Env {
		env = append(env, e.Name+"="+e.Value)
	}
	for _, name := range s.dropped { // the successor would inherit it
		env = append(env, name+"=")
	}
	var next client.Successor
	err := s.app.withAgent(func(c *client.Client) (err error) {
		next, err = c.HandOver(ctx, s.cfg.Program, env)
		return err
	})
	if e, ok := errors.AsType[*client.Error](err); ok && e.Code == client.CodeUnsupported {
		return state.Agent{}, false, nil
	}
	return state.Agent{PID: next.PID, Version: next.Version}, true, err
}

// restartService ends the agent that runs, whoever started it, and starts the
// service.
func (s *agentService) restartService(ctx context.Context, st osservice.Status, agent state.Agent, ok bool) (state.Agent, error) {
	if ok && (s.ours(st, agent) || !s.Kind().Supervises() || !st.Installed) && agent.Version != "" {
		if next, done, err := s.handOver(ctx); done {
			return next, err
		}
	}
	switch {
	case ok && !s.ours(st, agent):
		if err := s.shutdown(ctx, agent.PID); err != nil {
			return state.Agent{}, err
		}
	case st.Running && s.Kind().Supervises():
		if err := s.Restart(ctx); err != nil {
			return state.Agent{}, withHint(err, `see "berth agent logs"`)
		}
		return s.awaitAnswer(ctx)
	}
	return s.startService(ctx)
}

// ours reports whether the manager supervises this agent. launchd goes on watching the
// process that it started, which stays for those that take its place; it leads the
// process group that is the job, and they are in it.
func (s *agentService) ours(st osservice.Status, agent state.Agent) bool {
	return s.Kind().Supervises() && st.Running && (st.PID == agent.PID || st.PID == groupOf(agent.PID))
}

// outdated reports whether the running agent is not the program that is
// installed now: another version, or a later build of the same.
func outdated(agent state.Agent, program string) bool {
	if agent.Version != buildVersion() {
		return true
	}
	own, err := os.Stat(program)
	if err != nil {
		return false
	}
	if runtime.GOOS == "linux" {
		link, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", agent.PID))
		if base := filepath.Base(strings.TrimSuffix(link, " (deleted)")); link != "" && base != filepath.Base(program) {
			return false // an agent of its own, as the demo's
		}
		exe, err := os.Stat(fmt.Sprintf("/proc/%d/exe", agent.PID))
		return err == nil && !os.SameFile(exe, own)
	}
	return own.ModTime().After(agent.StartedAt)
}

// explainService gives what can go wrong with services its next step.
func explainService(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*osservice.NoManagerError](err); ok {
		return withHint(err, `install from a login session of your own (not su or sudo; else "loginctl enable-linger" first),`+
			` or run the agent by hand: "berth agent run"`)
	}
	if errors.Is(err, osservice.ErrNotInstalled) {
		return withHint(err, `install it with "berth agent install", or run it here with "berth agent run"`)
	}
	if errors.Is(err, fs.ErrPermission) || strings.Contains(err.Error(), "read-only file system") {
		return withHint(err, `make the folder writable, or run the agent by hand: "berth agent run"`)
	}
	return err
}

// serviceRun is the body of a command about the service.
func (a *app) serviceRun(f func(context.Context, *agentService) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, _ []string) error {
		s, err := a.agentService()
		if err != nil {
			return err
		}
		return explainService(f(cmd.Context(), s))
	}
}

func (a *app) say(format string, args ...any) error {
	_, err := fmt.Fprintln(a.out, cleanLines(fmt.Sprintf(format, args...)))
	return err
}
