package agent

import (
	"errors"

	"berth/agent/config"
	"berth/agent/ipc"
	"berth/agent/sessions"
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
	mem, _ := a.memory.ProfileOf(clusterName)
	return &ipc.Error{Code: ipc.CodeLoginNeeded, Message: "no valid Teleport session", Hint: sessions.LoginCommand(mem.Proxy, mem.User)}
}
