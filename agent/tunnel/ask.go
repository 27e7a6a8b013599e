package tunnel

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"berth/agent/access"
	"berth/agent/cluster"
	"berth/agent/config"
	"berth/agent/ipc"
	"berth/agent/memory"
	"berth/agent/sessions"
	"berth/agent/state"
	"berth/certwatch"
	"berth/proxies/kube"
)

// Kick makes every tunnel resolve again.
func (s *Set) Kick(reason Reason) {
	for _, t := range s.running() {
		if reason == Verify {
			t.warm.Drop()
		}
		t.wake(reason)
	}
}

// Connecting reports whether a tunnel has yet to find out whether it can serve.
func (s *Set) Connecting() bool {
	return slices.ContainsFunc(s.running(), func(t *tunnel) bool {
		t.mu.Lock()
		defer t.mu.Unlock()
		return t.status.state == state.TunnelConnecting
	})
}

// Held returns the profiles whose login would release clients.
func (s *Set) Held() map[certwatch.ProfileID]bool {
	held := make(map[certwatch.ProfileID]bool)
	for _, t := range s.running() {
		if id, ok := t.heldForLogin(); ok {
			held[id] = true
		}
	}
	return held
}

// Outside returns the tunnels of the request's session that its access does not
// reach: a session that assumes a request for resources reaches those alone.
func (s *Set) Outside(r state.Request) []string {
	var names []string
	for _, t := range s.running() {
		if res := t.resolved(); res.profile == r.Profile && res.user == r.User && !Reaches(r, t.spec) {
			names = append(names, t.spec.Name)
		}
	}
	return names
}

// Reaches reports whether the access of a request leads where a tunnel does.
func Reaches(r state.Request, spec state.TunnelSpec) bool {
	return access.Reaches(r, spec.Cluster, spec.Kind.Info().ResourceKind, spec.Resource)
}

// Guard returns what lets only clients over TCP of the agent's own OS user pass; nil
// means that the system does not say who a client is.
func (s *Set) Guard() func(net.Conn) error {
	if !s.watchman.works {
		return nil
	}
	return s.watchman.guard.Check
}

// Record notes in the histories what is new in a snapshot. Snapshots must come
// in order.
func (s *Set) Record(snapshot *state.Snapshot) { s.book.Record(snapshot, time.Now()) }

// History returns what happened to a tunnel lately, the oldest first.
func (s *Set) History(name string) []state.Event { return s.book.Of(name).Events(time.Now()) }

// Plot returns how a tunnel was used in the last hour, the oldest point first.
func (s *Set) Plot(name string) []state.PlotPoint { return s.book.Of(name).Plot(time.Now()) }

// AbsentKube words the refusal of a client of a tunnel that is not running; the
// server name is the tunnel's.
func (s *Set) AbsentKube(serverName string) kube.Refusal {
	for _, e := range s.listed() {
		if e.spec.Kind == state.KindKube && kube.ServerName(e.spec.Name) == serverName {
			return kube.Refusal{
				Code:    503,
				Message: fmt.Sprintf("tunnel %s is stopped; to start it: berth tunnel start %s", e.spec.Name, e.spec.Name),
			}
		}
	}
	return kube.Refusal{
		Code:    403, // a 404 would be about what the cluster has
		Message: "berth no longer has a tunnel for this context; to list the tunnels: berth tunnel ls",
	}
}

// Clients returns the programs that are connected to tunnels, as far as the system
// says. Those of one tunnel with the most connections come first, and of many some
// are left out.
func (s *Set) Clients(ctx context.Context) ([]state.TunnelClient, error) {
	return s.onlooker.clients(ctx, s.listed)
}

// TunnelTo returns the name of a tunnel that leads to the resource.
func (s *Set) TunnelTo(r ipc.Resource) string {
	for _, e := range s.listed() {
		if e.spec.Kind == r.Kind && e.spec.Cluster == r.Cluster && e.spec.Resource == r.Name {
			return e.spec.Name
		}
	}
	return ""
}

