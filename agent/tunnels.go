package agent

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"os"
	"slices"

	"berth/agent/config"
	"berth/agent/state"
)

// running is a tunnel of the config: with its goroutines, or stopped by the
// user.
type running struct {
	spec   state.TunnelSpec
	port   int                // the local one
	t      *tunnel            // nil: stopped
	start  func()             // starts its goroutines; called once
	cancel context.CancelFunc // ends them
	done   chan struct{}      // closed when they have ended
}

// shoutInsecure puts every proxy that is not verified into the log: nobody
// should find out later.
func (a *Agent) shoutInsecure(cfg *config.Config) {
	for _, p := range cfg.Profiles {
		if p.Insecure {
			a.log.Warn("INSECURE: this proxy's web certificate is not verified", "proxy", p.Proxy)
		}
	}
}

// startTunnels makes every tunnel of the config and binds its port, before
// anything else needs time.
func (a *Agent) startTunnels(ctx context.Context) {
	a.mu.Lock()
	for _, spec := range a.applied.Tunnels {
		a.addLocked(ctx, spec)
	}
	for _, r := range a.tunnels {
		r.start()
	}
	a.kube.files.want(a.applied)
	a.mu.Unlock()
	a.kube.files.start(ctx)
}

// addLocked makes a tunnel and binds its port, unless the user stopped it. A
// port that cannot be had is the tunnel's problem, not the agent's.
func (a *Agent) addLocked(ctx context.Context, spec state.TunnelSpec) *running {
	history := a.histories.of(spec.Name)
	r := &running{spec: spec, port: spec.Port, start: func() {}}
	if spec.Kind == state.KindKube {
		r.port = kubePort(a.applied, spec)
	}
	a.tunnels[spec.Name] = r
	if a.saved.Stopped(spec.Name) {
		return r
	}
	r.t = newTunnel(spec, a.resolver, a.opts.Logger, history, a.watchman, a.touch)
	switch {
	case sharesKubePort(spec):
		r.t.px = r.t.newKubeCarrier(a.kube.shared(ctx, sharedKubePort(a.applied)), a.kube.files.localCA, a.opts.Grace, a.opts.Logger)
	case spec.Kind == state.KindKube:
		r.t.px = r.t.newKubeCarrier(nil, a.kube.files.localCA, a.opts.Grace, a.opts.Logger)
	default:
		r.t.px = r.t.newDBCarrier(a.opts.Grace, a.opts.Logger)
	}
	if err := r.t.px.Bind(); err != nil {
		a.log.Warn("port not bound, will retry", "tunnel", spec.Name, "local_port", r.port, "err", err)
	}
	tctx, cancel := context.WithCancel(ctx)
	t, done := r.t, make(chan struct{})
	r.cancel, r.done = cancel, done
	r.start = func() {
		go func() {
			defer close(done)
			t.run(tctx)
		}()
	}
	return r
}

// dropLocked stops a tunnel's goroutines. Its listeners close at once, so that
// a successor can have the port; open connections drain in the background.
func (a *Agent) dropLocked(r *running) {
	if r.t == nil {
		return
	}
	r.cancel()
	t, done := r.t, r.done
	r.t, r.cancel, r.done = nil, nil, nil
	<-t.px.Released()
	a.draining.Go(func() { <-done })
}

// stopTunnels waits until every tunnel has drained. The agent's context must
// be over.
func (a *Agent) stopTunnels() {
	a.mu.Lock()
	for _, r := range a.tunnels {
		a.dropLocked(r)
	}
	a.mu.Unlock()
	a.draining.Wait()
	a.kube.close()
	a.kube.running.Wait()
	a.resolver.children.wait()
}

func (a *Agent) kickTunnels(reason kickReason) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range a.tunnels {
		if r.t != nil {
			r.t.wake(reason)
		}
	}
}

