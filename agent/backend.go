package agent

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	"berth/agent/cluster"
	"berth/agent/config"
	"berth/agent/ipc"
	"berth/agent/ports"
	"berth/agent/sessions"
	"berth/agent/state"
	"berth/agent/tunnel"
	"berth/internal/plain"
	"berth/proxies"
)

// The methods below answer at the control socket what commands and the tray ask.

// ListResources asks the clusters what they offer this user. Without a cluster
// it asks every cluster, leaves too, that a valid session leads to; those that
// cannot be asked are named.
func (a *Agent) ListResources(ctx context.Context, q ipc.ResourceQuery) (list []ipc.Resource, unasked []string, err error) {
	if q.Kind != "" && !q.Kind.Known() {
		return nil, nil, &ipc.Error{
			Code: ipc.CodeInvalid, Message: fmt.Sprintf("unknown kind of resource %q", q.Kind), Hint: `see "berth resources --help"`,
		}
	}
	now := time.Now()
	names := []string{q.Cluster}
	if q.Cluster == "" {
		if names = a.sessions.Clusters(ctx, now); len(names) == 0 {
			return nil, nil, a.loginNeeded("")
		}
	}
	resources := []ipc.Resource{}
	for _, name := range names {
		offered, err := a.offered(ctx, q.Kind, name, now)
		_, isAway := errors.AsType[*cluster.LeafAwayError](err)
		switch {
		case isAway && len(names) > 1:
			unasked = append(unasked, a.tunnels.Word(err, name).Error())
		case err != nil:
			return nil, nil, a.tunnels.Word(err, name)
		}
		resources = append(resources, offered...)
	}
	return resources, unasked, nil
}

// offered returns what a cluster offers of a kind, or of every kind.
func (a *Agent) offered(ctx context.Context, kind state.Kind, clusterName string, now time.Time) (all []ipc.Resource, err error) {
	for _, info := range state.Kinds {
		if kind != "" && kind != info.Kind {
			continue
		}
		list, err := a.resources(ctx, info.Kind, clusterName, now)
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
	}
	return all, nil
}

func (a *Agent) resources(ctx context.Context, kind state.Kind, clusterName string, now time.Time) ([]ipc.Resource, error) {
	f := a.sessions.Discover(ctx, clusterName, "", now)
	if f.Profile == nil {
		return nil, sessions.ErrNoProfile
	}
	if !f.Valid(now) || f.Cluster == nil {
		return nil, sessions.ErrLoginNeeded
	}
	list, err := tunnel.List(ctx, kind, f, clusterName)
	for i := range list {
		list[i].Tunnel = a.tunnels.TunnelTo(list[i])
	}
	return list, err
}

// AddTunnel writes a tunnel to the config, with a port that stays, and starts
// it. While logged in, a resource the cluster does not list is refused, and the
// only database user whom one may be is taken; while logged out it is taken on
// trust.
func (a *Agent) AddTunnel(ctx context.Context, spec state.TunnelSpec) (state.TunnelSpec, error) {
	spec.Name = plain.NFC(spec.Name)
	if spec.Cluster == "" {
		name, err := a.defaultCluster()
		if err != nil {
			return state.TunnelSpec{}, err
		}
		spec.Cluster = name
	}
	spec, err := a.completed(ctx, spec)
	if err != nil {
		return state.TunnelSpec{}, err
	}
	// The port is chosen under the file's lock: two commands at once must not
	// choose the same.
	policy := a.current().Policy
	if err := policy.AllowsTunnel(spec); err != nil {
		return state.TunnelSpec{}, configError(err)
	}
	err = config.Edit(a.opts.Paths.Config, func(d *config.Document) error {
		if spec.Port == 0 && !spec.Kind.Info().SharesPort {
			bound, _ := policy.Bind(d.Config())
			spec.Port = ports.Derive(ports.Fill(bound), spec, proxies.PortBusy)
		}
		if err := d.AddTunnel(spec); err != nil {
			return err
		}
		return ports.WriteKube(d, spec, proxies.PortBusy)
	})
	if err != nil {
		return state.TunnelSpec{}, configError(err)
	}
	if err := a.ReloadConfig(ctx); err != nil {
		return state.TunnelSpec{}, err
	}
	return spec, nil
}

