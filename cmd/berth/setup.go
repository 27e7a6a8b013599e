package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"berth/agent/config"
	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/agent/tsh"
	"berth/internal/doctor"
	"berth/internal/osservice"
	"berth/internal/paths"
	"berth/internal/plain"
	"berth/proxies/db"
)

// setupOptions are what "berth setup" would ask for.
type setupOptions struct {
	proxy, user, caFile string
	wanted              []string // resources that are to have a tunnel
	skip                []string
	yes                 bool
}

// setupSteps are the steps that can be skipped, in their order.
var setupSteps = []string{"agent", "login", "tunnels", "tray", "completion"}

func (a *app) setupCommand() *cobra.Command {
	var o setupOptions
	cmd := &cobra.Command{
		Use:   "setup [PROXY] [flags]",
		Short: "Set everything up: agent, login, tunnels, tray, completion",
		Long: `Set everything up, step by step: find tsh, try the proxy, install the agent, log
in, add tunnels, and have the tray and the shell's completion ready. Each step
says what it is about to do, and can be skipped. What is done already is left
alone, so the command may be run again.

With --yes nothing is asked but what a login needs; name the proxy and, with
--tunnel, the databases and Kubernetes clusters. "berth uninstall" undoes it all.`,
		Example: `  berth setup
  berth setup teleport.example.com
  berth setup teleport.example.com --yes --tunnel pg-prod --skip tray`,
		Args:              optionalArg("PROXY"),
		ValidArgsFunction: a.completeProxies,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.proxy = only(args)
			for _, step := range o.skip {
				if !slices.Contains(setupSteps, step) {
					return usageError{withHint(fmt.Errorf("there is no step %q", step), "skip one of "+join(setupSteps))}
				}
			}
			if !o.yes && !a.canAsk() {
				return usageError{withHint(errors.New("berth setup asks, and there is no terminal"), "add --yes, and name the PROXY")}
			}
			return (&setup{app: a, setupOptions: o}).run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.user, "user", "", "log in as this `USER`; default: your name here")
	f.StringVar(&o.caFile, "ca-file", "", "the `FILE` with the CA of the proxy's web certificate, if your system does not know it")
	f.StringSliceVar(&o.wanted, "tunnel", nil, "add a tunnel to this `RESOURCE`; may be given several times")
	f.StringSliceVar(&o.skip, "skip", nil, "skip this `STEP`: "+join(setupSteps)+"; may be given several times")
	f.BoolVarP(&o.yes, "yes", "y", false, "do every step that is not skipped without asking")
	must(cmd.MarkFlagFilename("ca-file", "pem", "crt"))
	must(cmd.RegisterFlagCompletionFunc("skip", cobra.FixedCompletions(setupSteps, cobra.ShellCompDirectiveNoFileComp)))
	must(cmd.RegisterFlagCompletionFunc("user", cobra.NoFileCompletions))
	must(cmd.RegisterFlagCompletionFunc("tunnel", cobra.NoFileCompletions))
	return cmd
}

// setup is one run of "berth setup".
type setup struct {
	*app
	setupOptions

	added   []string // tunnels
	refused int      // tunnels that were chosen
}

