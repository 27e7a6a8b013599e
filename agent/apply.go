package agent

import (
	"context"

	"berth/agent/config"
	"berth/agent/ports"
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

// applyConfig brings everything in line with the newest good config.
func (a *Agent) applyConfig() {
	a.applying.Lock()
	defer a.applying.Unlock()
	before, next := a.current(), ports.Fill(a.config.Current().Config)
	diff := config.Diff(before, next)
	a.mu.Lock()
	a.applied = next
	a.mu.Unlock()
	a.tunnels.Apply(before, next, diff)
	if !diff.Empty() {
		a.kube.Follow(next)
	}
	homes, err := homePaths(next)
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
