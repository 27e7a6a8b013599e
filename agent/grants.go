package agent

import (
	"errors"
	"slices"
	"strings"
	"time"

	"berth/agent/cluster"
	"berth/agent/config"
	"berth/agent/state"
	"berth/certwatch"
)

// rolesDropped marks the connections of the tunnels that went through those
// profiles, and closes them where the config wants that.
func (a *Agent) rolesDropped(ids []certwatch.ProfileID) {
	proxies := make(map[string]bool)
	for _, id := range ids {
		if p := a.sessions.Of(id).Profile; p != nil {
			proxies[p.ProxyAddr] = true
		}
	}
	a.mu.Lock()
	var stale []*tunnel
	for _, r := range a.tunnels {
		if r.t != nil && proxies[r.t.servedBy()] {
			stale = append(stale, r.t)
		}
	}
	a.mu.Unlock()
	a.makeStale(stale...)
}

// makeStale has tunnels give up the credential they have, whose roles were
// dropped; the caller kicks them, and clients wait for the next one.
func (a *Agent) makeStale(tunnels ...*tunnel) {
	closing := a.current().Access.OnDrop == config.OnDropClose
	for _, t := range tunnels {
		t.mu.Lock()
		t.cur = nil
		t.mu.Unlock()
		t.px.MarkConnections()
		if closing {
			t.px.CloseMarked()
		}
	}
}

// servedBy is the proxy of the tunnel's last resolution.
func (t *tunnel) servedBy() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.status.profile
}

// grant gives a tunnel alone the roles of a request.
func (a *Agent) grant(tunnel, id string) error {
	ids := a.saved.Grants(tunnel)
	if slices.Contains(ids, id) {
		return nil
	}
	if err := a.saved.SetGrants(tunnel, append(ids, id)); err != nil {
		return err
	}
	a.grantsChanged(tunnel)
	return nil
}

// ungrant takes them back: connections opened with them are stale.
func (a *Agent) ungrant(tunnel, id string) {
	ids := a.saved.Grants(tunnel)
	left := slices.DeleteFunc(slices.Clone(ids), func(have string) bool { return have == id })
	if len(left) == len(ids) {
		return
	}
	if err := a.saved.SetGrants(tunnel, left); err != nil {
		a.log.Warn("saved state not written", "err", err)
	}
	a.histories.of(tunnel).note(time.Now(), state.EventConfig, "has the roles of access request "+id+" no more")
	if t := a.runningTunnel(tunnel); t != nil {
		a.makeStale(t)
	}
	a.grantsChanged(tunnel)
}

func (a *Agent) grantsChanged(tunnel string) {
	a.requests.board.SetTunnels(a.saved.Granted())
	if t := a.runningTunnel(tunnel); t != nil {
		t.wake(kickChanged)
	}
	a.touch()
}

func (a *Agent) runningTunnel(name string) *tunnel {
	a.mu.Lock()
	defer a.mu.Unlock()
	if r := a.tunnels[name]; r != nil {
		return r.t
	}
	return nil
}

// grantRefused is called when a tunnel's cert was refused because of a request
// whose roles it has: the request is over.
func (a *Agent) grantRefused(tunnel string, err error) bool {
	var unknown *cluster.UnknownRequestError
	var not *cluster.NotAssumableError
	if !errors.As(err, &unknown) && !errors.As(err, &not) {
		return false
	}
	ids := a.saved.Grants(tunnel)
	if len(ids) == 0 {
		return false
	}
	a.log.Info("tunnel loses access requests' roles", "tunnel", tunnel, "request_ids", ids, "err", err)
	ended := ids
	// The server names the one that it stumbled over.
	if one := slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return !strings.Contains(err.Error(), id) }); len(one) == 1 {
		ended = one
	}
	for _, id := range ended {
		a.ungrant(tunnel, id)
	}
	return true
}