// defaultCluster is the cluster of the profile tsh would use.
func (a *Agent) defaultCluster() (string, error) {
	f := a.sessions.Current()
	switch {
	case f.Profile == nil && len(a.sessions.All()) > 1:
		return "", &ipc.Error{Code: ipc.CodeInvalid, Message: "several profiles, and none is current", Hint: "name one with --cluster"}
	case f.Profile == nil:
		return "", a.loginNeeded("")
	default:
		return f.Profile.Cluster, nil
	}
}

// completed returns a new tunnel with what it lacks, or why it cannot work.
func (a *Agent) completed(ctx context.Context, spec state.TunnelSpec) (state.TunnelSpec, error) {
	now := time.Now()
	f := a.sessions.Discover(ctx, spec.Cluster, spec.User, now)
	if !f.Valid(now) || f.Cluster == nil {
		return spec, a.checkUnknownCluster(spec, f, now)
	}
	spec, err := tunnel.Complete(ctx, f, spec)
	if err != nil {
		return spec, a.tunnels.Word(err, spec.Cluster)
	}
	return spec, nil
}

// checkUnknownCluster refuses a cluster that no valid session knows: a misspelt
// name should not end up in the config. Without any valid session the name is
// taken on trust.
func (a *Agent) checkUnknownCluster(spec state.TunnelSpec, f sessions.Session, now time.Time) error {
	known := a.sessions.ValidClusters(now)
	if f.Profile != nil || len(known) == 0 {
		return nil
	}
	return &ipc.Error{
		Code:    ipc.CodeNotFound,
		Message: fmt.Sprintf("no profile knows the cluster %q", spec.Cluster),
		Hint:    "you are logged in to " + strings.Join(known, ", "),
	}
}

// ChangeTunnel makes a tunnel of the config what spec says. It keeps its port unless
// spec has another. Under a new name it goes on with its history, stopped if it was
// stopped, with the roles that it alone has.
func (a *Agent) ChangeTunnel(ctx context.Context, name string, spec state.TunnelSpec) (state.TunnelSpec, error) {
	was, ok := a.current().Tunnel(name)
	spec.Name = plain.NFC(spec.Name)
	switch {
	case !ok:
		return spec, ipc.UnknownTunnel(name, a.current().TunnelNames()...)
	case spec.Kind != was.Kind:
		return spec, &ipc.Error{
			Code: ipc.CodeInvalid, Message: fmt.Sprintf("tunnel %q is of kind %s, which cannot be changed", name, was.Kind), Hint: `see "berth tunnel add --help"`,
		}
	}
	policy := a.current().Policy
	if file := policy.ShippedIn(name); file != "" {
		return spec, shippedError(name, file)
	}
	if err := policy.AllowsTunnel(spec); err != nil {
		return spec, configError(err)
	}
	// A front end knows the port that the tunnel has, also where it shares one.
	if spec.Port == 0 || spec.Port == ports.Of(a.current(), was) {
		spec.Port = was.Port
	}
	if spec.Cluster != was.Cluster || spec.Resource != was.Resource {
		var err error
		if spec, err = a.completed(ctx, spec); err != nil {
			return spec, err
		}
	}
	change := func() error {
		return config.Edit(a.opts.Paths.Config, func(d *config.Document) error { return changeTunnel(d, name, was, spec) })
	}
	err := error(nil)
	if spec.Name == name {
		err = change()
	} else if err = a.mustNotHave(spec.Name); err == nil {
		err = a.tunnels.Rename(name, spec.Name, change)
	}
	if err != nil {
		return spec, changeError(err, spec.Name != name)
	}
	return spec, a.ReloadConfig(ctx)
}