func (s *setup) run(ctx context.Context) error {
	if err := s.findTSH(); err != nil {
		return err
	}
	if err := s.findProxy(ctx); err != nil {
		return err
	}
	for _, step := range []struct {
		name, question string
		do             func(context.Context) error
	}{
		{"agent", "Install the agent, and start it now and at every login?", s.installAgent},
		{"login", "Log in to " + s.proxy + "?", s.logIn},
		{"tunnels", "Choose databases and Kubernetes clusters for tunnels?", s.addTunnels},
		{"tray", "Start the tray's icon and notifications at every login?", s.installTray},
		{"completion", "Install completion for your shell?", func(context.Context) error { return s.completeShell() }},
	} {
		if slices.Contains(s.skip, step.name) {
			continue
		}
		agrees, err := s.agrees(ctx, step.question)
		if err != nil {
			return err
		}
		if !agrees {
			continue
		}
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return s.summary(ctx)
}

// agrees asks before a step; Enter alone means yes.
func (s *setup) agrees(ctx context.Context, question string) (bool, error) {
	if s.yes {
		return true, nil
	}
	fmt.Fprintln(s.err)
	agrees, err := s.confirmYes(ctx, question)
	return agrees, goesOn(err)
}

// ask asks for a line, below an empty one. Without an answer setup ends.
func (s *setup) ask(ctx context.Context, question string) (string, error) {
	fmt.Fprintln(s.err)
	answer, err := s.askLine(ctx, question)
	return answer, goesOn(err)
}

// goesOn says how setup goes on where a question was not answered.
func goesOn(err error) error {
	if !errors.Is(err, errUnanswered) {
		return err
	}
	return withHint(err, "what was done stays; berth setup goes on from there")
}

func (s *setup) findTSH() error {
	p, err := paths.Resolve(s.env)
	if err != nil {
		return err
	}
	cfg, err := s.loadConfig(p)
	if err != nil {
		return withHint(err, "berth config check")
	}
	path, err := tsh.Find(tsh.Options{ConfigPath: cfg.TSH.Path, Env: s.env})
	if missing, ok := errors.AsType[*tsh.NotFoundError](err); ok {
		return withHint(err, missing.Hint()+"; then run berth setup again. It comes with Teleport: https://goteleport.com/download")
	}
	if err != nil {
		return err
	}
	return s.say("tsh: %s", path)
}

// findProxy asks for the proxy unless it is known, and tries it.
func (s *setup) findProxy(ctx context.Context) error {
	if s.proxy == "" && !s.yes {
		answer, err := s.ask(ctx, "Address of your Teleport proxy, such as teleport.example.com:")
		if err != nil {
			return err
		}
		s.proxy = answer
	}
	if s.proxy == "" {
		return usageError{withHint(errors.New("no proxy was named"), "berth setup PROXY")}
	}
	s.proxy = strings.TrimSuffix(strings.TrimPrefix(s.proxy, "https://"), "/")
	addr := s.proxy
	if _, _, err := net.SplitHostPort(addr); err != nil {
		addr = net.JoinHostPort(addr, "443")
	}
	p, err := paths.Resolve(s.env)
	if err != nil {
		return err
	}
	if err := s.policy.Load().AllowsProxy(addr); err != nil {
		return err
	}
	if cfg, err := s.loadConfig(p); err == nil && s.caFile == "" {
		for _, profile := range cfg.Profiles {
			if profile.Proxy == addr || profile.Proxy == s.proxy {
				s.caFile = profile.CAFilePath()
			}
		}
	}
	for {
		err := doctor.TryProxy(ctx, addr, s.caFile)
		if err == nil {
			break
		}
		_, unknown := errors.AsType[x509.UnknownAuthorityError](err)
		if !unknown || s.yes {
			return withHint(fmt.Errorf("%s does not answer as a Teleport proxy: %w", addr, err), "check the address, HTTPS_PROXY and --ca-file; berth doctor tries it step by step")
		}
		_ = s.say("%s shows a certificate of a CA that this system does not know.", addr)
		if s.caFile, err = s.ask(ctx, "File with that CA in PEM, or Enter to stop:"); err != nil {
			return err
		}
		if s.caFile == "" {
			return withHint(errors.New("the proxy is not trusted"), "ask whoever runs it for the CA")
		}
	}
	if s.caFile != "" {
		if s.caFile, err = filepath.Abs(s.caFile); err != nil {
			return err
		}
		if err := p.MakeDirs(); err != nil {
			return err
		}
		if err := config.TrustProxy(p.Config, p.LastGoodConfig(), addr, s.caFile, false); err != nil {
			return err
		}
	}
	return s.say("proxy: %s answers", addr)
}

func (s *setup) installAgent(ctx context.Context) error {
	service, err := s.agentService()
	if err != nil {
		return err
	}
	if ofDemo(service.paths) {
		return s.say("The demo runs the agent.")
	}
	err = service.install(ctx)
	if _, none := errors.AsType[*osservice.NoManagerError](err); none {
		return explainService(err)
	}
	return err
}

// logIn logs in, unless a valid session is there.
func (s *setup) logIn(ctx context.Context) error {
	return s.withAgent(func(c *client.Client) error {
		return s.app.logIn(ctx, c, client.LoginStart{Proxy: s.proxy, User: s.user}, &loginFront{app: s.app})
	})
}

// addTunnels lists what the cluster offers, and adds what was chosen. A tunnel that is
// refused keeps neither the others nor the steps after it from being done.
func (s *setup) addTunnels(ctx context.Context) error {
	return s.withAgent(func(c *client.Client) error {
		list, err := s.listed(ctx, c, client.ResourceQuery{})
		if err != nil {
			return err
		}
		chosen, err := s.choose(ctx, list)
		if err != nil {
			return err
		}
		for _, r := range chosen {
			err := s.addOne(ctx, c, r)
			switch {
			case err == nil:
			case ctx.Err() != nil || errors.Is(err, errUnanswered):
				return goesOn(err)
			default:
				s.refused++
				s.complain(notAdded(r, err))
			}
		}
		return nil
	})
}

// choose returns the resources that were named, or that a person picks.
func (s *setup) choose(ctx context.Context, list []client.Resource) ([]client.Resource, error) {
	if len(s.wanted) > 0 || s.yes {
		var chosen []client.Resource
		for _, name := range s.wanted {
			i := slices.IndexFunc(list, func(r client.Resource) bool { return r.Name == name })
			if i < 0 {
				return nil, withHint(fmt.Errorf("the cluster lists no %q", name), "berth resources")
			}
			if there := list[i].Tunnel; there != "" {
				if err := s.say("the tunnel %s leads to %s already", there, name); err != nil {
					return nil, err
				}
				continue
			}
			chosen = append(chosen, list[i])
		}
		return chosen, nil
	}
	list = slices.DeleteFunc(list, func(r client.Resource) bool { return r.Tunnel != "" })
	if len(list) == 0 {
		return nil, s.say("The cluster offers you nothing that has no tunnel yet.")
	}
	if err := s.printChoices(list); err != nil {
		return nil, err
	}
	for {
		answer, err := s.ask(ctx, "Which ones? Numbers, or all; Enter for none:")
		if err != nil {
			return nil, err
		}
		chosen, err := picked(answer, list)
		if err == nil {
			return chosen, nil
		}
		_ = s.say("%v", err)
	}
}

// picked reads numbers, from one, or "all".
func picked(answer string, list []client.Resource) ([]client.Resource, error) {
	if answer == "all" {
		return list, nil
	}
	var chosen []client.Resource
	for _, word := range strings.FieldsFunc(answer, func(r rune) bool { return r == ' ' || r == ',' }) {
		n, err := strconv.Atoi(word)
		if err != nil || n < 1 || n > len(list) {
			return nil, fmt.Errorf("%q is no number from 1 to %d", plain.Line(word), len(list))
		}
		if !slices.ContainsFunc(chosen, func(r client.Resource) bool {
			return r.Name == list[n-1].Name && r.Cluster == list[n-1].Cluster && r.Kind == list[n-1].Kind
		}) {
			chosen = append(chosen, list[n-1])
		}
	}
	return chosen, nil
}

func (s *setup) addOne(ctx context.Context, c *client.Client, r client.Resource) error {
	snapshot, err := c.Snapshot(ctx)
	if err != nil {
		return err
	}
	spec := state.TunnelSpec{
		Name: freeTunnelName(r.Name, tunnelNames(snapshot.Tunnels)), Kind: r.Kind, Cluster: r.Cluster, Resource: r.Name,
	}
	if r.Kind.Info().NamesUser && !s.yes {
		p, _ := db.Lookup(r.Protocol)
		// Of a few users that roles allow, addTunnel asks for one.
		if p.DefaultDBUser == "" && slices.Contains(r.DBUsers, "*") {
			if spec.DBUser, err = askAnyUser(ctx, s.ask, r); err != nil {
				return err
			}
		}
		for {
			if spec.DBName, err = s.ask(ctx, "Database in "+r.Name+", or Enter to leave it to the client:"); err != nil {
				return err
			}
			if p.TakesDBName(spec.DBName) {
				break
			}
			_ = s.say("%s numbers its databases: answer with a number, or Enter.", p.Title)
		}
	}
	added, err := s.addTunnel(ctx, c, spec, s.yes)
	if err != nil {
		return err
	}
	s.added = append(s.added, added.Name)
	return nil
}

func (s *setup) completeShell() error {
	if p, err := paths.Resolve(s.env); err == nil && ofDemo(p) {
		return s.say("The demo leaves nothing in your shell.")
	}
	return s.installCompletion()
}

func (s *setup) installTray(ctx context.Context) error {
	if s.env(paths.HomeVar) != "" {
		return s.say("%s is set: the tray that starts at login is for your usual berth, so this one has none.", paths.HomeVar)
	}
	return s.startTrayAtLogin(ctx)
}

// summary prints what there is, and what to paste.
func (s *setup) summary(ctx context.Context) error {
	if err := s.say(""); err != nil {
		return err
	}
	for _, name := range s.added {
		err := s.withAgent(func(c *client.Client) error {
			t, err := settled(ctx, c, name)
			if err != nil {
				return err
			}
			return s.printAdded(t)
		})
		if err != nil {
			return err
		}
	}
	if s.refused > 0 {
		return fmt.Errorf("tunnels that were not added: %d", s.refused)
	}
	if p, err := paths.Resolve(s.env); err == nil && ofDemo(p) {
		return s.say("Done. How everything is: berth status.")
	}
	return s.say("Done. How everything is: berth status. To undo it all: berth uninstall.")
}