// States draws every tunnel, in the order of the config.
func (s *Set) States() []state.Tunnel {
	list := make([]state.Tunnel, 0)
	for _, e := range s.listed() {
		list = append(list, e.draw(s.watchman.state(e.spec), s.cfg.Memory.ProtocolOf(e.spec.Cluster, e.spec.Resource)))
	}
	return list
}

// Check says of the tunnels with these names, or of all that were not stopped,
// whether a client that connects now gets through. Those that say so are tried:
// with the cert they have, over TCP and TLS to the proxy, and no byte of data. A try
// not older than fresh counts, and so does each of the last five seconds. An unknown
// name is not in the answer.
func (s *Set) Check(ctx context.Context, fresh time.Duration, names ...string) []state.Readiness {
	fresh = max(fresh, probePause)
	var picked []entry
	for _, e := range s.listed() {
		if slices.Contains(names, e.spec.Name) || len(names) == 0 && !e.stopped {
			picked = append(picked, e)
		}
	}
	list := make([]state.Readiness, len(picked))
	var g errgroup.Group
	g.SetLimit(probesAtOnce)
	for i, e := range picked {
		g.Go(func() error {
			list[i] = s.check(ctx, e, fresh)
			return nil
		})
	}
	_ = g.Wait() // none fails
	return list
}

func (s *Set) check(ctx context.Context, e entry, fresh time.Duration) state.Readiness {
	is := e.draw(s.watchman.state(e.spec), "")
	r := state.Readiness{Name: is.Name, State: is.State, Protocol: is.Protocol}
	var err error
	if e.t != nil {
		r.ProbedAt, err = e.t.probe.try(ctx, e.t, &s.away, fresh)
	}
	switch {
	case is.State != state.TunnelReady && is.Problem != nil:
		r.Code = is.Problem.Code
	case is.State == state.TunnelReady && err != nil:
		r.State, r.Code = state.TunnelError, problemFor(err, e.spec, is.Profile, "", e.t.lastProfile()).Code
	}
	r.Ready = r.State == state.TunnelReady
	return r
}

// KubeCert mints a cert for a Kubernetes cluster outside of any tunnel. Where
// only tsh could use one, it returns why, and no cert.
func (s *Set) KubeCert(ctx context.Context, f sessions.Session, clusterName, kubeCluster string) (cert *cluster.Cert, needsTSH string, err error) {
	spec := state.TunnelSpec{Kind: state.KindKube, Cluster: clusterName, Resource: kubeCluster}
	w, err := kubeKind{}.find(ctx, s.resolver, spec, f)
	if err != nil || w.needsTSH != "" {
		return nil, w.needsTSH, err
	}
	if cert, err = w.mint(ctx, ""); cert != nil {
		return cert, "", nil
	}
	return nil, "", err
}

