package tunnel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"time"

	"github.com/gravitational/teleport/api/constants"

	"berth/agent/cluster"
	"berth/agent/config"
	"berth/agent/ipc"
	"berth/agent/ports"
	"berth/agent/sessions"
	"berth/agent/state"
	"berth/agent/tsh"
	"berth/internal/plain"
	"berth/proxies"
	"berth/proxies/db"
	"berth/proxies/kube"
	"berth/proxies/route"
)

// kubeKind is tunnels to Kubernetes.
type kubeKind struct{}

func (kubeKind) carrier(s *Set, t *tunnel) carrier {
	var shared *kube.Listener
	if ports.SharesKube(t.spec) {
		shared = s.cfg.Kube.Listener(s.ctx, ports.SharedKube(s.cfg.Config()))
	}
	return kube.New(kube.Config{
		Name:     t.spec.Name,
		Listener: shared,
		Own:      kube.ListenerConfig{Port: t.spec.Port, Sockets: s.cfg.Sockets, CA: s.cfg.Kube.CA, Limits: s.cfg.Limits},
		Limits:   s.cfg.Limits,
		Source:   t.kubeSource,
		Now:      t.kubeNow,
		Hold:     t.spec.HoldDuration(),
		Again:    t.again,
		As:       t.spec.As, AsGroups: t.spec.AsGroups,
		Grace:  s.cfg.Grace,
		Refuse: t.refuseKube,
		ForbiddenHint: fmt.Sprintf("Your roles let you be several users in Kubernetes: say which with kubectl --as, "+
			"or for good with as: in the config of tunnel %s (berth config edit)", t.spec.Name),
		LoginHint: "berth login",
		Logger:    s.cfg.Logger,
		OnChange:  t.onChange,
		OnEvent:   t.observe,
		Stranger:  db.NewStranger,
	})
}

func (kubeKind) target(spec state.TunnelSpec, dir string) tsh.Target {
	return tsh.KubeCluster{Name: spec.Resource, Kubeconfig: filepath.Join(dir, plain.ASCII(spec.Name)+".tsh")}
}

func (kubeKind) viaChild(t *tunnel, c *child, until time.Time) *credential {
	cred := t.kubeCredential(credential{identity: c.identity(), validUntil: until}, paced(proxies.NewPace(), t, c.proc.Dial), time.Time{})
	if cred.starting == nil { // it is a new one
		cred.starting = c.proc.Starting
	}
	return cred
}

func (kubeKind) try(ctx context.Context, cred *credential) (net.Conn, error) {
	return cred.kube.Dial(ctx, "http/1.1")
}

func (kubeKind) find(ctx context.Context, r *resolver, spec state.TunnelSpec, f sessions.Session) (way, error) {
	if f.Cluster == nil {
		return way{needsTSH: hardwareKey}, nil
	}
	w := way{carries: "Kubernetes", needsTSH: profileNeedsTSH(f.Profile)}
	if w.needsTSH != "" {
		return w, nil
	}
	_, err := f.Cluster.KubeCluster(ctx, spec.Cluster, spec.Resource)
	if _, unknown := errors.AsType[*cluster.UnknownKubeError](err); unknown {
		err = r.asGranted(ctx, spec.Name, f, err, func(c *cluster.Cluster) error {
			_, err := c.KubeCluster(ctx, spec.Cluster, spec.Resource)
			return err
		})
	}
	if err != nil {
		return w, err
	}
	to := cluster.KubeRoute{Cluster: spec.Cluster, KubeCluster: spec.Resource}
	mfa, err := f.Cluster.KubeMFARequired(ctx, to)
	if err != nil {
		return w, err
	}
	with := func(requests string) cluster.KubeRoute {
		to := to
		to.Requests = requests
		return to
	}
	w.mint = func(ctx context.Context, requests string) (*cluster.Cert, error) {
		return f.Cluster.KubeCert(ctx, with(requests))
	}
	if mfa {
		err := w.meetMFA(ctx, f, &codes{
			verified: func(requests string) (*cluster.Cert, error) { return f.Cluster.Verified(with(requests)) },
			verify: func(ctx context.Context, requests, code string) error {
				return f.Cluster.Verify(ctx, with(requests), code)
			},
		})
		if err != nil {
			return w, err
		}
	}
	w.dialled = func(ctx context.Context, t *tunnel, cert *cluster.Cert, set config.ProxyTrust) (*credential, error) {
		return dialKube(ctx, r, t, f, cert, set)
	}
	return w, nil
}

