package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"

	"github.com/gofrs/flock"
	"github.com/spf13/cobra"

	"berth/agent/config"
	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/agent/tsh"
	"berth/internal/atomicfile"
	"berth/internal/browser"
	"berth/internal/lean"
	"berth/internal/logfile"
	"berth/internal/paths"
	"berth/internal/shell"
	"berth/notify"
	"berth/notify/prompt"
	"berth/tray"
	"berth/tray/autostart"
)

type trayOptions struct {
	level  string
	quiet  bool
	ifUsed bool
}

func (a *app) trayCommand() *cobra.Command {
	var o trayOptions
	cmd := &cobra.Command{
		Use:   "tray [flags]",
		Short: "Show berth's icon, menu and notifications",
		Long: `Show berth's icon, menu and notifications, until it is quit. It is a client of
the agent like the other commands: quitting it leaves every tunnel as it is, and
it comes back to an agent that was restarted. Without a panel that shows icons
the notifications work all the same. Where a tray runs already, that one shows
how things are, and this one ends.

"berth tray install" has your desktop start it when you log in.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runTray(cmd.Context(), o) },
	}
	cmd.Flags().StringVar(&o.level, "log-level", "info", "debug, info, warn or error")
	cmd.Flags().BoolVar(&o.quiet, "quiet", false, "log to the file only")
	cmd.Flags().BoolVar(&o.ifUsed, "if-used", false, "end at once unless you have used berth: for entries that start it for all users")
	must(cmd.RegisterFlagCompletionFunc("log-level",
		cobra.FixedCompletions([]string{"debug", "info", "warn", "error"}, cobra.ShellCompDirectiveNoFileComp)))
	cmd.AddCommand(a.trayInstallCommand(), a.trayUninstallCommand())
	return cmd
}

func (a *app) trayInstallCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "install",
		Short: "Start the tray at every login",
		Long: `Start the tray at every login, for you alone: an XDG autostart
entry, a LaunchAgent or a value under the Run key. Calling it again after berth
was moved mends the entry. berth:// links are handed to "berth link follow" from
then on, which asks before it does what they want.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if a.env(paths.HomeVar) != "" {
				return withHint(fmt.Errorf("%s is set: a tray that starts at login is for your usual berth", paths.HomeVar),
					"unset it and try again; the tray of this one starts with \"berth tray\"")
			}
			return a.startTrayAtLogin(cmd.Context())
		},
	}
}

// trayAtLogin is how the desktop starts the tray.
func trayAtLogin(program string) autostart.Entry {
	return autostart.Entry{Program: program, Args: []string{"tray", "--quiet"}}
}

func (a *app) startTrayAtLogin(ctx context.Context) error {
	self, err := ownProgram()
	if err != nil {
		return err
	}
	r, err := autostart.Install(trayAtLogin(self), a.env)
	if err != nil {
		return err
	}
	what := "was installed already"
	if r.Changed {
		what = "starts when you log in"
	}
	fmt.Fprintf(a.out, "the tray %s: %s\n", what, r.Path)
	if r.Off {
		fmt.Fprintln(a.out, "it is switched off in the Task Manager, under Startup apps: switch it on there")
	}
	if a.policy.Load().Allows(config.FeatureLinks) != nil {
		return nil
	}
	links, err := autostart.InstallLinks(ctx, self, a.env)
	if err != nil {
		return err
	}
	if links.Changed {
		fmt.Fprintf(a.out, "berth:// links are followed, after a question: %s\n", links.Path)
	}
	return nil
}

func (a *app) trayUninstallCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "uninstall",
		Short: "Stop starting the tray at login, and following links",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := autostart.Uninstall(a.env)
			if err != nil {
				return err
			}
			what := "was not installed"
			if r.Changed {
				what = "no longer starts when you log in"
			}
			fmt.Fprintf(a.out, "the tray %s: %s\n", what, r.Path)
			links, err := autostart.UninstallLinks(cmd.Context(), a.env)
			if err == nil && links.Changed {
				_, err = fmt.Fprintf(a.out, "berth:// links are no longer followed: %s\n", links.Path)
			}
			return err
		},
	}
}

