package tunnel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"berth/agent/memory"
	"berth/agent/sessions"
	"berth/agent/state"
	"berth/agent/tsh"
	"berth/internal/when"
	"berth/proxies"
	"berth/proxies/db"
	"berth/proxies/kube"
)

// connectWait bounds how long a client waits for a cert that is being
// fetched; waiting for a person to log in is bounded by the tunnel's hold.
const connectWait = 12 * time.Second

// tshEnds is how long tsh may take to end once it has dropped a client's connection.
const tshEnds = time.Second

// sayTimeout is how long a refusal may take to reach the client.
const sayTimeout = 4 * time.Second

// sourceError is why a client got no credential, as opposed to a dial that
// failed with one.
type sourceError struct {
	why error // errHoldEnded, errConnectSlow or errStartSlow; nil: the resolution's own error
	err error // the resolution's error; may be nil
}

func (e *sourceError) Error() string {
	switch {
	case e.why == nil:
		return e.err.Error()
	case e.err == nil:
		return e.why.Error()
	default:
		return fmt.Sprintf("%v: %v", e.why, e.err)
	}
}

func (e *sourceError) Unwrap() []error { return []error{e.why, e.err} }

var (
	errHoldEnded   = errors.New("no login came while the client was held")
	errConnectSlow = errors.New("the cluster took too long to issue a cert")
	errStartSlow   = errors.New("tsh took too long to start")
)

// source hands a client the way to dial.
func (t *tunnel) source(ctx context.Context) (proxies.Dial, error) {
	cred, err := t.credentialFor(ctx)
	if err != nil {
		return nil, err
	}
	return t.warm.Through(cred.identity, t.timed(cred.dial)), nil
}

// timed is dial, and counts.
func (t *tunnel) timed(dial proxies.Dial) proxies.Dial {
	return func(ctx context.Context) (net.Conn, error) {
		began := time.Now()
		conn, err := dial(ctx)
		if err == nil {
			t.latency.Store(int64(time.Since(began)))
		}
		if ctx.Err() == nil || err == nil { // a client that leaves says nothing of the way
			t.meter.Dialled(t.spec.Name, time.Since(began), err)
		}
		return conn, err
	}
}