// dialKube makes of a cert the way to Kubernetes.
func dialKube(
	ctx context.Context, r *resolver, t *tunnel, f sessions.Session, cert *cluster.Cert, set config.ProxyTrust,
) (*credential, error) {
	// The proxy shows a cert of the root cluster's CA, whichever cluster the
	// tunnel leads to.
	cas, err := f.Cluster.ClusterCAs(ctx, f.Cluster.Root())
	if err != nil {
		return nil, err
	}
	serverName, err := KubeServerName(f.Profile.ProxyAddr)
	if err != nil {
		return nil, fmt.Errorf("profile %s: proxy address: %w", f.Profile.Name, err)
	}
	to := route.Route{
		ProxyAddr: f.Profile.ProxyAddr, ServerName: serverName,
		Cert: cert.TLS, ClusterCert: true, ClusterCAs: cas, RootCAs: set.RootCAs,
		ConnUpgrade: f.Cluster.ConnUpgradeRequired(),
	}
	dialer := route.Dialer{Route: to, UpgradeNeeded: f.Cluster.RequireConnUpgrade}
	dial := func(ctx context.Context, versions ...string) (net.Conn, error) {
		return f.Cluster.Watched(func(ctx context.Context) (net.Conn, error) { return dialer.DialHTTP(ctx, versions...) })(ctx)
	}
	cred := t.kubeCredential(credential{identity: cert.TLS, upgrade: to.ConnUpgrade, validUntil: cert.ValidUntil()},
		paced(r.paces.of(f.Profile.ProxyAddr), t, dial), f.Profile.Session.ValidFrom)
	if cred.probe == nil { // it is a new one
		cred.probe = probing(f.Cluster, route.Probe{ShowCert: true, HTTP: []string{"http/1.1"}}, to)
	}
	return cred, nil
}

// paced has the clients of a tunnel wait for their turn to dial.
func paced(pace *proxies.Pace, t *tunnel, dial kube.Dialer) kube.Dialer {
	return func(ctx context.Context, versions ...string) (net.Conn, error) {
		return t.timed(pace.Paced(t, func(ctx context.Context) (net.Conn, error) { return dial(ctx, versions...) }))(ctx)
	}
}

// KubeServerName is the name by which a proxy is asked for Kubernetes, and for
// which it shows a cert of the cluster. A proxy that is known by its IP address
// has no name of its own in that cert.
func KubeServerName(proxyAddr string) (string, error) {
	host, _, err := net.SplitHostPort(proxyAddr)
	if err != nil {
		return "", err
	}
	if net.ParseIP(host) != nil {
		host = constants.APIDomain
	}
	return constants.KubeTeleportProxyALPNPrefix + host, nil
}

func (kubeKind) list(ctx context.Context, f sessions.Session, clusterName string) ([]ipc.Resource, error) {
	kubes, err := f.Cluster.KubeClusters(ctx, clusterName)
	if err != nil {
		return nil, err
	}
	list := make([]ipc.Resource, 0, len(kubes))
	for _, k := range kubes {
		list = append(list, ipc.Resource{Name: k.Name, Kind: state.KindKube, Labels: k.Labels, Cluster: clusterName})
	}
	return list, nil
}

func (kubeKind) hungUp(p *state.Problem, err error, spec state.TunnelSpec, proxy string) {
	p.Title = "Kubernetes not reached"
	p.Text = fmt.Sprintf("%s was reached, but it did not lead tunnel %q to Kubernetes: %s.", proxy, spec.Name, cluster.Why(rootCause(err)))
	p.Action = "berth tunnel restart " + spec.Name
}

func (kubeKind) complete(ctx context.Context, f sessions.Session, spec state.TunnelSpec) (state.TunnelSpec, error) {
	_, err := f.Cluster.KubeCluster(ctx, spec.Cluster, spec.Resource)
	return spec, err
}
