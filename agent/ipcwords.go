package agent

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"berth/agent/cluster"
	"berth/agent/config"
	"berth/agent/ipc"
	"berth/agent/sessions"
	"berth/agent/state"
	"berth/agent/tunnel"
)

// configError words a config that cannot be used or edited.
func configError(err error) error {
	var bad *config.Error
	var tunnel *config.InvalidTunnelError
	var refused *config.RefusedError
	switch {
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

func (a *Agent) loginNeeded(clusterName string) error {
	mem, _ := a.saved.ProfileOf(clusterName)
	return &ipc.Error{Code: ipc.CodeLoginNeeded, Message: "no valid Teleport session", Hint: sessions.LoginCommand(mem.Proxy, mem.User)}
}

// toIPC words a cluster's answer for the caller of a command.
func (a *Agent) toIPC(err error, clusterName string) error {
	if told, ok := errors.AsType[*ipc.Error](err); ok {
		return told
	}
	mem, _ := a.saved.ProfileOf(clusterName)
	proxy := mem.Proxy
	if f := a.sessions.ForCluster(clusterName, time.Now()); f.Profile != nil {
		proxy = f.Profile.ProxyAddr
	}
	var expired *cluster.SessionExpiredError
	if errors.Is(err, sessions.ErrLoginNeeded) || errors.As(err, &expired) {
		return &ipc.Error{
			Code: ipc.CodeLoginNeeded, Message: fmt.Sprintf("no valid session for cluster %s", clusterName),
			Hint: sessions.LoginCommand(proxy, mem.User),
		}
	}
	if errors.Is(err, sessions.ErrNoProfile) {
		hint := sessions.LoginCommand(mem.Proxy, mem.User)
		if known := a.sessions.ValidClusters(time.Now()); len(known) > 0 {
			hint = "you are logged in to " + strings.Join(known, ", ")
		}
		return &ipc.Error{Code: ipc.CodeNotFound, Message: fmt.Sprintf("no profile knows the cluster %q", clusterName), Hint: hint}
	}
	p := tunnel.Problem(err, state.TunnelSpec{Cluster: clusterName}, proxy, mem)
	code := ipc.CodeFailed
	switch p.Code {
	case state.CodeUnknownCluster, state.CodeUnknownResource:
		code = ipc.CodeNotFound
	case state.CodeAccessDenied:
		code = ipc.CodeDenied
	default: // CodeFailed says all there is to say
	}
	text := strings.TrimSuffix(p.Text, ".")
	if p.Code == state.CodeUpstream {
		text = err.Error()
	}
	return &ipc.Error{Code: code, Message: state.LowerFirst(text), Hint: p.Action}
}
