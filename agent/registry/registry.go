// Package registry is the tunnels of the config and what they could be: it lists what
// the clusters offer, adds, changes and removes tunnels in the file, does with one
// of them what a person asks by its name, and gives out credentials for what needs no
// tunnel.
package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"berth/agent/config"
	"berth/agent/ipc"
	"berth/agent/memory"
	"berth/agent/ports"
	"berth/agent/sessions"
	"berth/agent/state"
	"berth/agent/tunnel"
	"berth/internal/plain"
	"berth/proxies"
)

// Config is what a registry works with. All of it is needed.
type Config struct {
	File     string                      // the user's config file
	LastGood string                      // the copy of what it said last
	Current  func() *config.Config       // what is in force
	Reload   func(context.Context) error // reads the file now and applies it
	Sessions *sessions.Sessions
	Memory   *memory.Store
	Tunnels  *tunnel.Set
	Publish  func()
}

// Registry answers at the control socket what commands and front ends ask about
// tunnels. Its errors are worded for them.
type Registry struct{ cfg Config }

// New returns a registry.
func New(cfg Config) *Registry { return &Registry{cfg: cfg} }

// ListResources asks the clusters what they offer this user. Without a cluster
// it asks every cluster, leaves too, that a valid session leads to; those that
// cannot be asked are named.
func (r *Registry) ListResources(ctx context.Context, q ipc.ResourceQuery) (list []ipc.Resource, unasked []string, err error) {
	if q.Kind != "" && !q.Kind.Known() {
		return nil, nil, &ipc.Error{
			Code: ipc.CodeInvalid, Message: fmt.Sprintf("unknown kind of resource %q", q.Kind), Hint: `see "berth resources --help"`,
		}
	}
	now := time.Now()
	names := []string{q.Cluster}
	if q.Cluster == "" {
		if names = r.cfg.Sessions.Clusters(ctx, now); len(names) == 0 {
			return nil, nil, r.LoginNeeded("")
		}
	}
	resources := []ipc.Resource{}
	var failed []error
	for _, name := range names {
		offered, err := r.offered(ctx, q.Kind, name, now)
		if err != nil {
			failed = append(failed, r.cfg.Tunnels.Word(err, name))
			continue
		}
		resources = append(resources, offered...)
	}
	if len(failed) == len(names) {
		return nil, nil, failed[0]
	}
	for _, err := range failed {
		if why := err.Error(); !slices.Contains(unasked, why) { // a proxy that is away keeps its leaves away
			unasked = append(unasked, why)
		}
	}
	return resources, unasked, nil
}

// offered returns what a cluster offers of a kind, or of every kind.
func (r *Registry) offered(ctx context.Context, kind state.Kind, clusterName string, now time.Time) (all []ipc.Resource, err error) {
	for _, info := range state.Kinds {
		if kind != "" && kind != info.Kind {
			continue
		}
		list, err := r.resources(ctx, info.Kind, clusterName, now)
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
	}
	return all, nil
}

func (r *Registry) resources(ctx context.Context, kind state.Kind, clusterName string, now time.Time) ([]ipc.Resource, error) {
	f := r.cfg.Sessions.Discover(ctx, clusterName, "", now)
	if f.Profile == nil {
		return nil, sessions.ErrNoProfile
	}
	if !f.Valid(now) {
		return nil, sessions.ErrLoginNeeded
	}
	if f.Cluster == nil {
		return nil, &ipc.Error{
			Code: ipc.CodeUnsupported, Message: "only tsh can use the session's key, so berth cannot list " + clusterName,
			Hint: `"tsh db ls" and "tsh kube ls" can; then: berth tunnel add --help`,
		}
	}
	list, err := tunnel.List(ctx, kind, f, clusterName)
	for i := range list {
		list[i].Tunnel = r.cfg.Tunnels.TunnelTo(list[i])
	}
	return list, err
}