// changeError words a change of a tunnel that the config cannot have.
func changeError(err error, renamed bool) error {
	worded := configError(err)
	rpc, ok := errors.AsType[*ipc.Error](worded)
	_, invalid := errors.AsType[*config.InvalidTunnelError](err)
	switch {
	case !ok:
	case errors.Is(err, config.ErrPortTaken):
		rpc.Hint = `choose another port, or see "berth tunnel ls"`
	case invalid && renamed:
		rpc.Hint = `see "berth tunnel rename --help"`
	case invalid:
		rpc.Hint = `see "berth tunnel set --help"`
	}
	return worded
}

// changeTunnel writes spec in the place of a tunnel. A derived port that would
// stay the same is not written into a file that has none.
func changeTunnel(d *config.Document, name string, was, spec state.TunnelSpec) error {
	file, _ := d.Config().Tunnel(name)
	derived := file.Port == 0 && spec.Port == was.Port && spec.Cluster == was.Cluster && spec.Resource == was.Resource
	if derived {
		spec.Port = 0
	}
	return d.ChangeTunnel(name, spec)
}

// mustNotHave refuses the name of a tunnel there is.
func (a *Agent) mustNotHave(name string) error {
	if _, ok := a.current().Tunnel(name); ok {
		return fmt.Errorf("tunnel %q: %w", name, config.ErrTunnelExists)
	}
	return nil
}

// shippedError refuses a change of a tunnel that the policy ships.
func shippedError(name, file string) error {
	return &ipc.Error{
		Code: ipc.CodeDenied, Message: fmt.Sprintf("the tunnel %q is from %s, which only an administrator changes", name, file),
		Hint: "berth tunnel stop " + name,
	}
}

// RemoveTunnel takes a tunnel out of the config and stops it.
func (a *Agent) RemoveTunnel(ctx context.Context, name string) error {
	if _, ok := a.current().Tunnel(name); !ok {
		return ipc.UnknownTunnel(name)
	}
	if file := a.current().Policy.ShippedIn(name); file != "" {
		return shippedError(name, file)
	}
	if err := config.RemoveTunnel(a.opts.Paths.Config, name); err != nil {
		return configError(err)
	}
	return a.ReloadConfig(ctx)
}

// StopTunnel stops a tunnel and frees its port until StartTunnel, over restarts
// of the agent too.
func (a *Agent) StopTunnel(ctx context.Context, name string) error {
	return a.forTunnel(ctx, name, a.tunnels.Stop)
}

// StartTunnel starts a tunnel the user stopped; on a running one it does nothing.
func (a *Agent) StartTunnel(ctx context.Context, name string) error {
	return a.forTunnel(ctx, name, a.tunnels.Resume)
}

// RestartTunnel closes a tunnel's connections and fetches a new cert; the port
// stays bound. A stopped tunnel is started.
func (a *Agent) RestartTunnel(ctx context.Context, name string) error {
	return a.forTunnel(ctx, name, a.tunnels.Restart)
}

// forTunnel does something with a tunnel of the config, and publishes the result.
func (a *Agent) forTunnel(ctx context.Context, name string, do func(context.Context, string) error) error {
	if err := a.mustHave(name); err != nil {
		return err
	}
	if err := do(ctx, name); err != nil {
		return err
	}
	a.publish()
	return nil
}

// TunnelPlot returns how a tunnel was used in the last hour, the oldest point first.
func (a *Agent) TunnelPlot(_ context.Context, name string) ([]state.PlotPoint, error) {
	if err := a.mustHave(name); err != nil {
		return nil, err
	}
	return a.tunnels.Plot(name), nil
}