// credentialFor hands a client a credential that is valid now. While there is no
// session, or tsh starts, it waits, for as long as ctx allows (the tunnel's hold); while
// a cert is being fetched it waits for the outcome; any other trouble is tried once
// more for this client and then returned.
func (t *tunnel) credentialFor(ctx context.Context) (*credential, error) {
	t.mu.Lock()
	arrived := t.attempts
	t.mu.Unlock()
	t.wanting.Add(1)
	t.wanted.Wake()
	defer t.wanting.Add(-1)
	deadline := time.Now().Add(connectWait)
	kicked := false
	for {
		changed := t.changed.Changed()
		t.mu.Lock()
		cur, status, attempts := t.cur, t.status, t.attempts
		t.mu.Unlock()
		holds := t.spec.HoldDuration() > 0
		isAway := status.isAway()
		if cur.validAt(time.Now()) && (!isAway || !holds) {
			if cur.servesAt(time.Now()) {
				return cur, nil
			}
			select {
			case <-changed:
				continue
			case <-ctx.Done():
				return nil, &sourceError{why: errStartSlow, err: status.err}
			}
		}
		waitsForLogin := status.state == state.TunnelWaitingForLogin
		if attempts > 0 && (waitsForLogin || isAway) && !holds {
			if status.onDemand {
				t.wake(client) // for the clients to come
			}
			return nil, &sourceError{err: status.err}
		}
		waitsForLogin = waitsForLogin || isAway
		if attempts > arrived && status.unasked {
			arrived, kicked = attempts, false // it was not the client's own, which may have been lost to it
		}
		if attempts > arrived && !waitsForLogin && !errors.Is(status.err, sessions.ErrSettling) { // certwatch will report shortly
			if status.err != nil {
				return nil, &sourceError{err: status.err}
			}
			if cur == nil { // all was well, and what served is gone, as with a tsh that is started again
				arrived, kicked, deadline = attempts, false, time.Now().Add(connectWait)
			}
		}
		if !kicked && (!waitsForLogin || isAway || status.onDemand) {
			t.wake(client)
			kicked = true
		}
		var expire <-chan time.Time
		if !waitsForLogin {
			timer := time.NewTimer(time.Until(deadline))
			defer timer.Stop()
			expire = timer.C
		}
		select {
		case <-changed:
			if waitsForLogin {
				deadline = time.Now().Add(connectWait) // what follows a login has its own time
			}
		case <-expire:
			return nil, &sourceError{why: errConnectSlow, err: status.err}
		case <-ctx.Done():
			return nil, &sourceError{why: errHoldEnded, err: status.err}
		}
	}
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

// kubeNow is kubeSource for when there is a credential, as nearly always.
func (t *tunnel) kubeNow() *kube.Upstream {
	t.mu.Lock()
	cur := t.cur
	t.mu.Unlock()
	if !cur.servesAt(time.Now()) {
		return nil
	}
	return cur.kube
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
	text := fmt.Sprintf("tunnel %s: %s: %s", t.spec.Name, state.LowerFirst(p.Title), p.Text)
	if holdEnded(err) && kubeCode(p.Code) == http.StatusUnauthorized {
		text += fmt.Sprintf(" No login came while the request was held (%s at most).", t.spec.HoldDuration().Round(time.Second))
	}
	if p.Action != "" {
		text += " Next step: " + p.Action
	}
	code := kubeCode(p.Code)
	if errors.Is(err, errConnectSlow) || errors.Is(err, errStartSlow) || errors.Is(err, context.DeadlineExceeded) {
		code = http.StatusGatewayTimeout
	}
	return kube.Refusal{Code: code, Message: text}
}

// kubeCode is the HTTP status of a kind of problem.
func kubeCode(code state.Code) int {
	switch code {
	case state.CodeLoginNeeded, state.CodeNoProfile, state.CodeClockSkew, state.CodeSessionOutdated:
		return http.StatusUnauthorized
	case state.CodeAccessDenied, state.CodeMFARequired, state.CodePINNeeded, state.CodeTapNeeded, state.CodeSessionRefused,
		state.CodeProxyForbidden:
		return http.StatusForbidden
	case state.CodeLimit:
		return http.StatusTooManyRequests
	default:
		// Not 404 for an unknown cluster: clients would take it for the
		// thing they asked for.
		return http.StatusServiceUnavailable
	}
}

// observe learns from the life of connections whether the upstream works.
func (t *tunnel) observe(ev proxies.Event) {
	t.mu.Lock()
	res := t.status
	t.mu.Unlock()
	if away, ok := errors.AsType[*proxies.TurnedAwayError](ev.Err); ok {
		t.foreign.note(away, ev.At, t.log)
	}
	if errors.Is(ev.Err, proxies.ErrCertEnded) {
		t.cuts.note(t.spec.Cluster, true)
	}
	t.count(ev, res)
	t.history.Connection(ev, res.awaited(), func(err error) string { return t.shortly(err, res) })
	if t.refusals.note(ev) {
		t.onChange()
	}
	if t.refusals.unasked() {
		t.wake(client) // it looks for the request that would help
	}
	switch {
	case ev.Kind == proxies.EventRefused && isDialFailure(ev.Err),
		ev.Kind == proxies.EventAnswered && isWordless(ev.Err),
		ev.Kind == proxies.EventClosed && errors.Is(ev.Err, proxies.ErrClosedEarly) && !errors.Is(ev.Err, proxies.ErrProbe) &&
			!errors.Is(ev.Err, tsh.ErrReplaced):
		t.exam.doubt(t, ev.Err)
	case ev.Kind == proxies.EventAnswered && ev.Err == nil,
		ev.Kind == proxies.EventClosed && ev.BytesIn > 0 && !isStranger(ev.Err): // what is broken may be newer than that connection
		t.exam.reconsider(t, ev.Err == nil)
	}
}

// count counts clients.
func (t *tunnel) count(ev proxies.Event, res resolution) {
	is := Metered{Name: t.spec.Name, Cluster: t.spec.Cluster, Protocol: res.protocol, User: res.user, Kind: t.spec.Kind}
	switch ev.Kind {
	case proxies.EventConnected:
		held := ev.Waited
		if held < proxies.HeldAfter {
			held = 0
		}
		t.meter.Served(is, held)
	case proxies.EventRefused:
		if errors.Is(ev.Err, proxies.ErrClientGone) || errors.Is(ev.Err, proxies.ErrStopped) || errors.Is(ev.Err, proxies.ErrClosed) {
			return
		}
		code := t.problemOf(ev.Err, res).Code
		if _, away := errors.AsType[*proxies.TurnedAwayError](ev.Err); away {
			code = codeForeign
		}
		t.meter.Refused(is, code)
	default: // neither says whether a client got through
	}
}

// isWordless reports whether a client, not a probe, was refused as one of a locked
// user is.
func isWordless(err error) bool {
	refused, ok := errors.AsType[*db.RefusedError](err)
	return ok && refused.Wordless() && !refused.Probe
}

// isStranger reports whether a client spoke another protocol: what it met with
// says nothing of the tunnel.
func isStranger(err error) bool {
	_, ok := errors.AsType[*db.StrangerError](err)
	return ok
}

// shortly puts an error into the few words a history has room for.
func (t *tunnel) shortly(err error, res resolution) string {
	if why, ok := turnedAway(err); ok {
		return why
	}
	p := problemFor(err, t.spec, res.profile, res.named, memory.Profile{})
	if p.Title == titleTunnelFailed {
		return err.Error()
	}
	return state.LowerFirst(p.Title)
}

// isDialFailure reports whether a refused client was refused by the upstream,
// and not because it left, the tunnel stopped or there was no credential.
func isDialFailure(err error) bool {
	var source *sourceError
	var away *proxies.TurnedAwayError
	return err != nil && !isLimit(err) && !errors.As(err, &away) && !errors.As(err, &source) && !errors.Is(err, proxies.ErrHoldEnded) &&
		!errors.Is(err, proxies.ErrClientGone) && !errors.Is(err, proxies.ErrStopped) && !errors.Is(err, proxies.ErrClosed)
}

// refuse sends a client the reason why its tunnel cannot serve it, in the
// client's own protocol. While that is not known, the client's first words tell
// which it is. A protocol without a form for it just closes the connection.
func (t *tunnel) refuse(client net.Conn, err error) {
	t.mu.Lock()
	res := t.status
	t.mu.Unlock()
	if errors.Is(err, proxies.ErrClosedEarly) && !errors.Is(err, tsh.ErrReplaced) {
		if problem, why := t.lostForFactor(); problem != nil {
			res.problem, err = problem, &sourceError{err: why}
		} else {
			err = t.exam.whyHungUp(t, err)
		}
		_ = client.SetDeadline(time.Now().Add(sayTimeout)) // to find that out may have taken all that was left
	}
	say := db.RefuseUnknown
	if res.protocol != "" {
		proto, ok := db.Lookup(res.protocol)
		if !ok {
			return
		}
		say = proto.Refuse
	}
	if err := say(client, t.refusal(err, res)); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		t.log.Debug("refusal not sent to the client", "err", err)
	}
}

