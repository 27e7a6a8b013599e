package tunnel

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"berth/agent/cluster"
	"berth/agent/ipc"
	"berth/agent/sessions"
	"berth/agent/state"
)

// Word words a cluster's answer for the caller of a command.
func (s *Set) Word(err error, clusterName string) error {
	if told, ok := errors.AsType[*ipc.Error](err); ok {
		return told
	}
	mem, _ := s.cfg.Memory.ProfileOf(clusterName)
	proxy := mem.Proxy
	if f := s.cfg.Sessions.ForCluster(clusterName, time.Now()); f.Profile != nil {
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
		if known := s.cfg.Sessions.ValidClusters(time.Now()); len(known) > 0 {
			hint = "you are logged in to " + strings.Join(known, ", ")
		}
		return &ipc.Error{Code: ipc.CodeNotFound, Message: fmt.Sprintf("no profile knows the cluster %q", clusterName), Hint: hint}
	}
	p := problemFor(err, state.TunnelSpec{Cluster: clusterName}, proxy, mem)
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
