package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"berth/agent/state"
	"berth/proxies"
	"berth/proxies/kube"
)

// newKubeCarrier is the part of a tunnel that serves clients of Kubernetes.
func (t *tunnel) newKubeCarrier(listener *kube.Listener, ca func() (*kube.LocalCA, error), grace time.Duration, log *slog.Logger) *kube.Tunnel {
	return kube.New(kube.Config{
		Name:     t.spec.Name,
		Listener: listener,
		Own:      kube.ListenerConfig{Port: t.spec.Port, CA: ca},
		Source:   t.kubeSource,
		Now:      t.kubeNow,
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

// kubeNow is kubeSource for when there is a credential, as nearly always.
func (t *tunnel) kubeNow() *kube.Upstream {
	t.mu.Lock()
	cur := t.cur
	t.mu.Unlock()
	if !cur.validAt(time.Now()) {
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
		if t.Kind == state.KindKube && kube.ServerName(t.Name) == serverName {
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