// lostForFactor returns the problem and the error of a tsh that asked for a security key
// after it took the client's connection, and then failed without it; else nil.
func (t *tunnel) lostForFactor() (*state.Problem, error) {
	c := t.currentChild()
	if c == nil || !c.args.keyed {
		return nil, nil
	}
	st := c.proc.Status()
	if st.State == tsh.StateReady && st.Prompt == "" || st.State == tsh.StateFailing && !lacksFactor(st) {
		return nil, nil // it is another trouble
	}
	ended := func() bool {
		st = c.proc.Status()
		return lacksFactor(st)
	}
	if !t.changed.Until(t.exam.running(), tshEnds, ended) {
		return nil, nil
	}
	_, problem := c.state(t.spec, "")
	return problem, st.LastError
}

// refusal words a refusal: the same problem that status shows, with the
// tunnel's name and how long it has been so.
func (t *tunnel) refusal(err error, res resolution) db.Refusal {
	if errors.Is(err, proxies.ErrStopped) { // and nothing else: a held client has waited for less than its hold
		return db.Refusal{
			Title: fmt.Sprintf("tunnel %s: stopping", t.spec.Name),
			Text:  "The tunnel was stopped or changed, or berth itself was stopped.", Hint: "berth status",
		}
	}
	p := t.problemOf(err, res)
	r := db.Refusal{
		Title: fmt.Sprintf("tunnel %s: %s", t.spec.Name, state.LowerFirst(p.Title)),
		Text:  fmt.Sprintf("%s Since %s.", p.Text, when.Format(p.Since, "15:04:05")),
		Hint:  p.Action,
		Kind:  refusalKind(p.Code),
	}
	switch {
	case !holdEnded(err):
	case r.Kind == db.RefusalLogin:
		r.Kind = db.RefusalHoldEnded
		r.Text += fmt.Sprintf(" No login came within %s.", t.spec.HoldDuration().Round(time.Second))
	case r.Kind == db.RefusalUnreachable:
		r.Text += fmt.Sprintf(" It did not come back within %s.", t.spec.HoldDuration().Round(time.Second))
	case r.Kind == db.RefusalMFA:
		r.Text += fmt.Sprintf(" It was not shown within %s.", t.spec.HoldDuration().Round(time.Second))
	}
	return r
}

