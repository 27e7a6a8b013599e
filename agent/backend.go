package agent

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"berth/agent/config"
	"berth/agent/ipc"
	"berth/agent/sessions"
	"berth/agent/state"
	"berth/proxies"
	"berth/proxies/db"
)

// The methods below are the backend of the control socket: what the commands
// of the CLI, and later the tray, ask for.

var _ ipc.Backend = (*Agent)(nil)

// ListResources asks the clusters what they offer this user. Without a cluster
// it asks the selected cluster of every valid profile.
func (a *Agent) ListResources(ctx context.Context, q ipc.ResourceQuery) ([]ipc.Resource, error) {
	if q.Kind != "" && q.Kind != state.KindDB && q.Kind != state.KindKube {
		return nil, &ipc.Error{Code: ipc.CodeInvalid, Message: fmt.Sprintf("unknown kind of resource %q", q.Kind), Hint: `use "db" or "kube"`}
	}
	now := time.Now()
	names := []string{q.Cluster}
	if q.Cluster == "" {
		names = a.sessions.ValidClusters(now)
		if len(names) == 0 {
			return nil, a.loginNeeded("")
		}
	}
	resources := []ipc.Resource{}
	for _, name := range names {
		if q.Kind != state.KindKube {
			list, err := a.databases(ctx, name, now)
			if err != nil {
				return nil, a.toIPC(err, name)
			}
			resources = append(resources, list...)
		}
		if q.Kind != state.KindDB {
			list, err := a.kubeClusters(ctx, name, now)
			if err != nil {
				return nil, a.toIPC(err, name)
			}
			resources = append(resources, list...)
		}
	}
	return resources, nil
}

func (a *Agent) databases(ctx context.Context, clusterName string, now time.Time) ([]ipc.Resource, error) {
	f := a.sessions.Discover(ctx, clusterName, now)
	if f.Profile == nil {
		return nil, sessions.ErrNoProfile
	}
	if !f.Valid(now) || f.Cluster == nil {
		return nil, sessions.ErrLoginNeeded
	}
	dbs, err := f.Cluster.Databases(ctx, clusterName)
	if err != nil {
		return nil, err
	}
	id := f.Profile.Session.Identity
	list := make([]ipc.Resource, 0, len(dbs))
	for _, d := range dbs {
		list = append(list, ipc.Resource{
			Name: d.Name, Kind: state.KindDB, Protocol: d.Protocol, Description: d.Description, Labels: d.Labels,
			Cluster: clusterName, Tunnel: a.tunnelTo(state.KindDB, clusterName, d.Name),
			DBUsers: id.DBUsers, DBNames: id.DBNames,
		})
	}
	return list, nil
}

// tunnelTo returns the name of a tunnel that leads to the resource.
func (a *Agent) tunnelTo(kind state.Kind, clusterName, resource string) string {
	for _, t := range a.current().Tunnels {
		if t.Kind == kind && t.Cluster == clusterName && t.Resource == resource {
			return t.Name
		}
	}
	return ""
}

