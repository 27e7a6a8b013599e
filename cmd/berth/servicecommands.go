package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"berth/agent/secrets"
	"berth/agent/state"
	"berth/internal/osservice"
)

func (a *app) agentInstallCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "install",
		Short: "Start the agent now and at every login",
		Long: `Make the agent a service of yours that starts at every login, and start it. No
administrator is needed: it is a user unit of systemd, an agent of launchd, an
autostart entry of the desktop, or a Run key on Windows.

Installing again is harmless. After an upgrade it takes the new program into
use. An agent that runs by hand is stopped in favour of the service.`,
		Args: noArgs,
		RunE: a.serviceRun(func(ctx context.Context, s *agentService) error { return s.install(ctx) }),
	}
}

func (s *agentService) install(ctx context.Context) error {
	if err := s.notOfDemo(); err != nil {
		return err
	}
	if s.app.env("SUDO_USER") != "" && os.Geteuid() == 0 {
		return withHint(errors.New("this would install the agent for root"), "install it as yourself, without sudo")
	}
	st, err := s.Status(ctx)
	if err != nil {
		return err
	}
	before, _ := os.ReadFile(st.File) // what is not there sets nothing
	s.dropped = droppedFrom(string(before), s.cfg.Env)
	change, err := s.Install(ctx)
	if err != nil {
		return err
	}
	if st, err = s.Status(ctx); err != nil {
		return err
	}
	agent, runs, err := s.runningUnder(ctx, st)
	if err != nil {
		return err
	}
	if err := s.sayInstalled(change, st); err != nil {
		return err
	}
	begun := "is running"
	switch {
	case runs && change == osservice.Unchanged && (s.ours(st, agent) || !s.Kind().Supervises()) && !outdated(agent, s.cfg.Program):
	case runs:
		if err := s.app.say("Restarting the agent (pid %d) as the service.", agent.PID); err != nil {
			return err
		}
		if agent, err = s.restartService(ctx, st, agent, true); err != nil {
			return err
		}
		begun = "was restarted"
	default:
		if agent, err = s.startService(ctx); err != nil {
			return err
		}
		begun = "was started"
	}
	if st, err = s.Status(ctx); err != nil {
		return err
	}
	if err := s.app.say("The agent %s (pid %d, version %s)%s.", begun, agent.PID, agent.Version, readyWords(st)); err != nil {
		return err
	}
	return s.sayNext(st)
}

func (s *agentService) sayInstalled(change osservice.Change, st osservice.Status) error {
	if change == osservice.Unchanged {
		return s.app.say("The service is installed already: %s", st.File)
	}
	return s.app.say("The service is installed (%s): %s", change, st.File)
}

// sayNext says what a person may want to know once.
func (s *agentService) sayNext(st osservice.Status) error {
	switch {
	case st.Kind == osservice.KindAutostart:
		return s.app.say(`There is no systemd here: it starts with your desktop session, and nothing restarts it when it fails.
Without a desktop, start it from your shell's profile: berth agent start`)
	case st.Kind == osservice.KindRunKey && len(s.cfg.Env) > 0:
		return s.app.say("It starts when you log in, with the environment of your account:\nset %s there too, for instance with setx.", s.cfg.Env[0].Name)
	case st.CanLinger && !st.Lingers:
		return s.app.say("It runs while you are logged in. To have it run always: loginctl enable-linger")
	default:
		return nil
	}
}

func readyWords(st osservice.Status) string {
	if st.ReadyAfter == 0 {
		return ""
	}
	return fmt.Sprintf(", its ports were bound %s after its start", st.ReadyAfter.Round(time.Millisecond))
}

func (a *app) agentUninstallCommand() *cobra.Command {
	var purge, yes bool
	cmd := &cobra.Command{
		Use:   "uninstall [flags]",
		Short: "Stop the agent and disable it at login",
		Long: `Stop the agent and take away its service. Your config, berth's state and its
logs stay, unless --purge says otherwise; with it, the passwords that you had
berth keep in the keychain go too, and the tray no longer starts when you log in.
Contexts that you merged into your own kubeconfig are yours: take them out before,
with "berth kube config merge --undo".

--purge asks before anything is done, unless --yes is given.`,
		Args: noArgs,
		RunE: a.serviceRun(func(ctx context.Context, s *agentService) error {
			if purge && !yes {
				if err := s.agreesToPurge(ctx); err != nil {
					return err
				}
			}
			return s.uninstall(ctx, purge)
		}),
	}
	cmd.Flags().BoolVar(&purge, "purge", false, "remove config, state, logs, stored passwords and the tray's autostart too")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "with --purge: do not ask")
	return cmd
}

// uninstallCommand undoes "berth setup".
func (a *app) uninstallCommand() *cobra.Command {
	var purge, yes bool
	cmd := &cobra.Command{
		Use:   "uninstall [flags]",
		Short: "Undo what berth setup did: agent, tray, completion",
		Long: `Stop the agent, take its service away, stop starting the tray at login, and
remove the completion that "berth setup" installed. Your config, berth's state
and its logs stay, unless --purge says otherwise; it asks first. The program
itself, your sessions in ~/.tsh and contexts that you merged into your own
kubeconfig stay in any case.`,
		Example: "  berth uninstall\n  berth uninstall --purge",
		Args:    noArgs,
		RunE: a.serviceRun(func(ctx context.Context, s *agentService) error {
			if err := s.notOfDemo(); err != nil {
				return err
			}
			if purge && !yes {
				if err := s.agreesToPurge(ctx); err != nil {
					return err
				}
			}
			if err := errors.Join(s.forgetTray(ctx), a.removeCompletion()); err != nil {
				return err
			}
			return s.uninstall(ctx, purge)
		}),
	}
	cmd.Flags().BoolVar(&purge, "purge", false, "remove config, state, logs and stored passwords too")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "with --purge: do not ask")
	return cmd
}

