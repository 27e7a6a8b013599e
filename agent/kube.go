package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"github.com/gravitational/teleport/api/constants"

	"berth/agent/cluster"
	"berth/agent/config"
	"berth/agent/state"
	"berth/proxies"
	"berth/proxies/kube"
	"berth/proxies/kube/kubeconfig"
)

// kubeHub is what the tunnels to Kubernetes share: the local CA, the listener
// and the kubeconfig.
type kubeHub struct {
	store  kube.KeyStore
	path   string // of the kubeconfig
	grace  time.Duration
	absent func(serverName string) kube.Refusal
	touch  func()
	log    *slog.Logger

	mu       sync.Mutex // guards everything below
	ca       *kube.LocalCA
	listener *kube.Listener // nil while no tunnel needs it
	port     int            // of the listener
	stop     context.CancelFunc
	problem  *state.Problem // with the kubeconfig
	running  sync.WaitGroup
}

func newKubeHub(stateDir string, grace time.Duration, absent func(string) kube.Refusal, touch func(), log *slog.Logger) *kubeHub {
	return &kubeHub{
		store: kube.FileStore(filepath.Join(stateDir, "kube-ca.pem")), path: kubeconfig.Path(stateDir),
		grace: grace, absent: absent, touch: touch, log: log,
	}
}

// localCA opens the local CA, once it can be.
func (h *kubeHub) localCA() (*kube.LocalCA, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ca == nil {
		ca, err := kube.OpenLocalCA(h.store)
		if err != nil {
			return nil, err
		}
		h.ca = ca
	}
	return h.ca, nil
}

// shared returns the listener that tunnels share, bound to the port if it is
// free. When the port has changed the former listener drains; its tunnels must
// have been stopped.
func (h *kubeHub) shared(ctx context.Context, port int) *kube.Listener {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.listener != nil && h.port == port {
		return h.listener
	}
	h.closeLocked()
	l := kube.NewListener(kube.ListenerConfig{
		Port: port, CA: h.localCA, Grace: h.grace, Absent: h.absent, Logger: h.log, OnChange: h.touch,
	})
	if err := l.Bind(); err != nil {
		h.log.Warn("port not bound, will retry", "local_port", port, "err", err)
	}
	ctx, h.stop = context.WithCancel(ctx)
	h.listener, h.port = l, port
	h.running.Go(func() {
		_ = l.Run(ctx) // it returns nil
	})
	return l
}

// closeLocked lets the listener go; its port is free when it returns.
func (h *kubeHub) closeLocked() {
	if h.listener == nil {
		return
	}
	h.stop()
	<-h.listener.Released()
	h.listener, h.stop = nil, nil
}

// close ends the listener, if no tunnel needs it.
func (h *kubeHub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closeLocked()
}