// AddTunnel writes a tunnel to the config, with a port that stays, and starts
// it. While logged in, a resource the cluster does not list is refused, and the
// only database user whom one may be is taken; while logged out it is taken on
// trust.
func (r *Registry) AddTunnel(ctx context.Context, spec state.TunnelSpec) (state.TunnelSpec, error) {
	spec.Name = plain.NFC(spec.Name)
	if spec.Cluster == "" {
		name, err := r.DefaultCluster()
		if err != nil {
			return state.TunnelSpec{}, err
		}
		spec.Cluster = name
	}
	spec, err := r.completed(ctx, spec)
	if err != nil {
		return state.TunnelSpec{}, err
	}
	// The port is chosen under the file's lock: two commands at once must not
	// choose the same.
	policy := r.cfg.Current().Policy
	if err := policy.AllowsTunnel(spec); err != nil {
		return state.TunnelSpec{}, Word(err)
	}
	err = r.edit(func(d *config.Document) error {
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
		return state.TunnelSpec{}, Word(err)
	}
	if err := r.cfg.Reload(ctx); err != nil {
		return state.TunnelSpec{}, err
	}
	return spec, nil
}

// DefaultCluster is the cluster of the profile tsh would use.
func (r *Registry) DefaultCluster() (string, error) {
	f := r.cfg.Sessions.Current()
	switch {
	case f.Profile == nil && len(r.cfg.Sessions.All()) > 1:
		return "", &ipc.Error{Code: ipc.CodeInvalid, Message: "several profiles, and none is current", Hint: "name one with --cluster"}
	case f.Profile == nil:
		return "", r.LoginNeeded("")
	default:
		return f.Profile.Cluster, nil
	}
}

// completed returns a new tunnel with what it lacks, or why it cannot work.
func (r *Registry) completed(ctx context.Context, spec state.TunnelSpec) (state.TunnelSpec, error) {
	now := time.Now()
	f := r.cfg.Sessions.Discover(ctx, spec.Cluster, spec.User, now)
	if !f.Valid(now) || f.Cluster == nil {
		return spec, r.checkUnknownCluster(spec, f, now)
	}
	spec, err := tunnel.Complete(ctx, f, spec)
	if err != nil {
		return spec, r.cfg.Tunnels.Word(err, spec.Cluster)
	}
	return spec, nil
}

// checkUnknownCluster refuses a cluster that no valid session knows: a misspelt
// name should not end up in the config. Without any valid session the name is
// taken on trust.
func (r *Registry) checkUnknownCluster(spec state.TunnelSpec, f sessions.Session, now time.Time) error {
	known := r.cfg.Sessions.ValidClusters(now)
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
// spec has another; the port that its kind shares means none of its own. Under a new
// name it goes on with its history, stopped if it was stopped, with the roles that it
// alone has.
func (r *Registry) ChangeTunnel(ctx context.Context, name string, spec state.TunnelSpec) (state.TunnelSpec, error) {
	was, ok := r.cfg.Current().Tunnel(name)
	spec.Name = plain.NFC(spec.Name)
	switch {
	case !ok:
		return spec, ipc.UnknownTunnel(name, r.cfg.Current().TunnelNames()...)
	case spec.Kind != was.Kind:
		return spec, &ipc.Error{
			Code: ipc.CodeInvalid, Message: fmt.Sprintf("tunnel %q is of kind %s, which cannot be changed", name, was.Kind), Hint: `see "berth tunnel add --help"`,
		}
	}
	policy := r.cfg.Current().Policy
	if file := policy.ShippedIn(name); file != "" {
		return spec, shippedError(name, file, "for one of your own with other settings: berth tunnel add --help")
	}
	if err := policy.AllowsTunnel(spec); err != nil {
		return spec, Word(err)
	}
	// A front end knows the port that the tunnel has, also where it shares one.
	switch {
	case spec.Port == 0 || spec.Port == ports.Of(r.cfg.Current(), was):
		spec.Port = was.Port
	case spec.Kind.Info().SharesPort && spec.Port == ports.SharedKube(r.cfg.Current()):
		spec.Port = 0 // none of its own any longer
	}
	if spec.Cluster != was.Cluster || spec.Resource != was.Resource {
		var err error
		if spec, err = r.completed(ctx, spec); err != nil {
			return spec, err
		}
	} else if spec.DBName != was.DBName {
		if err := tunnel.CheckDBName(r.cfg.Memory.ProtocolOf(spec.Cluster, spec.Resource), spec.DBName); err != nil {
			return spec, err
		}
	}
	change := func() error {
		return r.edit(func(d *config.Document) error { return changeTunnel(d, name, was, spec) })
	}
	err := error(nil)
	if spec.Name == name {
		err = change()
	} else if err = r.mustNotHave(spec.Name); err == nil {
		err = r.cfg.Tunnels.Rename(name, spec.Name, change)
	}
	if err != nil {
		return spec, changeError(err, spec.Name != name)
	}
	return spec, r.cfg.Reload(ctx)
}

// changeError words a change of a tunnel that the config cannot have.
func changeError(err error, renamed bool) error {
	worded := Word(err)
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
func (r *Registry) mustNotHave(name string) error {
	if _, ok := r.cfg.Current().Tunnel(name); ok {
		return fmt.Errorf("tunnel %q: %w", name, config.ErrTunnelExists)
	}
	return nil
}

// shippedError refuses a change of a tunnel that the policy ships.
func shippedError(name, file, hint string) error {
	return &ipc.Error{
		Code: ipc.CodeDenied, Message: fmt.Sprintf("the tunnel %q is from %s, which only an administrator changes", name, file),
		Hint: hint,
	}
}

// RemoveTunnel takes a tunnel out of the config and stops it.
func (r *Registry) RemoveTunnel(ctx context.Context, name string) error {
	if _, ok := r.cfg.Current().Tunnel(name); !ok {
		return ipc.UnknownTunnel(name)
	}
	if file := r.cfg.Current().Policy.ShippedIn(name); file != "" {
		return shippedError(name, file, "berth tunnel stop "+name)
	}
	if err := r.edit(func(d *config.Document) error { return d.RemoveTunnel(name) }); err != nil {
		return Word(err)
	}
	return r.cfg.Reload(ctx)
}

// StopTunnel stops a tunnel and frees its port until StartTunnel, over restarts
// of the agent too.
func (r *Registry) StopTunnel(ctx context.Context, name string) error {
	return r.forTunnel(ctx, name, r.cfg.Tunnels.Stop)
}

// StartTunnel starts a tunnel the user stopped; on a running one it does nothing.
func (r *Registry) StartTunnel(ctx context.Context, name string) error {
	return r.forTunnel(ctx, name, r.cfg.Tunnels.Resume)
}

// RestartTunnel closes a tunnel's connections and fetches a new cert; the port
// stays bound. A stopped tunnel is started.
func (r *Registry) RestartTunnel(ctx context.Context, name string) error {
	return r.forTunnel(ctx, name, r.cfg.Tunnels.Restart)
}

// forTunnel does something with a tunnel of the config, and publishes the result.
func (r *Registry) forTunnel(ctx context.Context, name string, do func(context.Context, string) error) error {
	if err := r.mustHave(name); err != nil {
		return err
	}
	err := do(ctx, name)
	r.cfg.Publish() // what could not be saved is done
	return err
}

// TunnelPlot returns how a tunnel was used in the last hour, the oldest point first.
func (r *Registry) TunnelPlot(_ context.Context, name string) ([]state.PlotPoint, error) {
	if err := r.mustHave(name); err != nil {
		return nil, err
	}
	return r.cfg.Tunnels.Plot(name), nil
}

// TunnelClients returns the programs that are connected to tunnels.
func (r *Registry) TunnelClients(ctx context.Context) ([]state.TunnelClient, error) {
	return r.cfg.Tunnels.Clients(ctx)
}

// ChangeSetting writes one setting to the config file, and has it take effect.
func (r *Registry) ChangeSetting(ctx context.Context, c ipc.SettingChange) error {
	change := func(d *config.Document) error { return d.ChangeSetting(c.Key, c.Proxy, c.Value) }
	if err := r.edit(change); err != nil {
		return Word(err)
	}
	return r.cfg.Reload(ctx)
}

// edit changes the config file. One that is gone or was emptied is not made anew while
// what it said is in force: it would say nothing of the other tunnels.
func (r *Registry) edit(change func(*config.Document) error) error {
	return config.Edit(r.cfg.File, func(d *config.Document) error {
		inForce := r.cfg.Current()
		own := func(t state.TunnelSpec) bool { return inForce.Policy.ShippedIn(t.Name) == "" }
		if err := config.CheckLost(r.cfg.File, r.cfg.LastGood); err != nil && slices.ContainsFunc(inForce.Tunnels, own) {
			return err
		}
		return change(d)
	})
}

// TunnelHistory returns what happened to a tunnel lately, the oldest first.
func (r *Registry) TunnelHistory(_ context.Context, name string) ([]state.Event, error) {
	if err := r.mustHave(name); err != nil {
		return nil, err
	}
	return r.cfg.Tunnels.History(name), nil
}

// CheckTunnels tries the ways of the tunnels with these names, or of all that are not
// stopped.
func (r *Registry) CheckTunnels(ctx context.Context, names []string) ([]state.Readiness, error) {
	for _, name := range names {
		if err := r.mustHave(name); err != nil {
			return nil, err
		}
	}
	return r.cfg.Tunnels.Check(ctx, 0, names...), nil
}

func (r *Registry) mustHave(name string) error {
	if _, ok := r.cfg.Current().Tunnel(name); ok {
		return nil
	}
	return ipc.UnknownTunnel(name, r.cfg.Current().TunnelNames()...)
}

// LoginNeeded says that there is no session for a cluster, and how to get one; an empty
// name means any cluster.
func (r *Registry) LoginNeeded(clusterName string) error {
	mem, _ := r.cfg.Memory.ProfileOf(clusterName)
	if known := r.cfg.Current().Profiles; mem.Proxy == "" && clusterName == "" && len(known) == 1 {
		mem.Proxy = known[0].Proxy // where "berth login" alone goes
	}
	if err := r.cfg.Current().Policy.AllowsProxy(mem.Proxy); err != nil && mem.Proxy != "" {
		return Word(err)
	}
	return &ipc.Error{Code: ipc.CodeLoginNeeded, Message: "no valid Teleport session", Hint: sessions.LoginCommand(mem.Proxy, mem.User)}
}

// Word words a config that cannot be used or edited.
func Word(err error) error {
	var bad *config.Error
	var tunnel *config.InvalidTunnelError
	var refused *config.RefusedError
	var policy *config.PolicyError
	var setting *config.InvalidSettingError
	var named *config.NamedByRuleError
	var lost *config.LostError
	switch {
	case errors.As(err, &lost):
		return &ipc.Error{Code: ipc.CodeFailed, Message: lost.Error(), Hint: lost.NextStep()}
	case errors.As(err, &named):
		return &ipc.Error{Code: ipc.CodeFailed, Message: named.Error(), Hint: named.NextStep()}
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
