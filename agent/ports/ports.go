// Package ports says which local port each tunnel of a config listens on. The
// same config gives the same ports on every machine.
package ports

import (
	"errors"
	"slices"

	"berth/agent/config"
	"berth/agent/state"
	"berth/proxies"
)

// Of returns the port of a tunnel; 0 for one of a config that was not filled.
func Of(cfg *config.Config, t state.TunnelSpec) int {
	if t.Kind.Info().SharesPort {
		return Kube(cfg, t)
	}
	return t.Port
}

// KubeTunnels are the config's tunnels to Kubernetes.
func KubeTunnels(cfg *config.Config) []state.TunnelSpec {
	var list []state.TunnelSpec
	for _, t := range cfg.Tunnels {
		if t.Kind == state.KindKube {
			list = append(list, t)
		}
	}
	return list
}

// Kube returns the port of a tunnel to Kubernetes: its own, or the port that
// such tunnels share.
func Kube(cfg *config.Config, t state.TunnelSpec) int {
	if t.Port != 0 {
		return t.Port
	}
	return SharedKube(cfg)
}

// SharedKube returns the port that tunnels to Kubernetes share.
func SharedKube(cfg *config.Config) int {
	if cfg.Kube.Port != 0 {
		return cfg.Kube.Port
	}
	return deriveKubePort(cfg, func(int) bool { return false })
}

// deriveKubePort derives the port that tunnels to Kubernetes share, passing
// over those of the other tunnels and those for which busy is true.
func deriveKubePort(cfg *config.Config, busy func(port int) bool) int {
	used := make(map[int]bool)
	for _, t := range cfg.Tunnels {
		used[t.Port] = true
	}
	return proxies.DerivePort("berth", string(state.KindKube), "", func(port int) bool { return used[port] || busy(port) })
}

// WriteKube writes the port that tunnels to Kubernetes share into the config to
// which spec was added, so that later changes of the config cannot move it.
// Tunnels that share a port already keep it; otherwise a free one is chosen.
func WriteKube(d *config.Document, spec state.TunnelSpec, busy func(port int) bool) error {
	cfg := d.Config()
	if cfg.Kube.Port != 0 || !SharesKube(spec) {
		return nil
	}
	for _, t := range cfg.Tunnels {
		if SharesKube(t) && t.Name != spec.Name {
			busy = func(int) bool { return false }
		}
	}
	err := d.SetKubePort(deriveKubePort(Fill(cfg), busy))
	if _, refused := errors.AsType[*config.RefusedError](err); refused {
		return nil // the port is derived all the same each time
	}
	return err
}

// SharesKube reports whether a tunnel listens where the others do.
func SharesKube(t state.TunnelSpec) bool { return t.Kind.Info().SharesPort && t.Port == 0 }

// Derive derives a tunnel's port, passing over those of the config's
// tunnels and those for which busy is true.
func Derive(cfg *config.Config, spec state.TunnelSpec, busy func(port int) bool) int {
	used := map[int]bool{SharedKube(cfg): true}
	for _, t := range cfg.Tunnels {
		used[t.Port] = true
	}
	return proxies.DerivePort(spec.Cluster, string(spec.Kind), spec.Resource, func(port int) bool {
		return used[port] || busy(port)
	})
}

// Fill returns the config with a port for every tunnel that listens on one of
// its own. A tunnel written without a port gets the derived one, free right now
// or not.
func Fill(cfg *config.Config) *config.Config {
	full := *cfg
	full.Tunnels = slices.Clone(cfg.Tunnels)
	for i, t := range full.Tunnels {
		if t.Port == 0 && !t.Kind.Info().SharesPort {
			full.Tunnels[i].Port = Derive(&full, t, func(int) bool { return false })
		}
	}
	return &full
}