// problemOf returns the reason why a client cannot reach the resource.
func (t *tunnel) problemOf(err error, res resolution) *state.Problem {
	if res.problem != nil && !isDialFailure(err) && !isLimit(err) {
		return res.problem
	}
	return problemFor(err, t.spec, res.profile, res.named, t.owner(res))
}

// again reports whether a client whose dial failed is held: the proxy is away, and
// the tunnel's next resolution says since when.
func (t *tunnel) again(err error) bool {
	if !unreachable(err) {
		return false
	}
	t.exam.doubt(t, err)
	return true
}

// recycle returns what follows a connection whose cert ends at end, where the
// cluster would cut it then; nil: nothing does.
func (t *tunnel) recycle(end time.Time) proxies.Rest {
	if !t.spec.Recycles() || !t.cuts.has(t.spec.Cluster) {
		return nil
	}
	proto, ok := db.Lookup(t.protocol())
	if !ok {
		return nil
	}
	rest := proto.Rest(db.Refusal{
		Title: fmt.Sprintf("tunnel %s: this connection's certificate ends at %s", t.spec.Name, when.ClockSeconds(end, time.Now())),
		Text:  "The cluster would cut the connection then, also in the middle of a query. It was idle, so berth has ended it.",
		Hint:  "Connect again: new connections have a newer certificate.",
	})
	if rest == nil {
		return nil
	}
	return rest
}

// isLimit reports whether a client was refused because it was one too many, which
// says nothing of the resource.
func isLimit(err error) bool {
	_, ok := errors.AsType[*proxies.LimitError](err)
	return ok
}

func holdEnded(err error) bool {
	return !isLimit(err) && (errors.Is(err, errHoldEnded) || errors.Is(err, proxies.ErrHoldEnded))
}

func refusalKind(code state.Code) db.RefusalKind {
	switch code {
	case state.CodeLoginNeeded, state.CodeNoProfile, state.CodeClockSkew, state.CodeSessionOutdated:
		return db.RefusalLogin
	case state.CodeAccessDenied, state.CodeSessionRefused, state.CodeProxyForbidden:
		return db.RefusalDenied
	case state.CodeMFARequired, state.CodePINNeeded, state.CodeTapNeeded:
		return db.RefusalMFA
	case state.CodeProxyUnreachable, state.CodeProxyUntrusted, state.CodeLeafAway:
		return db.RefusalUnreachable
	case state.CodeUnknownResource, state.CodeUnknownCluster:
		return db.RefusalUnknown
	default:
		return db.RefusalOther
	}
}

// kubeCredential returns cred with a way to Kubernetes: the one there is while that is
// like it, since a new one means new connections. validFrom is when the session began,
// zero if that is not known.
func (t *tunnel) kubeCredential(cred credential, dial kube.Dialer, validFrom time.Time) *credential {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.cur.isLike(&cred) {
		return t.cur
	}
	cred.validUntil = cred.validUntil.Round(0)
	cred.kube = &kube.Upstream{Dial: dial, ValidFrom: validFrom, ValidUntil: cred.validUntil}
	return &cred
}

// protocol returns what the tunnel's database speaks; empty: not known yet.
func (t *tunnel) protocol() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.status.protocol
}

// listen returns what hears the beginning of a client's connection; nil while the
// database's protocol is not known.
func (t *tunnel) listen() proxies.Ear {
	proto, ok := db.Lookup(t.protocol())
	if !ok {
		return nil
	}
	return proto.Listen(t.allowedUsers()...)
}

// allowedUsers are the database users whom the session may be, "*" for any; none:
// not known.
func (t *tunnel) allowedUsers() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.status.dbUsers
}
