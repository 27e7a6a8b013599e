package agent

import (
	"errors"
	"fmt"
	"net"
	"time"

	"berth/agent/state"
	"berth/proxies"
	"berth/proxies/db"
)

// refuse tells a client why its tunnel cannot serve it, in the client's own
// protocol. Where that is not known yet, what the client says first tells;
// where it has no way to say it, the client just sees the connection close.
func (t *tunnel) refuse(client net.Conn, err error) {
	t.mu.Lock()
	res := t.status
	t.mu.Unlock()
	say := db.RefuseUnknown
	if res.protocol != "" {
		proto, ok := db.Lookup(res.protocol)
		if !ok {
			return
		}
		say = proto.Refuse
	}
	if err := say(client, t.refusal(err, res)); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		t.log.Debug("client not told why it was refused", "err", err)
	}
}

// refusal words a refusal: the same problem that status shows, with the
// tunnel's name and how long it has been so.
func (t *tunnel) refusal(err error, res resolution) db.Refusal {
	p := t.problemOf(err, res)
	r := db.Refusal{
		Title: fmt.Sprintf("tunnel %s: %s", t.spec.Name, lowerFirst(p.Title)),
		Text:  fmt.Sprintf("%s Since %s.", p.Text, p.Since.Local().Format("15:04:05")),
		Hint:  p.Action,
		Kind:  refusalKind(p.Code),
	}
	if r.Kind == db.RefusalLogin && heldInVain(err) {
		r.Kind = db.RefusalHoldEnded
		r.Text += fmt.Sprintf(" No login came within %s.", t.spec.HoldDuration().Round(time.Second))
	}
	return r
}

// problemOf is what stands between a client and the resource.
func (t *tunnel) problemOf(err error, res resolution) *state.Problem {
	if res.problem != nil && !isDialFailure(err) {
		return res.problem
	}
	mem, _ := t.resolver.saved.ProfileOf(t.spec.Cluster)
	return problemFor(err, t.spec, res.profile, mem)
}

func heldInVain(err error) bool {
	return errors.Is(err, errHoldEnded) || errors.Is(err, proxies.ErrHoldEnded)
}

func refusalKind(code state.Code) db.RefusalKind {
	switch code {
	case state.CodeLoginNeeded, state.CodeNoProfile, state.CodeClockSkew:
		return db.RefusalLogin
	case state.CodeAccessDenied:
		return db.RefusalDenied
	case state.CodeMFARequired:
		return db.RefusalMFA
	case state.CodeProxyUnreachable, state.CodeProxyUntrusted:
		return db.RefusalUnreachable
	case state.CodeUnknownResource, state.CodeUnknownCluster:
		return db.RefusalUnknown
	default:
		return db.RefusalOther
	}
}