// ChangeSetting writes one setting to the config file, and has it take effect.
func (a *Agent) ChangeSetting(ctx context.Context, c ipc.SettingChange) error {
	change := func(d *config.Document) error { return d.ChangeSetting(c.Key, c.Proxy, c.Value) }
	if err := config.Edit(a.opts.Paths.Config, change); err != nil {
		return configError(err)
	}
	return a.ReloadConfig(ctx)
}

// TunnelHistory returns what happened to a tunnel lately, the oldest first.
func (a *Agent) TunnelHistory(_ context.Context, name string) ([]state.Event, error) {
	if err := a.mustHave(name); err != nil {
		return nil, err
	}
	return a.tunnels.History(name), nil
}

// CheckTunnels tries the ways of the tunnels with these names, or of all that are not
// stopped.
func (a *Agent) CheckTunnels(ctx context.Context, names []string) ([]state.Readiness, error) {
	for _, name := range names {
		if err := a.mustHave(name); err != nil {
			return nil, err
		}
	}
	return a.tunnels.Check(ctx, 0, names...), nil
}

func (a *Agent) mustHave(name string) error {
	if _, ok := a.current().Tunnel(name); ok {
		return nil
	}
	return ipc.UnknownTunnel(name, a.current().TunnelNames()...)
}

// ReloadConfig reads the config file now and applies it, instead of waiting
// for the file watcher to notice.
func (a *Agent) ReloadConfig(ctx context.Context) error {
	loaded := a.config.Reload()
	a.applyConfig()
	a.kube.Settled(ctx)
	a.publish()
	if loaded.Err != nil {
		return configError(loaded.Err)
	}
	return nil
}

// Shutdown asks the agent to drain and exit.
func (a *Agent) Shutdown() { a.stop() }

// HandOver starts a successor and returns when that serves. Env is put over this
// process's environment. An error means that nothing has changed.
func (a *Agent) HandOver(ctx context.Context, program string, env []string) (ipc.Successor, error) {
	return a.next.ask(ctx, program, env)
}

// LocalCA returns the certificate of the local CA.
func (a *Agent) LocalCA(ctx context.Context) (ipc.LocalCA, error) {
	ca, err := a.kube.CACert(ctx)
	if err != nil {
		return ipc.LocalCA{}, &ipc.Error{
			Code: ipc.CodeFailed, Message: fmt.Sprintf("there is no local CA: %v", err), Hint: "berth doctor",
		}
	}
	return ipc.LocalCA{Path: ca.Path, PEM: ca.PEM, ValidUntil: ca.ValidUntil}, nil
}

// KubeCredentials returns a credential for a Kubernetes cluster, from memory
// whenever there is a valid one. It waits for no login and starts none: who
// asks is a program in a pipe.
func (a *Agent) KubeCredentials(ctx context.Context, clusterName, kubeCluster string) (ipc.KubeCredentials, error) {
	var none ipc.KubeCredentials
	if clusterName == "" {
		name, err := a.defaultCluster()
		if err != nil {
			return none, err
		}
		clusterName = name
	}
	now := time.Now()
	f := a.sessions.Discover(ctx, clusterName, "", now)
	switch {
	case f.Profile == nil && len(a.sessions.ValidClusters(now)) == 0:
		return none, a.loginNeeded(clusterName)
	case f.Profile == nil:
		return none, a.tunnels.Word(sessions.ErrNoProfile, clusterName)
	case !f.Valid(now):
		return none, a.tunnels.Word(sessions.ErrLoginNeeded, clusterName)
	}
	cert, why, err := a.tunnels.KubeCert(ctx, f, clusterName, kubeCluster)
	switch {
	case err != nil:
		return none, a.tunnels.Word(err, clusterName)
	case why != "":
		return none, &ipc.Error{
			Code: ipc.CodeUnsupported, Message: fmt.Sprintf("berth cannot give out a credential for %s: %s", kubeCluster, why),
			Hint: fmt.Sprintf("use a tunnel: berth tunnel add kube NAME --resource %s --cluster %s", kubeCluster, clusterName),
		}
	}
	return credentialsOf(f, cert)
}

