package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/url"

	"github.com/spf13/cobra"

	"berth/agent/config"
	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/internal/browser"
	"berth/internal/lean"
	"berth/internal/licenses"
	"berth/internal/osevents"
	"berth/internal/paths"
	"berth/internal/web"
	"berth/proxies/db"
	"berth/proxies/guard"
	"berth/tray"
	"berth/tray/window"
)

type openOptions struct {
	noBrowser bool
	json      bool
}

// openedJSON is the JSON of "berth open".
type openedJSON struct {
	Address string `json:"address"`
	Link    string `json:"link"` // opens the window once; empty unless it was asked for
}

func (a *app) openCommand() *cobra.Command {
	var o openOptions
	cmd := &cobra.Command{
		Use:   "open [TUNNEL] [flags]",
		Short: "Open berth's window in your browser",
		Long: `Open the berth window, at a tunnel if one is named: tunnels, sessions, access
requests, recordings and what the doctor finds, in your own browser. Where there is
a browser made of Chromium, it is a window of its own.

The page comes from this command, on a port of this machine that only your programs
reach, and ends with it: after 15 minutes without an open page, when the screen is
locked, or with Ctrl-C. The link works once.`,
		Example: `  berth open
  berth open prod-pg
  berth open --no-browser`,
		Args:              optionalArg("TUNNEL"),
		ValidArgsFunction: a.completeTunnels,
		RunE: func(cmd *cobra.Command, args []string) error {
			page := ""
			if len(args) == 1 {
				if _, err := a.tunnel(cmd.Context(), args[0]); err != nil {
					return err
				}
				page = tray.PageTunnel + url.PathEscape(args[0])
			}
			return a.openWindow(cmd.Context(), page, o)
		},
	}
	cmd.Flags().BoolVar(&o.noBrowser, "no-browser", false, "print the link, and open no browser")
	cmd.Flags().BoolVar(&o.json, "json", false, "print the address as JSON; with --no-browser the link too")
	return cmd
}

// openWindow serves the window until it ends.
func (a *app) openWindow(ctx context.Context, page string, o openOptions) error {
	p, err := paths.Resolve(a.env)
	if err != nil {
		return err
	}
	if err := a.policy.Load().Allows(config.FeatureWindow); err != nil {
		return err
	}
	a.staySmall()
	c := client.Dial(p.Socket)
	defer func() { _ = c.Close() }()
	serving, stop := context.WithCancel(ctx)
	defer stop()
	opener := window.NewOpener(serving, a.windowConfig(ctx, p, c, slog.New(slog.DiscardHandler)))
	link, err := opener.Link(page)
	if err != nil {
		return err
	}
	opened := openedJSON{Address: window.Address(link)}
	if o.noBrowser {
		opened.Link = link
	}
	if !o.noBrowser {
		if err = browser.OpenWindow(ctx, link, nil, a.env); err != nil {
			err = withHint(fmt.Errorf("the browser does not start: %w", err), `"berth open --no-browser" prints the link`)
		}
	}
	switch {
	case err != nil: // then nothing is left to be opened
	case o.json:
		err = a.printJSON(opened)
	case o.noBrowser:
		_, err = fmt.Fprintln(a.out, link)
	default:
		_, err = fmt.Fprintf(a.err, "The window is at %s until it is closed for 15 minutes, or Ctrl-C.\n", opened.Address)
	}
	if err != nil {
		stop()
	} else {
		lean.AfterStart(trimAfter, func(error) {}) // it only stays larger then
	}
	opener.Wait()
	return err
}

// windowConfig is what the window is made of, for the tray and for "berth open".
func (a *app) windowConfig(ctx context.Context, p paths.Paths, c *client.Client, log *slog.Logger) window.Config {
	return window.Config{
		Logger: log, Agent: c, Files: web.Window(), Version: buildVersion(), Guard: windowGuard(ctx, log),
		Locks: func(ctx context.Context, locked func()) {
			monitor := osevents.New(osevents.Config{Logger: log, Tell: func(e osevents.Event) {
				if e.Kind == osevents.Locked {
					locked()
				}
			}})
			if err := monitor.Run(ctx); err != nil {
				log.Warn("the window does not learn of the screen's lock", "err", err)
			}
		},
		Allowed: func() error { return a.policy.Load().Allows(config.FeatureWindow) },
		Browse: func(ctx context.Context, address string, command []string, proxy string) error {
			return browser.Open(ctx, address, command, a.env, proxy)
		},
		URLs:      a.connect,
		Recording: a.showRecording(c), PlayerPolicy: web.PlayerPolicy(),
		Reads: map[string]func(context.Context, url.Values) (any, error){
			"doctor": func(ctx context.Context, _ url.Values) (any, error) { return examined(ctx) },
			"log":    func(_ context.Context, q url.Values) (any, error) { return logEnd(p.LogFile, q.Get("lines")) },
			"config": func(ctx context.Context, _ url.Values) (any, error) { return a.configPage(ctx, c, p.Config) },
			"link": func(_ context.Context, q url.Values) (any, error) {
				return a.linkTo(ctx, c, q.Get("verb"), q.Get("to"))
			},
			"topics":   func(context.Context, url.Values) (any, error) { return topicsPage(), nil },
			"licenses": func(context.Context, url.Values) (any, error) { return licensesJSON{Text: licenses.Text}, nil },
		},
		Writes: map[string]func(context.Context, []byte) (any, error){
			"settings":    func(ctx context.Context, body []byte) (any, error) { return struct{}{}, a.takeSetting(ctx, c, body) },
			"agent/start": func(ctx context.Context, _ []byte) (any, error) { return struct{}{}, a.startAgent(ctx) },
			"doctor/mend": mend,
		},
	}
}

// windowOpener opens the window from the tray. What it serves ends with ctx, and
// wait returns when it has.
func (a *app) windowOpener(
	ctx context.Context, p paths.Paths, c *client.Client, log *slog.Logger,
) (open func(ctx context.Context, page string) error, wait func()) {
	opener := window.NewOpener(ctx, a.windowConfig(ctx, p, c, log))
	return func(ctx context.Context, page string) error {
		if err := a.policy.Load().Allows(config.FeatureWindow); err != nil {
			return err
		}
		link, err := opener.Link(page)
		if err != nil {
			return err
		}
		return browser.OpenWindow(ctx, link, nil, a.env)
	}, opener.Wait
}

// windowGuard is the guard of the window's port; nil where the system cannot tell
// whose program connects.
func windowGuard(ctx context.Context, log *slog.Logger) func(net.Conn) error {
	var g guard.Guard
	if err := g.Try(ctx); err != nil {
		log.Warn("the system does not say whose program opens the window: only its link keeps other users out", "err", err)
		return nil
	}
	return g.Check
}

// connect lists how clients connect to a tunnel.
func (a *app) connect(t state.Tunnel) (window.Connect, error) {
	k, err := commandsOf(t)
	if err != nil {
		return window.Connect{}, err
	}
	forms, err := k.forms(a, t)
	if err != nil {
		return window.Connect{}, err
	}
	connect := window.Connect{URLs: []window.Form{}}
	for _, name := range db.AllFormats {
		if text, ok := forms[name]; ok {
			connect.URLs = append(connect.URLs, window.Form{Name: string(name), Text: text})
		}
	}
	_, connect.Client, _ = a.usualClient(t)
	return connect, nil
}
