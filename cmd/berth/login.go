package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/internal/browser"
	"berth/internal/plain"
	"berth/internal/when"
)

func (a *app) loginCommand() *cobra.Command {
	var start client.LoginStart
	var noBrowser, forget, asJSON, rememberTOTP, insecure bool
	var caFile string
	cmd := &cobra.Command{
		Use:   "login [PROXY] [flags]",
		Short: "Log in to a Teleport cluster",
		Long: `Log in through tsh, to the proxy of the current profile or to PROXY. With single
sign-on your browser opens ("browser" in the config or $BROWSER names another
one); a password or a code is typed here and goes to tsh alone. Waiting clients
go on the moment it is done.

If a login of the profile is running already, from a terminal or the tray, yours
joins it. A session that is still valid is left alone unless you ask for a new one
with --renew. The new one replaces the old one once it is complete, so that no
tunnel is without a session in between.

--ca-file names the CA of a proxy with a certificate that your system does not
know; --insecure, which asks twice, turns its verification off. Both are kept
in the config. Where the agent finds no tsh, yours is used, and remembered if you
agree.

Where a cluster asks for a one-time code for each session, berth login asks for
the codes of the tunnels whose clients wait, and of all that lack one where none
waits. Teleport takes each code for one database.

--remember keeps the password you type in the keychain of your system, and
--remember-totp the seed of your one-time codes: with both, later logins ask you
nothing. Both lie side by side then: whoever can read your keychain can log in as
you. Nothing is ever kept in a file, and --forget deletes both. What is refused is
used once: a wrong password is forgotten, and where a code may have been wrong, the
next login asks you.`,
		Example: `  berth login
  berth login teleport.example.com
  berth login --renew
  berth login --remember
  berth login --forget
  berth login teleport.example.com --auth okta --no-browser`,
		Args:              optionalArg("PROXY"),
		ValidArgsFunction: a.completeProxies,
		RunE: func(cmd *cobra.Command, args []string) error {
			start.Proxy = only(args)
			if forget && (start.Remember || rememberTOTP || start.Renew) {
				return usageError{withHint(errors.New("--forget does not log in"), "berth login --forget, then berth login --remember")}
			}
			return a.withAgent(func(c *client.Client) error {
				if forget {
					return a.forgetLogin(cmd.Context(), c, start, asJSON)
				}
				if caFile != "" || insecure {
					proxy, err := a.trust(cmd.Context(), c, start.Proxy, caFile, insecure)
					if err != nil {
						return err
					}
					start.Proxy = proxy
				}
				front := &loginFront{app: a, noBrowser: noBrowser}
				if rememberTOTP {
					seed, err := front.askSeed(cmd.Context())
					if err != nil {
						return err
					}
					start.TOTPSeed = seed
					if !start.Remember && !passwordStored(cmd.Context(), c, start) {
						fmt.Fprintln(a.err, "The password will still be asked for at each login; to keep it too: berth login --remember")
					}
				}
				return a.logIn(cmd.Context(), c, start, front)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&start.User, "user", "", "log in as this `USER`; default: the profile's, else your name here")
	f.StringVar(&start.Auth, "auth", "", "use this `CONNECTOR`; default: the config's, else the cluster's")
	f.DurationVar(&start.TTL, "ttl", 0, "ask for a session of this length; 0 means what your roles allow")
	f.BoolVar(&start.Renew, "renew", false, "log in again although the session is still valid")
	f.StringVar(&caFile, "ca-file", "", "trust the CA in this `FILE` for the PROXY's web certificate, from now on")
	f.BoolVar(&insecure, "insecure", false, "do not verify the PROXY's web certificate, from now on; asks twice")
	must(cmd.MarkFlagFilename("ca-file", "pem", "crt"))
	f.BoolVar(&noBrowser, "no-browser", false, "print the address, and open no browser")
	f.BoolVar(&start.Remember, "remember", false, "log in again, and keep the password in the system's keychain")
	f.BoolVar(&rememberTOTP, "remember-totp", false, "ask for the seed of your one-time codes, and keep it there too")
	f.BoolVar(&forget, "forget", false, "do not log in: delete what the keychain holds for the user")
	f.BoolVar(&asJSON, "json", false, "with --forget: print what was deleted as JSON")
	return cmd
}

// passwordStored reports whether the keychain is known to hold the password of
// the user who logs in.
func passwordStored(ctx context.Context, c *client.Client, start client.LoginStart) bool {
	s, err := c.Snapshot(ctx)
	return err == nil && slices.ContainsFunc(s.Profiles, func(p state.Profile) bool {
		named := start.Proxy == "" || addressOf(start.Proxy, s.Profiles) == p.Proxy
		return named && (start.User == "" || start.User == p.User) && slices.Contains(p.Stored, "password")
	})
}

// forgetLogin deletes what the keychain holds.
func (a *app) forgetLogin(ctx context.Context, c *client.Client, start client.LoginStart, asJSON bool) error {
	f, err := c.ForgetLogin(ctx, start.Proxy, start.User)
	if err != nil {
		return err
	}
	if asJSON {
		return a.printJSON(f)
	}
	text := fmt.Sprintf("nothing was stored for %s at %s", plain.Line(f.User), plain.Line(f.Proxy))
	if len(f.Stored) > 0 {
		text = fmt.Sprintf("forgotten for %s at %s: %s", plain.Line(f.User), plain.Line(f.Proxy), plain.Line(strings.Join(f.Stored, " and ")))
	}
	_, err = fmt.Fprintln(a.out, text)
	return err
}

func (a *app) snoozeCommand() *cobra.Command {
	var user string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "snooze [PROXY] [flags]",
		Short: "Snooze the session-expiry reminder",
		Long: `Snooze the reminder that a session ends soon, that of the current profile or
the one at PROXY. The next, more urgent one comes all the same.`,
		Args:              optionalArg("PROXY"),
		ValidArgsFunction: a.completeProxies,
		PreRunE:           func(cmd *cobra.Command, _ []string) error { return noneEmptyFlags(cmd, "user") },
		RunE: func(cmd *cobra.Command, args []string) error {
			proxy := only(args)
			return a.withAgent(func(c *client.Client) error {
				before, err := c.Snapshot(cmd.Context())
				if err != nil {
					return err
				}
				snoozed, err := c.SnoozeRenewal(cmd.Context(), proxy, user)
				switch {
				case err != nil:
					return err
				case asJSON:
					return a.printJSON(snoozed)
				case !warned(before, snoozed.Proxy, user):
					next := ""
					if snoozed.Until != nil {
						next = "; the next comes at " + when.ClockSeconds(*snoozed.Until, time.Now())
					}
					_, err = fmt.Fprintf(a.out, "there is no warning about the session at %s to snooze%s\n", plain.Line(snoozed.Proxy), next)
				case snoozed.Until == nil:
					_, err = fmt.Fprintf(a.out, "nothing more is said about the session at %s\n", plain.Line(snoozed.Proxy))
				default:
					_, err = fmt.Fprintf(a.out, "nothing is said about the session at %s until %s\n", plain.Line(snoozed.Proxy), when.ClockSeconds(*snoozed.Until, time.Now()))
				}
				return err
			})
		},
	}
	cmd.Flags().StringVar(&user, "user", "", "the reminder of this `USER`, where several are logged in at the proxy")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print until when as JSON")
	return cmd
}

func (a *app) logoutCommand() *cobra.Command {
	var user string
	cmd := &cobra.Command{
		Use:   "logout [PROXY] [flags]",
		Short: "End the session at a Teleport cluster",
		Long: `Have tsh end the session, at the proxy of the current profile or at PROXY. Its
tunnels keep their ports and wait for the next login.`,
		Args:              optionalArg("PROXY"),
		ValidArgsFunction: a.completeProxies,
		PreRunE:           func(cmd *cobra.Command, _ []string) error { return noneEmptyFlags(cmd, "user") },
		RunE: func(cmd *cobra.Command, args []string) error {
			proxy := only(args)
			return a.withAgent(func(c *client.Client) error {
				before, err := c.Snapshot(cmd.Context())
				if err != nil {
					return err
				}
				proxy, err := c.Logout(cmd.Context(), proxy, user)
				if err != nil {
					return err
				}
				if slices.ContainsFunc(before.Profiles, func(p state.Profile) bool {
					return p.Proxy == proxy && (user == "" || p.User == user) && p.State == state.ProfileLoggedOut
				}) {
					_, err = fmt.Fprintln(a.out, "you were logged out of "+plain.Line(proxy)+" already")
					return err
				}
				_, err = fmt.Fprintln(a.out, "logged out of", plain.Line(proxy))
				return err
			})
		},
	}
	cmd.Flags().StringVar(&user, "user", "", "end the session of this `USER`, where several are logged in at the proxy")
	return cmd
}

func (a *app) completeProxies(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, noCompletions
	}
	return a.complete(cmd, func(ctx context.Context, c *client.Client) ([]string, error) {
		s, err := c.Snapshot(ctx)
		var names []string
		for _, p := range s.Profiles {
			if name := described(p.Proxy, p.User+", "+words(p.State)); !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
		return names, err
	})
}

// loginFront is the terminal's side of a login.
type loginFront struct {
	*app

	noBrowser bool

	mu     sync.Mutex
	asking int64  // the prompt that waits for the user; 0: none
	stop   func() // ends the reading of a secret, and returns when it has ended; nil: none was asked for
}

// show takes one step of a login.
func (f *loginFront) show(ctx context.Context, e client.LoginEvent, answer func(string)) error {
	switch e.Kind {
	case state.LoginURL:
		f.showURL(ctx, e)
	case state.LoginPassword, state.LoginOTP, state.LoginPIN:
		return f.ask(ctx, e, answer)
	case state.LoginSettled:
		f.mu.Lock()
		mine := f.asking == e.ID
		f.mu.Unlock()
		if mine {
			f.restore()
			fmt.Fprintln(f.err, "\nanswered elsewhere")
		}
	case state.LoginDone:
		text := plain.Line(e.Text)
		if e.Deadline != nil {
			text += ", until " + when.ClockSeconds(*e.Deadline, time.Now())
		}
		_, err := fmt.Fprintln(f.out, text)
		return err
	default:
		fmt.Fprintln(f.err, plain.Line(e.Text))
	}
	return nil
}

// showURL always prints the address: it may be wanted in another browser.
func (f *loginFront) showURL(ctx context.Context, e client.LoginEvent) {
	if err := browser.Check(e.URL, e.Proxy); err != nil {
		fmt.Fprintf(f.err, "tsh wants you to open %s; %v\n", plain.Line(e.URL), err)
		return
	}
	fmt.Fprintf(f.err, "Log in to %s with your browser:\n  %s\n", plain.Line(e.Proxy), plain.Line(e.URL))
	if e.Deadline != nil {
		fmt.Fprintf(f.err, "tsh waits for it until %s.\n", when.ClockSeconds(*e.Deadline, time.Now()))
	}
	if f.noBrowser {
		return
	}
	if err := browser.Open(ctx, e.URL, e.Browser, f.env, e.Proxy); err != nil {
		fmt.Fprintf(f.err, "No browser was opened (%s): open the address yourself.\n", plain.Line(err.Error()))
	}
}

// ask reads a secret from the terminal, without echo, while the login goes on.
func (f *loginFront) ask(ctx context.Context, e client.LoginEvent, answer func(string)) error {
	f.restore()
	ctx, cancel := context.WithCancel(ctx)
	typed, err := f.typed(ctx, "a password", plain.Line(e.Text)+" ")
	if err != nil {
		cancel()
		return err
	}
	ended := make(chan struct{})
	f.mu.Lock()
	f.asking, f.stop = e.ID, func() { cancel(); <-ended }
	f.mu.Unlock()
	go func() {
		got := <-typed
		cancel()
		close(ended)
		f.mu.Lock()
		mine := f.asking == e.ID
		if mine {
			f.asking = 0
		}
		f.mu.Unlock()
		if mine && (got.err == nil || errors.Is(got.err, io.EOF) && got.text != "") {
			fmt.Fprintln(f.err)
			answer(got.text)
		}
	}()
	return nil
}

// typedSecret is what was typed at a terminal, unseen.
type typedSecret struct {
	text string
	err  error
}

// typed asks for a secret and reads a line without echo, until ctx ends; the terminal is
// as before then. The echo goes off before the question is printed: a secret that is typed
// at once would else be shown.
func (f *loginFront) typed(ctx context.Context, what, question string) (<-chan typedSecret, error) {
	in, ok := f.in.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return nil, withHint(fmt.Errorf("%s is asked for, and there is no terminal to type it at", what), "run berth login in a terminal")
	}
	loud, err := silence(in)
	if err != nil {
		return nil, fmt.Errorf("look at the terminal: %w", err)
	}
	fmt.Fprint(f.err, question)
	typed := make(chan typedSecret, 1)
	go func() {
		text, err := readTyped(ctx, in)
		loud(ctx.Err() != nil) // the beginning of a secret is not for the program that reads next
		typed <- typedSecret{text, err}
	}()
	return typed, nil
}

// askSeed reads the seed of one-time codes, without echo.
func (f *loginFront) askSeed(ctx context.Context) (string, error) {
	typed, err := f.typed(ctx, "a seed", "Seed that your authenticator app was set up with (its letters, or the otpauth:// address): ")
	if err != nil {
		return "", err
	}
	got := <-typed
	fmt.Fprintln(f.err)
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	if got.err != nil {
		return "", fmt.Errorf("read the seed: %w", got.err)
	}
	if strings.TrimSpace(got.text) == "" {
		return "", errors.New("no seed was typed; nothing was done")
	}
	return got.text, nil
}

// restore ends the reading of a secret, and gives the terminal back as it was.
func (f *loginFront) restore() {
	f.mu.Lock()
	stop := f.stop
	f.asking, f.stop = 0, nil
	f.mu.Unlock()
	if stop != nil {
		stop()
	}
}

// warned reports whether there is a warning that the session at a proxy ends.
func warned(s state.Snapshot, proxy, user string) bool {
	return slices.ContainsFunc(s.Profiles, func(p state.Profile) bool {
		return p.Proxy == proxy && (user == "" || p.User == user) && p.Renewal.Warning != state.WarnNot
	})
}
