package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"

	"berth/agent/config"
	"berth/agent/ipc"
	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/agent/tsh"
	"berth/internal/paths"
	"berth/internal/plain"
)

// logIn logs in. Where the agent finds no tsh, the caller's own is used, since their
// PATH may have more than the one that the agent was started with.
func (a *app) logIn(ctx context.Context, c *client.Client, start client.LoginStart, front *loginFront) error {
	defer front.restore()
	login := func() error {
		return c.Login(ctx, start, func(e client.LoginEvent, answer func(string)) error { return front.show(ctx, e, answer) })
	}
	err := login()
	rpc, ok := errors.AsType[*client.Error](err)
	if !ok || rpc.Code != client.CodeTSHMissing {
		return err
	}
	own, missing := tsh.Find(tsh.Options{Env: a.env})
	if missing != nil {
		return err
	}
	start.TSH = own
	fmt.Fprintf(a.err, "The agent finds no tsh: this login uses yours, %s\n", plain.Line(own))
	if err := login(); err != nil {
		return err
	}
	front.restore()
	remember := false
	if a.canAsk() {
		remember, _ = a.confirmYes(ctx, "Remember it in the config, so that the agent can renew sessions?") // no answer is a no
	}
	if !remember {
		fmt.Fprintf(a.err, "To have the agent find it: tsh: {path: %s} in the config\n", plain.Line(own))
		return nil
	}
	p, err := paths.Resolve(a.env)
	if err != nil {
		return err
	}
	if err := config.RememberTSH(p.Config, p.LastGoodConfig(), own); err != nil {
		return err
	}
	return c.ReloadConfig(ctx)
}

// trust writes to the config how the web certificate of a proxy is verified. It returns
// the proxy's address, to which the login must go then.
func (a *app) trust(ctx context.Context, c *client.Client, proxy, caFile string, insecure bool) (string, error) {
	switch {
	case proxy == "":
		return "", usageError{withHint(errors.New("whose certificate? --ca-file and --insecure are for one proxy"), "name the PROXY")}
	case caFile != "" && insecure:
		return "", usageError{withHint(errors.New("--ca-file and --insecure do not go together"), "--ca-file is the safe one")}
	case insecure && !a.canAsk():
		return "", usageError{withHint(errors.New("--insecure asks twice, and there is no terminal"), "use --ca-file FILE")}
	}
	if err := ipc.CheckProxy(proxy); err != nil {
		return "", err
	}
	s, err := c.Snapshot(ctx)
	if err != nil {
		return "", err
	}
	proxy = addressOf(proxy, s.Profiles)
	if err := config.CheckProxy(proxy); err != nil {
		return "", usageError{err}
	}
	return proxy, a.trustAt(ctx, c, proxy, caFile, insecure)
}

// addressOf returns the address of the proxy that a word means to the agent: that of a
// profile, by its address, its host or its cluster's name, else the word itself.
func addressOf(proxy string, profiles []state.Profile) string {
	for _, named := range []func(state.Profile) bool{
		func(p state.Profile) bool { return p.Proxy == proxy },
		func(p state.Profile) bool { host, _, _ := net.SplitHostPort(p.Proxy); return host == proxy },
		func(p state.Profile) bool { return p.Cluster == proxy },
	} {
		if i := slices.IndexFunc(profiles, named); i >= 0 {
			return profiles[i].Proxy
		}
	}
	return proxy
}

func (a *app) trustAt(ctx context.Context, c *client.Client, proxy, caFile string, insecure bool) error {
	p, err := paths.Resolve(a.env)
	if err != nil {
		return err
	}
	if caFile != "" {
		if caFile, err = readableCA(caFile); err != nil {
			return err
		}
	} else if is, err := insecureAlready(p.Config, proxy); err != nil || is {
		return err
	} else if !a.confirm(ctx, "Not verify the certificate of "+proxy+"? Whoever answers at this address then gets your password and your queries.") ||
		!a.confirm(ctx, "Every login and tunnel through "+proxy+" stays open to such an attack until you take \"insecure: true\" out of the config. Are you sure?") {
		return withHint(errors.New("nothing was changed"), "use --ca-file FILE")
	}
	if err := p.MakeDirs(); err != nil {
		return err
	}
	if err := config.TrustProxy(p.Config, p.LastGoodConfig(), proxy, caFile, insecure); err != nil {
		return err
	}
	return c.ReloadConfig(ctx)
}

func insecureAlready(path, proxy string) (bool, error) {
	cfg, err := config.Load(path)
	if err != nil {
		return false, err
	}
	p, _ := cfg.Profile(proxy)
	return p.Insecure, nil
}

// readableCA returns the absolute path of a file with a CA.
func readableCA(file string) (string, error) {
	path, err := filepath.Abs(file)
	if err != nil {
		return "", err
	}
	raw, err := os.ReadFile(path)
	switch {
	case err != nil:
		return "", usageError{withHint(fmt.Errorf("--ca-file: %w", err), "name a file with the CA in PEM")}
	case !x509.NewCertPool().AppendCertsFromPEM(raw):
		return "", usageError{withHint(fmt.Errorf("there is no certificate in %s", file), "name a file with the CA in PEM")}
	}
	return path, nil
}
