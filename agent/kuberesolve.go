package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/gravitational/teleport/api/constants"

	"berth/agent/cluster"
	"berth/agent/sessions"
	"berth/agent/state"
	"berth/proxies/kube"
	"berth/proxies/route"
)

// resolveKube finds the way to a Kubernetes cluster.
func (r *resolver) resolveKube(ctx context.Context, t *tunnel, res resolution, f sessions.Session, set proxySettings) resolution {
	engine, why, err := r.planKube(ctx, t.spec, f)
	res.engine, res.engineReason = engine, why
	if err != nil {
		return r.suggestRequest(ctx, t, r.failed(t, res, err), f)
	}
	if engine == state.EngineTSH {
		return r.kubeViaTSH(ctx, t, res, f, set)
	}
	r.children.stop(t.spec.Name)
	kubeRoute := cluster.KubeRoute{Cluster: t.spec.Cluster, KubeCluster: t.spec.Resource, Requests: r.grants(t.spec.Name)}
	cert, err := f.Cluster.KubeCert(ctx, kubeRoute)
	if err != nil && kubeRoute.Requests != "" && r.grantRefused(t.spec.Name, err) {
		kubeRoute.Requests = r.grants(t.spec.Name)
		cert, err = f.Cluster.KubeCert(ctx, kubeRoute)
	}
	if err != nil && cert == nil {
		return r.suggestRequest(ctx, t, r.failed(t, res, err), f)
	}
	// The proxy shows a cert of the root cluster's CA, whichever cluster the
	// tunnel leads to.
	cas, err := f.Cluster.ClusterCAs(ctx, f.Cluster.Root())
	if err != nil {
		return r.failed(t, res, err)
	}
	serverName, err := kubeServerName(f.Profile.ProxyAddr)
	if err != nil {
		return r.failed(t, res, fmt.Errorf("profile %s: proxy address: %w", f.Profile.Name, err))
	}
	to := route.Route{
		ProxyAddr: f.Profile.ProxyAddr, ServerName: serverName,
		Cert: cert.TLS, ClusterCert: true, ClusterCAs: cas, RootCAs: set.rootCAs,
		ConnUpgrade: f.Cluster.ConnUpgradeRequired(),
	}
	res.state, res.err = state.TunnelReady, nil
	dialer := route.Dialer{Route: to, UpgradeNeeded: f.Cluster.RequireConnUpgrade}
	res.cred = t.kubeCredential(cert.TLS, dialer.DialHTTP, cert.ValidUntil())
	res.next = earlier(cert.RefreshAt, cert.ValidUntil())
	return res
}

// kubeServerName is the name by which a proxy is asked for Kubernetes, and for
// which it shows a cert of the cluster. One that is known by its IP address has
// no name of its own in that cert.
func kubeServerName(proxyAddr string) (string, error) {
	host, _, err := net.SplitHostPort(proxyAddr)
	if err != nil {
		return "", err
	}
	if net.ParseIP(host) != nil {
		host = constants.APIDomain
	}
	return constants.KubeTeleportProxyALPNPrefix + host, nil
}

// kubeViaTSH has a supervised "tsh proxy kube" carry the tunnel.
func (r *resolver) kubeViaTSH(ctx context.Context, t *tunnel, res resolution, f sessions.Session, set proxySettings) resolution {
	child, until, err := r.childFor(ctx, t, f, set)
	if err != nil {
		return r.failed(t, res, err)
	}
	res.state, res.problem = child.state(t.spec)
	res.cred = t.kubeCredential(child.identity(), child.proc.Dial, until)
	res.next = until
	return res
}

// kubeCredential returns the credential that goes with identity: the one there
// is while that stays the same, since a new one means new connections.
func (t *tunnel) kubeCredential(identity any, dial kube.Dialer, validUntil time.Time) *credential {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.cur != nil && t.cur.identity == identity {
		return t.cur
	}
	validUntil = validUntil.Round(0)
	return &credential{identity: identity, kube: &kube.Upstream{Dial: dial, ValidUntil: validUntil}, validUntil: validUntil}
}

// planKube decides the engine, and says why.
func (r *resolver) planKube(ctx context.Context, spec state.TunnelSpec, f sessions.Session) (state.Engine, string, error) {
	why, err := r.kubeNeedsTSH(ctx, spec, f)
	if err != nil {
		return state.EngineNative, "", err
	}
	switch {
	case spec.Engine == state.EngineTSH:
		return state.EngineTSH, "engine: tsh in the config", nil
	case why == "" && spec.Engine == state.EngineNative:
		return state.EngineNative, "engine: native in the config", nil
	case why == "":
		return state.EngineNative, "native carries Kubernetes", nil
	case spec.Engine == state.EngineNative:
		return state.EngineNative, "", &engineError{want: "native", why: why}
	default:
		return state.EngineTSH, why, nil
	}
}

// kubeNeedsTSH returns why native cannot carry the tunnel; empty means it can.
func (r *resolver) kubeNeedsTSH(ctx context.Context, spec state.TunnelSpec, f sessions.Session) (string, error) {
	switch {
	case f.Cluster == nil:
		return "the session's key is a hardware key", nil
	case hardwareKeyPolicy(f.Profile):
		return "the cluster demands hardware keys (" + f.Profile.PrivateKeyPolicy + ")", nil
	case !f.Profile.TLSRoutingEnabled:
		return "the cluster does not use TLS routing", nil
	}
	_, err := f.Cluster.KubeCluster(ctx, spec.Cluster, spec.Resource)
	if _, unknown := errors.AsType[*cluster.UnknownKubeError](err); unknown && r.grants(spec.Name) != "" {
		// The session does not see it, but the tunnel may.
		err = f.Cluster.As(ctx, r.saved.Grants(spec.Name), func(c *cluster.Cluster) error {
			_, err := c.KubeCluster(ctx, spec.Cluster, spec.Resource)
			return err
		})
	}
	if err != nil {
		return "", err
	}
	mfa, err := f.Cluster.KubeMFARequired(ctx, cluster.KubeRoute{Cluster: spec.Cluster, KubeCluster: spec.Resource})
	if err != nil {
		return "", err
	}
	if mfa {
		return "the cluster asks for MFA per session", nil
	}
	return "", nil
}