// credentialsOf puts a cert into the form that other programs read.
func credentialsOf(f sessions.Session, cert *cluster.Cert) (ipc.KubeCredentials, error) {
	serverName, err := tunnel.KubeServerName(f.Profile.ProxyAddr)
	if err != nil {
		return ipc.KubeCredentials{}, fmt.Errorf("profile %s: proxy address: %w", f.Profile.Name, err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(cert.TLS.PrivateKey)
	if err != nil {
		return ipc.KubeCredentials{}, fmt.Errorf("encode key: %w", err)
	}
	k := ipc.KubeCredentials{
		Key:        pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}),
		ValidUntil: cert.ValidUntil(), Server: "https://" + f.Profile.ProxyAddr,
		ServerName: serverName,
	}
	for _, der := range cert.TLS.Certificate {
		k.Cert = append(k.Cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	for _, ca := range f.Profile.Session.CAs[f.Cluster.Root()] {
		k.CA = append(k.CA, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Raw})...)
	}
	return k, nil
}

// Snapshot returns what was published last. It must not be changed.
func (a *Agent) Snapshot() *state.Snapshot { return a.pub.hub.cur.Load() }

// Subscribe returns a channel that receives after each newer snapshot, and the
// function that ends the subscription.
func (a *Agent) Subscribe() (<-chan struct{}, func()) {
	ch, cancel := a.pub.hub.followers.Subscribe()
	a.touch() // the loop may be in its idle sleep; watchers want counters
	a.pub.hurry.Wake()
	return ch, cancel
}

// DismissNotice takes a notice off the screen for good.
func (a *Agent) DismissNotice(_ context.Context, id string) error {
	a.pub.mu.Lock()
	known := a.pub.tracker != nil && a.pub.tracker.Dismiss(id)
	a.pub.mu.Unlock()
	if !known {
		return &ipc.Error{Code: ipc.CodeNotFound, Message: fmt.Sprintf("there is no longer a notice %q", id)}
	}
	a.publish()
	return nil
}

func (a *Agent) loginNeeded(clusterName string) error {
	mem, _ := a.memory.ProfileOf(clusterName)
	return &ipc.Error{Code: ipc.CodeLoginNeeded, Message: "no valid Teleport session", Hint: sessions.LoginCommand(mem.Proxy, mem.User)}
}

// configError words a config that cannot be used or edited.
func configError(err error) error {
	var bad *config.Error
	var tunnel *config.InvalidTunnelError
	var refused *config.RefusedError
	var policy *config.PolicyError
	var setting *config.InvalidSettingError
	switch {
	case errors.As(err, &setting):
		return &ipc.Error{Code: ipc.CodeInvalid, Message: setting.Error()}
	case errors.As(err, &policy):
		return &ipc.Error{Code: ipc.CodeDenied, Message: policy.Error(), Hint: policy.NextStep()}
	case errors.As(err, &bad):
		return &ipc.Error{Code: ipc.CodeInvalid, Message: bad.Summary(), Hint: `see "berth config check"`}
	case errors.Is(err, config.ErrTunnelExists):
		return &ipc.Error{Code: ipc.CodeExists, Message: err.Error(), Hint: `choose another name, or see "berth tunnel ls"`}
	case errors.Is(err, config.ErrPortTaken):
		return &ipc.Error{Code: ipc.CodeExists, Message: err.Error(), Hint: "leave --port out, and berth finds a free one"}
	case errors.As(err, &tunnel):
		return &ipc.Error{Code: ipc.CodeInvalid, Message: tunnel.Error(), Hint: `see "berth tunnel add --help"`}
	case errors.As(err, &refused):
		return &ipc.Error{Code: ipc.CodeFailed, Message: refused.Path + " is written in a way that berth does not edit", Hint: refused.Edit}
	default:
		return err
	}
}
