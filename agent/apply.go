package agent

import (
	"context"
	"sync"

	"berth/agent/config"
	"berth/agent/ports"
	"berth/agent/sessions"
	"berth/agent/tunnel"
)

// shoutInsecure logs every proxy that is not verified.
func (a *Agent) shoutInsecure(cfg *config.Config) {
	for _, p := range cfg.Profiles {
		if p.Insecure {
			a.log.Warn("INSECURE: this proxy's web certificate is not verified", "proxy", p.Proxy)
		}
	}
}

// followConfig applies every good config the file turns into.
func (a *Agent) followConfig(ctx context.Context) {
	wake, cancel := a.config.Subscribe()
	defer cancel()
	a.applyConfig()
	for {
		select {
		case <-ctx.Done():
			return
		case <-wake:
			a.applyConfig()
		}
	}
}

// applied is the config in force.
type applied struct {
	turn sync.Mutex // one config after the other; may be held while ports are bound

	mu     sync.Mutex // guards config
	config *config.Config
}

// current is the config in force.
func (a *Agent) current() *config.Config {
	a.applied.mu.Lock()
	defer a.applied.mu.Unlock()
	return a.applied.config
}

// applyConfig brings everything in line with the newest good config.
func (a *Agent) applyConfig() {
	a.applied.turn.Lock()
	defer a.applied.turn.Unlock()
	before, next := a.current(), ports.Fill(a.config.Current().Config)
	diff := config.Diff(before, next)
	a.applied.mu.Lock()
	a.applied.config = next
	a.applied.mu.Unlock()
	a.tunnels.Apply(before, next, diff)
	if !diff.Empty() {
		a.kube.Follow(next)
	}
	homes, err := sessions.Homes(next)
	switch {
	case err != nil:
		a.log.Warn("homes not changed", "err", err)
	case diff.HomesChanged:
		a.homes.SetHomes(homes)
	}
	if diff.ProfilesChanged {
		a.shoutInsecure(next)
		a.tunnels.Kick(tunnel.Changed)
	}
	if !diff.Empty() {
		a.log.Info("config applied", "added", len(diff.Added), "changed", len(diff.Changed), "removed", len(diff.Removed))
	}
	a.touch()
}