// frontGCPercent keeps the tray and the window small: they are the same large
// program as the agent and do very little. What the tray's start, or a busy minute,
// needed is given back when nothing happens.
const frontGCPercent = 50

// staySmall is for commands that run for long.
func (a *app) staySmall() {
	if a.env("GOGC") == "" {
		debug.SetGCPercent(frontGCPercent)
	}
}

func (a *app) runTray(ctx context.Context, o trayOptions) error {
	a.staySmall()
	p, err := paths.Resolve(a.env)
	if err != nil {
		return err
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(o.level)); err != nil {
		return usageError{withHint(fmt.Errorf("no log level %q", o.level), "use debug, info, warn or error")}
	}
	if o.ifUsed && !used(p) {
		return nil
	}
	if err := p.MakeDirs(); err != nil {
		return err
	}
	unlock, mine, err := lockTray(p)
	if err != nil {
		return err
	}
	if !mine {
		return a.callTray(ctx, p)
	}
	defer unlock()
	var console io.Writer
	if !o.quiet {
		console = a.err
	} else {
		leaveConsole()
	}
	log, closeLog := logfile.New(filepath.Join(filepath.Dir(p.LogFile), "tray.log"), level, nil, console)
	defer closeLog()
	// systray logs through the standard logger.
	slog.SetDefault(slog.New(logfile.Demote(log.Handler())))
	c := client.Dial(p.Socket)
	defer func() { _ = c.Close() }()
	log.Info("tray started", "version", buildVersion(), "pid", os.Getpid())
	defer log.Info("tray stopped")
	cfg := a.trayConfig(p, c, log)
	serving, stopWindow := context.WithCancel(ctx)
	open, wait := a.windowOpener(serving, p, c, log)
	defer wait()
	defer stopWindow()
	cfg.OpenWindow = open
	lean.AfterStart(trimAfter, func(err error) { log.Debug("memory not given back", "err", err) })
	bell, err := hangBell(p.TraySocket(), log)
	if err != nil {
		log.Warn("a second tray cannot have this one show itself", "err", err)
	} else {
		cfg.Show = bell.rung
		defer bell.close()
	}
	return a.trayError(tray.Run(ctx, cfg))
}

// used reports whether this user has a config, or has ever run an agent or a
// tray.
func used(p paths.Paths) bool {
	for _, path := range []string{p.Config, p.StateDir} {
		if _, err := os.Stat(path); err == nil {
			return true
		}
	}
	return false
}

// lockTray makes this the only tray of its user or BERTH_HOME, if there is no
// other.
func lockTray(p paths.Paths) (unlock func(), mine bool, err error) {
	lock := flock.New(filepath.Join(p.StateDir, "tray.lock"), flock.SetPermissions(0o600))
	mine, err = lock.TryLock()
	if err != nil {
		return nil, false, fmt.Errorf("lock the tray: %w", err)
	}
	return func() { _ = lock.Unlock() }, mine, nil
}

// trayError gives what the tray ends with its next step.
func (a *app) trayError(err error) error {
	if err == nil {
		return nil
	}
	if runtime.GOOS == "linux" && a.env("DBUS_SESSION_BUS_ADDRESS") == "" {
		return withHint(err, `start it in a graphical session; without one there is "berth status --watch"`)
	}
	return err
}