// AddTunnel writes a tunnel to the config, with a port that stays, and starts
// it. While logged in, a resource the cluster does not list is refused; while
// logged out it is taken on trust.
func (a *Agent) AddTunnel(ctx context.Context, spec state.TunnelSpec) (state.TunnelSpec, error) {
	if spec.Cluster == "" {
		name, err := a.defaultCluster()
		if err != nil {
			return state.TunnelSpec{}, err
		}
		spec.Cluster = name
	}
	if err := a.checkResource(ctx, spec); err != nil {
		return state.TunnelSpec{}, err
	}
	// The port is chosen under the file's lock: two commands at once must not
	// choose the same.
	err := config.Edit(a.opts.Paths.Config, func(d *config.Document) error {
		if spec.Port == 0 && spec.Kind != state.KindKube {
			spec.Port = derivePort(d.Config(), spec, proxies.PortBusy)
		}
		if err := d.AddTunnel(spec); err != nil {
			return err
		}
		return writeKubePort(d, spec, proxies.PortBusy)
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

func (a *Agent) checkResource(ctx context.Context, spec state.TunnelSpec) error {
	now := time.Now()
	f := a.sessions.Discover(ctx, spec.Cluster, now)
	if !f.Valid(now) || f.Cluster == nil {
		return a.checkUnknownCluster(spec, f, now)
	}
	if spec.Kind == state.KindKube {
		if _, err := f.Cluster.KubeCluster(ctx, spec.Cluster, spec.Resource); err != nil {
			return a.toIPC(err, spec.Cluster)
		}
		return nil
	}
	d, err := f.Cluster.Database(ctx, spec.Cluster, spec.Resource)
	if err != nil {
		return a.toIPC(err, spec.Cluster)
	}
	proto, ok := db.Lookup(d.Protocol)
	if ok && proto.NeedsDBUser && dbUser(proto, spec) == "" {
		return &ipc.Error{
			Code:    ipc.CodeInvalid,
			Message: fmt.Sprintf("%s takes the database user from the cert, so the tunnel must name one", d.Protocol),
			Hint:    "add --db-user" + allowedUsers(f.Profile.Session.Identity.DBUsers),
		}
	}
	return nil
}

// checkUnknownCluster refuses a cluster nobody knows while somebody could: a
// misspelt name should not end up in the config. With no valid session at all
// the name is taken on trust.
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

// derivePort derives a tunnel's port, passing over those of the config's
// tunnels and those for which busy is true.
func derivePort(cfg *config.Config, spec state.TunnelSpec, busy func(port int) bool) int {
	used := map[int]bool{sharedKubePort(cfg): true}
	for _, t := range cfg.Tunnels {
		used[t.Port] = true
	}
	return proxies.DerivePort(spec.Cluster, string(spec.Kind), spec.Resource, func(port int) bool {
		return used[port] || busy(port)
	})
}

// withPorts returns the config with a port for every tunnel. One that a person
// wrote without a port gets the derived one, whether it is free right now or
// not: the same file gives the same addresses on every machine.
func withPorts(cfg *config.Config) *config.Config {
	full := *cfg
	full.Tunnels = slices.Clone(cfg.Tunnels)
	for i, t := range full.Tunnels {
		if t.Port == 0 && t.Kind != state.KindKube { // those share one
			full.Tunnels[i].Port = derivePort(&full, t, func(int) bool { return false })
		}
	}
	return &full
}

// RemoveTunnel takes a tunnel out of the config and stops it.
func (a *Agent) RemoveTunnel(ctx context.Context, name string) error {
	if err := a.mustHave(name); err != nil {
		return err
	}
	if err := config.RemoveTunnel(a.opts.Paths.Config, name); err != nil {
		return configError(err)
	}
	return a.ReloadConfig(ctx)
}

// StopTunnel stops a tunnel and frees its port until StartTunnel, over
// restarts of the agent too.
func (a *Agent) StopTunnel(_ context.Context, name string) error {
	if err := a.mustHave(name); err != nil {
		return err
	}
	if err := a.saved.SetStopped(name, true); err != nil {
		return err
	}
	a.mu.Lock()
	if r := a.tunnels[name]; r != nil {
		a.dropLocked(r)
	}
	a.mu.Unlock()
	a.histories.of(name).note(time.Now(), state.EventConfig, "stopped on request")
	a.log.Info("tunnel stopped", "tunnel", name)
	a.publish()
	return nil
}

// StartTunnel starts a tunnel the user stopped; on one that runs it does
// nothing.
func (a *Agent) StartTunnel(_ context.Context, name string) error {
	if err := a.mustHave(name); err != nil {
		return err
	}
	if err := a.saved.SetStopped(name, false); err != nil {
		return err
	}
	a.mu.Lock()
	if r := a.tunnels[name]; r != nil && r.t == nil {
		a.addLocked(a.ctx, r.spec).start()
	}
	a.mu.Unlock()
	a.histories.of(name).note(time.Now(), state.EventConfig, "started on request")
	a.log.Info("tunnel started", "tunnel", name)
	a.publish()
	return nil
}

// RestartTunnel closes a tunnel's connections and fetches a new cert; the port
// stays bound. A stopped tunnel is started.
func (a *Agent) RestartTunnel(ctx context.Context, name string) error {
	if err := a.mustHave(name); err != nil {
		return err
	}
	a.mu.Lock()
	r := a.tunnels[name]
	a.mu.Unlock()
	if r == nil || r.t == nil {
		return a.StartTunnel(ctx, name)
	}
	a.histories.of(name).note(time.Now(), state.EventConfig, "restarted on request")
	r.t.restart()
	a.publish()
	return nil
}

// TunnelHistory returns what happened to a tunnel lately, the oldest first.
func (a *Agent) TunnelHistory(_ context.Context, name string) ([]state.Event, error) {
	if err := a.mustHave(name); err != nil {
		return nil, err
	}
	a.publish() // so that the newest state is in it
	return a.histories.of(name).list(time.Now()), nil
}

func (a *Agent) mustHave(name string) error {
	if _, ok := a.current().Tunnel(name); ok {
		return nil
	}
	return &ipc.Error{Code: ipc.CodeNotFound, Message: fmt.Sprintf("there is no tunnel %q", name), Hint: `see "berth tunnel ls"`}
}

// ReloadConfig reads the config file now and applies it, instead of waiting
// for the file watcher to notice.
func (a *Agent) ReloadConfig(ctx context.Context) error {
	loaded := a.config.Reload()
	a.applyConfig(a.ctx)
	a.kube.files.settled(ctx)
	a.publish()
	if loaded.Err != nil {
		return configError(loaded.Err)
	}
	return nil
}

// Shutdown asks the agent to drain and exit.
func (a *Agent) Shutdown() { a.stop() }