// Word words a cluster's answer for the caller of a command.
func (s *Set) Word(err error, clusterName string) error {
	if known, ok := errors.AsType[*ipc.Error](err); ok {
		return known
	}
	mem, _ := s.cfg.Memory.ProfileOf(clusterName)
	proxy := mem.Proxy
	if f := s.cfg.Sessions.ForCluster(clusterName, "", time.Now()); f.Profile != nil {
		proxy, mem.User = f.Profile.ProxyAddr, f.Profile.User
	}
	if clusterName != "" || len(s.cfg.Sessions.All()) == 0 {
		proxy = cmp.Or(proxy, s.cfg.Sessions.ForbiddenProxy(clusterName))
	}
	var expired *cluster.SessionExpiredError
	needsLogin := errors.Is(err, sessions.ErrLoginNeeded) || errors.As(err, &expired)
	forbidden, isForbidden := errors.AsType[*config.PolicyError](s.cfg.Config().Policy.AllowsProxy(proxy))
	if isForbidden && proxy != "" && (needsLogin || errors.Is(err, sessions.ErrNoProfile)) {
		return &ipc.Error{Code: ipc.CodeDenied, Message: forbidden.Error(), Hint: forbidden.NextStep()}
	}
	if needsLogin && clusterName == "" {
		return &ipc.Error{
			Code: ipc.CodeLoginNeeded, Message: "no valid Teleport session", Hint: sessions.LoginCommand(proxy, mem.User),
		}
	}
	if needsLogin {
		return &ipc.Error{
			Code: ipc.CodeLoginNeeded, Message: fmt.Sprintf("no valid session for cluster %s", clusterName),
			Hint: sessions.LoginCommand(proxy, mem.User),
		}
	}
	if errors.Is(err, sessions.ErrNoProfile) {
		hint := sessions.LoginCommand(mem.Proxy, mem.User)
		if known := s.cfg.Sessions.ValidClusters(time.Now()); len(known) > 0 {
			hint = "you are logged in to " + strings.Join(known, ", ")
		}
		return &ipc.Error{Code: ipc.CodeNotFound, Message: fmt.Sprintf("no profile knows the cluster %q", clusterName), Hint: hint}
	}
	p := problemFor(err, state.TunnelSpec{Cluster: clusterName}, proxy, s.cfg.Sessions.UserAt(proxy, mem.User), mem)
	code := ipc.CodeFailed
	switch p.Code {
	case state.CodeUnknownCluster, state.CodeUnknownResource:
		code = ipc.CodeNotFound
	case state.CodeAccessDenied:
		code = ipc.CodeDenied
	default: // CodeFailed says all there is to say
	}
	text := strings.TrimSuffix(p.Text, ".")
	if p.Code == state.CodeUpstream || p.Code == state.CodeAccessDenied {
		// Both are worded for a tunnel, and their hints may name what was just run.
		text, p.Action = err.Error(), "berth doctor"
	}
	return &ipc.Error{Code: code, Message: state.LowerFirst(text), Hint: p.Action}
}

// draw draws one tunnel. What is wrong with its port comes before what is wrong
// with its cert, since without the port no client gets that far. protocol is
// what the database was last known to speak, for a tunnel that cannot ask.
func (e entry) draw(guard state.Guard, protocol string) state.Tunnel {
	s := state.Tunnel{
		TunnelSpec: e.spec, Engine: state.EngineNative, State: state.TunnelConnecting, Guard: guard,
		Addresses: []string{fmt.Sprintf("127.0.0.1:%d", e.port)},
	}
	s.Port, s.Address = e.port, s.Addresses[0]
	if e.t == nil {
		s.Protocol = protocol
		if e.stopped {
			s.State = state.TunnelStopped
		}
		return s
	}
	px := e.t.px.Status()
	if len(px.Addresses) > 0 {
		s.Addresses = px.Addresses
		s.Address = px.Addresses[0]
	}
	s.StaleConnections = int64(px.Marked)
	s.Connections, s.Waiting = int64(px.Connections), int64(waiting(px, e.t.currentChild()))
	count := e.past.plus(Count{px.TotalConnections, px.BytesIn, px.BytesOut})
	s.TotalConnections, s.BytesIn, s.BytesOut = count.Connections, count.BytesIn, count.BytesOut
	s.LastErrorAt = state.Instant(px.LastErrorAt)
	if n, at := e.t.nextEnd(); n > 0 {
		s.EndingConnections, s.EndingAt = int64(n), state.Instant(at)
	}
	if px.Waiting > 0 {
		s.WaitingSince, s.WaitingClient = state.Instant(px.OldestWait), e.t.history.OldestHeld()
	}
	name, at := e.t.foreign.last()
	s.ForeignUser, s.ForeignAt = name, state.Instant(at)
	e.t.draw(&s)
	if px.BindError != nil {
		s.State = state.TunnelPortInUse
		spec := e.spec
		spec.Port = e.port
		s.Problem = problemFor(px.BindError, spec, s.Profile, "", memory.Profile{})
		if s.Problem.Code != state.CodePortInUse {
			s.State = state.TunnelError
		}
	}
	return s
}