func (a *app) trayConfig(p paths.Paths, c *client.Client, log *slog.Logger) tray.Config {
	return tray.Config{
		Logger: log, Agent: c, Prompter: prompt.New(prompt.Config{Logger: log, Icon: dialogIcon(p, log)}),
		Notifier: func(acted func(id, key string), closed func(id string)) tray.Notifier {
			return notify.New(notify.Config{
				Logger: log, DesktopEntry: "berth", Icon: tray.AppIcon(), OnAction: acted, OnClosed: closed,
				StateFile: filepath.Join(p.StateDir, "notifications.json"),
			})
		},
		StartAgent:  a.startAgent,
		StartAtOnce: runtime.GOOS == "windows", // which has no service of one's own
		Browse: func(ctx context.Context, url string, command []string, proxy string) error {
			return browser.Open(ctx, url, command, a.env, proxy)
		},
		FollowLink:  func(link string) { a.handOnLink(link, log) },
		HasTSH:      func() bool { return a.hasTSH(p) },
		Docs:        topicsText(),
		Diagnostics: func(ctx context.Context) (string, error) { return a.diagnostics(ctx, p) },
		Settings: func(proxies []string) ([]tray.Setting, error) {
			_, list, err := a.settings(p.Config, proxies)
			return list, err
		},
		ChangeSetting: func(ctx context.Context, key, value string) error {
			return a.changeSetting(ctx, c, key, value)
		},
		Doctor:     func(ctx context.Context) (tray.Checkup, error) { return a.checkup(ctx, p) },
		Open:       openFile,
		Copy:       tray.Copy,
		Client:     a.usualClient,
		ConfigFile: p.Config, LogFile: p.LogFile, ReportFile: reportFile(p), Version: buildVersion(),
		Rest: func() {
			if err := lean.Trim(); err != nil {
				log.Debug("memory not given back", "err", err)
			}
		},
	}
}

// handOnLink has a process of its own follow a link, which asks first.
func (a *app) handOnLink(link string, log *slog.Logger) {
	self, err := ownProgram()
	if err == nil {
		err = startDetached(context.Background(), self, "link", "follow", "--", link)
	}
	if err != nil {
		log.Warn("a link is not followed", "err", err)
	}
}

// hasTSH reports whether there is a tsh where the config says, or where it is
// looked for.
func (a *app) hasTSH(p paths.Paths) bool {
	cfg, err := config.Load(p.Config)
	if err != nil {
		return true // the config is what is wrong
	}
	_, err = tsh.Find(tsh.Options{ConfigPath: cfg.TSHPath(), Env: a.env})
	return err == nil
}

// dialogIcon writes the icon of dialogs, which want a file.
func dialogIcon(p paths.Paths, log *slog.Logger) string {
	path := filepath.Join(p.StateDir, "icon.png")
	if err := atomicfile.Write(path, tray.AppIcon(), 0o600); err != nil {
		log.Warn("dialogs have no icon", "err", err)
		return ""
	}
	return path
}

// startAgent starts the installed service, else an agent that outlives the
// tray.
func (a *app) startAgent(ctx context.Context) error {
	service, err := a.agentService()
	if err == nil {
		_, err = service.installed(ctx)
	}
	if err == nil {
		return service.Start(ctx)
	}
	self, err := ownProgram()
	if err != nil {
		return err
	}
	return startDetached(ctx, self, "agent", "run", "--quiet")
}

// openFile shows a file in the user's own program for it.
func openFile(ctx context.Context, path string) error {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no %s yet", path)
	}
	argv := map[string][]string{
		"windows": {"notepad.exe", path},
		"darwin":  {"open", "-t", path},
	}[runtime.GOOS]
	if argv == nil {
		argv = []string{"xdg-open", path}
	}
	return startDetached(ctx, argv[0], argv[1:]...)
}

// usualClient is the program that people use with what a tunnel leads to, and
// its command line for this one.
func (a *app) usualClient(t state.Tunnel) (name, command string, ok bool) {
	k, err := commandsOf(t)
	if err != nil {
		return "", "", false
	}
	argv, err := k.client(a, t)
	if err != nil {
		return "", "", false
	}
	return filepath.Base(argv[0]), shell.Quote(argv...), true
}