// writeConfig brings the kubeconfig in line with the tunnels. While there is
// none, no file is made.
func (h *kubeHub) writeConfig(cfg *config.Config) {
	err := h.tryWrite(cfg)
	if err != nil {
		h.log.Warn("kubeconfig not written", "path", h.path, "err", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.problem = nil
	if err != nil {
		h.problem = &state.Problem{
			Code: state.CodeKubeconfig, Title: "Kubeconfig not written",
			Text:   fmt.Sprintf("The kubeconfig %s is not up to date: %v.", h.path, err),
			Action: "make the folder writable; berth writes it at the next change of the config or restart of the agent",
		}
	}
}

func (h *kubeHub) tryWrite(cfg *config.Config) error {
	tunnels := kubeTunnels(cfg)
	if len(tunnels) == 0 && !kubeconfig.Exists(h.path) {
		return nil
	}
	ca, err := h.localCA()
	if err != nil {
		return err
	}
	cert, key := ca.ClientPEM()
	contexts := make([]kubeconfig.Context, 0, len(tunnels))
	for _, t := range tunnels {
		contexts = append(contexts, kubeconfig.Context{
			Name: t.Name, Server: fmt.Sprintf("https://127.0.0.1:%d", kubePort(cfg, t)), ServerName: kube.ServerName(t.Name),
			CA: ca.CAPEM(), ClientCert: cert, ClientKey: key,
		})
	}
	return kubeconfig.Write(h.path, kubeconfig.Marshal(contexts))
}

// problems are those with the kubeconfig.
func (h *kubeHub) problems() []state.Problem {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.problem == nil {
		return nil
	}
	return []state.Problem{*h.problem}
}

// kubeTunnels are the config's tunnels to Kubernetes.
func kubeTunnels(cfg *config.Config) []config.Tunnel {
	var list []config.Tunnel
	for _, t := range cfg.Tunnels {
		if t.Kind == config.KindKube {
			list = append(list, t)
		}
	}
	return list
}

// kubePort is where a tunnel to Kubernetes listens: at its own port, or at the
// one that all share. The same config gives the same one on every machine.
func kubePort(cfg *config.Config, t config.Tunnel) int {
	if t.Port != 0 {
		return t.Port
	}
	return sharedKubePort(cfg)
}

func sharedKubePort(cfg *config.Config) int {
	if cfg.Kube.Port != 0 {
		return cfg.Kube.Port
	}
	return deriveKubePort(cfg, func(int) bool { return false })
}

// deriveKubePort derives the port that tunnels to Kubernetes share, passing
// over those of the other tunnels and those for which busy is true.
func deriveKubePort(cfg *config.Config, busy func(port int) bool) int {
	used := make(map[int]bool)
	for _, t := range cfg.Tunnels {
		used[t.Port] = true
	}
	return proxies.DerivePort("berth", string(config.KindKube), "", func(port int) bool { return used[port] || busy(port) })
}

// writeKubePort writes the port that tunnels to Kubernetes share into the
// config to which spec was added, as the port of any other tunnel is: what the
// config says later must not move it. That of tunnels that share one already is
// the one they have; else it is one that nobody has.
func writeKubePort(d *config.Document, spec config.Tunnel, busy func(port int) bool) error {
	cfg := d.Config()
	if cfg.Kube.Port != 0 || !sharesKubePort(spec) {
		return nil
	}
	for _, t := range cfg.Tunnels {
		if sharesKubePort(t) && t.Name != spec.Name {
			busy = func(int) bool { return false }
		}
	}
	err := d.SetKubePort(deriveKubePort(withPorts(cfg), busy))
	if _, refused := errors.AsType[*config.RefusedError](err); refused {
		return nil // the port is derived all the same each time
	}
	return err
}

// sharesKubePort reports whether a tunnel listens where the others do.
func sharesKubePort(t config.Tunnel) bool { return t.Kind == config.KindKube && t.Port == 0 }

// newKubeCarrier is the part of a tunnel that serves clients of Kubernetes.
func (t *tunnel) newKubeCarrier(listener *kube.Listener, ca func() (*kube.LocalCA, error), grace time.Duration, log *slog.Logger) *kube.Tunnel {
	return kube.New(kube.Config{
		Name:     t.spec.Name,
		Listener: listener,
		Own:      kube.ListenerConfig{Port: t.spec.Port, CA: ca},
		Source:   t.kubeSource,
		Hold:     t.spec.HoldDuration(),
		As:       t.spec.As, AsGroups: t.spec.AsGroups,
		Grace:  grace,
		Refuse: t.refuseKube,
		ForbiddenHint: fmt.Sprintf("Your roles let you be several users in Kubernetes: say which with kubectl --as, "+
			"or for good with as: in the config of tunnel %s (berth config edit)", t.spec.Name),
		LoginHint: "berth login",
		Logger:    log,
		OnChange:  t.onChange,
		OnEvent:   t.observe,
	})
}

// kubeSource is source for requests to Kubernetes.
func (t *tunnel) kubeSource(ctx context.Context) (*kube.Upstream, error) {
	cred, err := t.credentialFor(ctx)
	if err != nil {
		return nil, err
	}
	if cred.kube == nil { // it is of the tunnel's own kind
		return nil, errors.New("the tunnel has no way to Kubernetes")
	}
	return cred.kube, nil
}

// refuseKube words a refusal for clients of Kubernetes.
func (t *tunnel) refuseKube(err error) kube.Refusal {
	t.mu.Lock()
	res := t.status
	t.mu.Unlock()
	if errors.Is(err, proxies.ErrStopped) || errors.Is(err, proxies.ErrClosed) {
		return kube.Refusal{Code: http.StatusServiceUnavailable, Message: fmt.Sprintf("tunnel %s is stopping; to start it: berth tunnel start %s", t.spec.Name, t.spec.Name)}
	}
	p := t.problemOf(err, res)
	text := fmt.Sprintf("tunnel %s: %s: %s", t.spec.Name, lowerFirst(p.Title), p.Text)
	if heldInVain(err) && kubeCode(p.Code) == http.StatusUnauthorized {
		text += fmt.Sprintf(" No login came while the request was held (%s at most).", t.spec.HoldDuration().Round(time.Second))
	}
	if p.Action != "" {
		text += " Next step: " + p.Action
	}
	code := kubeCode(p.Code)
	if errors.Is(err, errConnectSlow) || errors.Is(err, context.DeadlineExceeded) {
		code = http.StatusGatewayTimeout
	}
	return kube.Refusal{Code: code, Message: text}
}

// kubeCode is the HTTP status of a kind of problem.
func kubeCode(code state.Code) int {
	switch code {
	case state.CodeLoginNeeded, state.CodeNoProfile, state.CodeClockSkew:
		return http.StatusUnauthorized
	case state.CodeAccessDenied, state.CodeMFARequired:
		return http.StatusForbidden
	default:
		// Not 404 for an unknown cluster: clients would take it for the
		// thing they asked for.
		return http.StatusServiceUnavailable
	}
}

// absentKube tells a client of a tunnel that is not served why.
func (a *Agent) absentKube(serverName string) kube.Refusal {
	for _, t := range a.current().Tunnels {
		if t.Kind == config.KindKube && kube.ServerName(t.Name) == serverName {
			return kube.Refusal{
				Code:    http.StatusServiceUnavailable,
				Message: fmt.Sprintf("tunnel %s is stopped; to start it: berth tunnel start %s", t.Name, t.Name),
			}
		}
	}
	return kube.Refusal{
		Code:    http.StatusNotFound,
		Message: "berth has no tunnel for this context any more; those there are: berth tunnel ls",
	}
}

// resolveKube finds the way to a Kubernetes cluster.
func (r *resolver) resolveKube(ctx context.Context, t *tunnel, res resolution, f found, set proxySettings) resolution {
	engine, why, err := r.planKube(ctx, t.spec, f)
	res.engine, res.engineReason = engine, why
	if err != nil {
		return r.suggestRequest(ctx, t, r.failed(t, res, err), f)
	}
	if engine == state.EngineTSH {
		return r.kubeViaTSH(t, res, f, set)
	}
	r.children.stop(t.spec.Name)
	kubeRoute := cluster.KubeRoute{Cluster: t.spec.Cluster, KubeCluster: t.spec.Resource, Requests: r.grants(t.spec.Name)}
	cert, err := f.cluster.KubeCert(ctx, kubeRoute)
	if err != nil && kubeRoute.Requests != "" && r.grantRefused(t.spec.Name, err) {
		kubeRoute.Requests = r.grants(t.spec.Name)
		cert, err = f.cluster.KubeCert(ctx, kubeRoute)
	}
	if err != nil && cert == nil {
		return r.suggestRequest(ctx, t, r.failed(t, res, err), f)
	}
	// The proxy shows a cert of the root cluster's CA, whichever cluster the
	// tunnel leads to.
	cas, err := f.cluster.ClusterCAs(ctx, f.cluster.Root())
	if err != nil {
		return r.failed(t, res, err)
	}
	serverName, err := kubeServerName(f.profile.ProxyAddr)
	if err != nil {
		return r.failed(t, res, fmt.Errorf("profile %s: proxy address: %w", f.profile.Name, err))
	}
	route := proxies.Route{
		ProxyAddr: f.profile.ProxyAddr, ServerName: serverName,
		Cert: cert.TLS, ClusterCert: true, ClusterCAs: cas, RootCAs: set.rootCAs,
		ConnUpgrade: f.cluster.ConnUpgradeRequired(),
	}
	res.state, res.err = state.TunnelReady, nil
	res.cred = t.kubeCredential(cert.TLS, func(ctx context.Context, versions ...string) (net.Conn, error) {
		route := route
		route.HTTP = versions
		return dialer(route, f.cluster.RequireConnUpgrade)(ctx)
	}, cert.ValidUntil())
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
func (r *resolver) kubeViaTSH(t *tunnel, res resolution, f found, set proxySettings) resolution {
	child, err := r.children.ensure(t, f.profile, set)
	if err != nil {
		return r.failed(t, res, err)
	}
	res.state, res.problem = child.state(t.spec)
	res.cred = t.kubeCredential(child.identity(), child.proc.DialKube, f.profile.Session.ValidUntil)
	res.next = f.profile.Session.ValidUntil
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
func (r *resolver) planKube(ctx context.Context, spec config.Tunnel, f found) (state.Engine, string, error) {
	why, err := r.kubeNeedsTSH(ctx, spec, f)
	if err != nil {
		return state.EngineNative, "", err
	}
	switch {
	case spec.Engine == config.EngineTSH:
		return state.EngineTSH, "engine: tsh in the config", nil
	case why == "" && spec.Engine == config.EngineNative:
		return state.EngineNative, "engine: native in the config", nil
	case why == "":
		return state.EngineNative, "native carries Kubernetes", nil
	case spec.Engine == config.EngineNative:
		return state.EngineNative, "", &engineError{want: "native", why: why}
	default:
		return state.EngineTSH, why, nil
	}
}

// kubeNeedsTSH returns why native cannot carry the tunnel; empty means it can.
func (r *resolver) kubeNeedsTSH(ctx context.Context, spec config.Tunnel, f found) (string, error) {
	switch {
	case f.cluster == nil:
		return "the session's key is a hardware key", nil
	case hardwareKeyPolicy(f.profile):
		return "the cluster demands hardware keys (" + f.profile.PrivateKeyPolicy + ")", nil
	case !f.profile.TLSRoutingEnabled:
		return "the cluster does not use TLS routing", nil
	}
	_, err := f.cluster.KubeCluster(ctx, spec.Cluster, spec.Resource)
	if _, unknown := errors.AsType[*cluster.UnknownKubeError](err); unknown && r.grants(spec.Name) != "" {
		// The session does not see it, but the tunnel may.
		err = f.cluster.As(ctx, r.saved.grants(spec.Name), func(c *cluster.Cluster) error {
			_, err := c.KubeCluster(ctx, spec.Cluster, spec.Resource)
			return err
		})
	}
	if err != nil {
		return "", err
	}
	mfa, err := f.cluster.KubeMFARequired(ctx, cluster.KubeRoute{Cluster: spec.Cluster, KubeCluster: spec.Resource})
	if err != nil {
		return "", err
	}
	if mfa {
		return "the cluster asks for MFA per session", nil
	}
	return "", nil
}