func (s *agentService) uninstall(ctx context.Context, purge bool) error {
	if err := s.stopAgent(ctx); err != nil {
		return err
	}
	st, err := s.Status(ctx)
	if err != nil {
		return err
	}
	if st.Installed {
		if err := s.Uninstall(ctx); err != nil {
			return err
		}
		err = s.app.say("The service is gone: %s", st.File)
	} else {
		err = s.app.say("The service was not installed.")
	}
	if err != nil {
		return err
	}
	if purge {
		return s.purge(ctx, secrets.New(slog.New(slog.DiscardHandler)))
	}
	if _, err := os.Stat(s.paths.Config); err != nil {
		return nil // there is none to speak of
	}
	return s.app.say("Your config stays: %s", s.paths.Config)
}

func (a *app) agentStartCommand() *cobra.Command {
	return &cobra.Command{
		Use: "start", Short: "Start the installed agent", Args: noArgs,
		Long: `Start the service that "berth agent install" made, and wait until the agent's
ports are bound.`,
		RunE: a.serviceRun(func(ctx context.Context, s *agentService) error {
			agent, runs, err := s.running(ctx)
			if err != nil {
				return err
			}
			if runs {
				return a.say("The agent is running already (pid %d).", agent.PID)
			}
			if _, err := s.installed(ctx); err != nil {
				return err
			}
			if agent, err = s.startService(ctx); err != nil {
				return err
			}
			return s.sayStarted(ctx, agent)
		}),
	}
}

func (s *agentService) sayStarted(ctx context.Context, agent state.Agent) error {
	st, err := s.Status(ctx)
	if err != nil {
		return err
	}
	return s.app.say("The agent was started (pid %d, version %s)%s.", agent.PID, agent.Version, readyWords(st))
}

// restartable is the status of a service, installed or not: an agent that was
// started by hand can be replaced too.
func (s *agentService) restartable(ctx context.Context) (osservice.Status, error) {
	st, err := s.Status(ctx)
	if _, ok := errors.AsType[*osservice.NoManagerError](err); ok {
		return osservice.Status{}, nil
	}
	return st, err
}

// installed is the status of a service that can be started.
func (s *agentService) installed(ctx context.Context) (osservice.Status, error) {
	st, err := s.Status(ctx)
	switch {
	case err != nil:
		return st, err
	case !st.Installed:
		return st, osservice.ErrNotInstalled
	case st.ProgramMissing:
		return st, withHint(fmt.Errorf("the service starts %s, which is gone", st.Program), `switch to this program with "berth agent install"`)
	default:
		return st, nil
	}
}

func (a *app) agentStopCommand() *cobra.Command {
	return &cobra.Command{
		Use: "stop", Short: "Stop the agent until the next login", Args: noArgs,
		Long: `Stop the agent, whoever started it. Every tunnel's port is closed after its open
connections had a moment to end. An installed service starts again at the next
login, or with "berth agent start".`,
		RunE: a.serviceRun(func(ctx context.Context, s *agentService) error { return s.stopAgent(ctx) }),
	}
}

// stopAgent stops the service, and an agent that runs without.
func (s *agentService) stopAgent(ctx context.Context) error {
	if err := s.notOfDemo(); err != nil {
		return err
	}
	st, err := s.Status(ctx)
	if err != nil {
		if _, ok := errors.AsType[*osservice.NoManagerError](err); !ok {
			return err
		}
		st = osservice.Status{} // an agent that runs by hand can be stopped all the same
	}
	agent, stopped, err := s.running(ctx)
	if stopped { // asked by its manager it would leave the ports open while connections end
		err = s.shutdown(ctx, agent.PID)
	}
	if s.Kind().Supervises() && st.Installed && (st.Running || st.Trouble != "") {
		stopped, err = true, s.Stop(ctx) // also one that does not answer
	}
	if err != nil {
		return err
	}
	if !stopped {
		return s.app.say("The agent is not running.")
	}
	return s.app.say("The agent is stopped.")
}

func (a *app) agentRestartCommand() *cobra.Command {
	return &cobra.Command{
		Use: "restart", Short: "Restart the agent", Args: noArgs,
		Long: `Have a new process take the agent's place, whoever started it. It takes over every
port and the clients that wait, so that none is refused; open connections stay with
the old process until they end ("draining" in "berth status"). If the new process
does not start, the old one goes on. Where an agent cannot hand over, as on Windows,
it is stopped and started.`,
		RunE: a.serviceRun(func(ctx context.Context, s *agentService) error {
			if err := s.notOfDemo(); err != nil {
				return err
			}
			st, err := s.restartable(ctx)
			if err != nil {
				return err
			}
			agent, runs, err := s.runningUnder(ctx, st)
			if err != nil {
				return err
			}
			if !runs && !st.Installed {
				return osservice.ErrNotInstalled
			}
			if agent, err = s.restartService(ctx, st, agent, runs); err != nil {
				return err
			}
			return s.sayStarted(ctx, agent)
		}),
	}
}