// followConfig applies every good config the file turns into.
func (a *Agent) followConfig(ctx context.Context) {
	wake, cancel := a.config.Subscribe()
	defer cancel()
	a.applyConfig(ctx)
	for {
		select {
		case <-ctx.Done():
			return
		case <-wake:
			a.applyConfig(ctx)
		}
	}
}

// applyConfig brings the tunnels in line with the newest good config: only
// those that differ are touched.
func (a *Agent) applyConfig(ctx context.Context) {
	a.mu.Lock()
	next := withPorts(a.config.Current().Config)
	diff := config.Diff(a.applied, next)
	diff.Changed = append(diff.Changed, movedKube(a.applied, next, diff)...)
	a.histories.configChanged(diff, a.applied)
	a.applied = next
	for _, spec := range slices.Concat(diff.Removed, diff.Changed) {
		if r := a.tunnels[spec.Name]; r != nil {
			a.dropLocked(r)
			delete(a.tunnels, spec.Name)
		}
	}
	if !slices.ContainsFunc(next.Tunnels, sharesKubePort) {
		a.kube.close()
	}
	for _, spec := range slices.Concat(diff.Changed, diff.Added) {
		a.addLocked(ctx, spec).start()
	}
	if !diff.Empty() {
		a.kube.files.want(next)
	}
	homes, err := homePaths(next)
	a.mu.Unlock()

	for _, spec := range diff.Removed {
		if err := errors.Join(a.saved.SetStopped(spec.Name, false), a.saved.SetGrants(spec.Name, nil)); err != nil {
			a.log.Warn("saved state not written", "err", err)
		}
	}
	switch {
	case err != nil:
		a.log.Warn("homes not changed", "err", err)
	case diff.HomesChanged:
		a.homes.SetHomes(homes)
	}
	if diff.ProfilesChanged {
		a.shoutInsecure(next)
		a.kickTunnels(kickChanged)
	}
	if !diff.Empty() {
		a.log.Info("config applied", "added", len(diff.Added), "changed", len(diff.Changed), "removed", len(diff.Removed))
	}
	a.touch()
}

// movedKube are the tunnels that share a port which is another one now, and
// that are not among the changed ones already.
func movedKube(from, to *config.Config, diff config.Changes) []state.TunnelSpec {
	if sharedKubePort(from) == sharedKubePort(to) {
		return nil
	}
	known := slices.Concat(diff.Added, diff.Changed)
	return slices.DeleteFunc(kubeTunnels(to), func(t state.TunnelSpec) bool {
		return !sharesKubePort(t) || slices.ContainsFunc(known, func(k state.TunnelSpec) bool { return k.Name == t.Name })
	})
}

// sorted returns the tunnels in the order of the config file.
func (a *Agent) sortedLocked() []*running {
	order := make(map[string]int, len(a.applied.Tunnels))
	for i, t := range a.applied.Tunnels {
		order[t.Name] = i
	}
	list := make([]*running, 0, len(a.tunnels))
	for _, r := range a.tunnels {
		list = append(list, r)
	}
	slices.SortFunc(list, func(x, y *running) int { return cmp.Compare(order[x.spec.Name], order[y.spec.Name]) })
	return list
}

// proxySettings reads what the config says of a proxy, ca_file included.
func (a *Agent) proxySettings(proxyAddr string) (proxySettings, error) {
	p, ok := a.current().Profile(proxyAddr)
	if !ok {
		return proxySettings{}, nil
	}
	set := proxySettings{insecure: p.Insecure}
	if p.CAFile == "" {
		return set, nil
	}
	raw, err := os.ReadFile(p.CAFilePath())
	if err != nil {
		return proxySettings{}, &caFileError{path: p.CAFile, err: rootCause(err)}
	}
	set.caFile, set.rootCAs = p.CAFilePath(), x509.NewCertPool()
	if !set.rootCAs.AppendCertsFromPEM(raw) {
		return proxySettings{}, &caFileError{path: p.CAFile, err: errors.New("there is no certificate in it")}
	}
	return set, nil
}
