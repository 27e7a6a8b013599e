package agent

import (
	"errors"

	"berth/agent/config"
	"berth/agent/state"
	"berth/proxies"
)

// kubeTunnels are the config's tunnels to Kubernetes.
func kubeTunnels(cfg *config.Config) []state.TunnelSpec {
	var list []state.TunnelSpec
	for _, t := range cfg.Tunnels {
		if t.Kind == state.KindKube {
			list = append(list, t)
		}
	}
	return list
}

// kubePort is where a tunnel to Kubernetes listens: at its own port, or at the
// one that all share. The same config gives the same one on every machine.
func kubePort(cfg *config.Config, t state.TunnelSpec) int {
	if t.Port != 0 {
		return t.Port
	}
	return sharedKubePort(cfg)
}

func sharedKubePort(cfg *config.Config) int {
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

// writeKubePort writes the port that tunnels to Kubernetes share into the
// config to which spec was added, as the port of any other tunnel is: what the
// config says later must not move it. That of tunnels that share one already is
// the one they have; else it is one that nobody has.
func writeKubePort(d *config.Document, spec state.TunnelSpec, busy func(port int) bool) error {
	cfg := d.Config()
	if cfg.Kube.Port != 0 || !sharesKubePort(spec) {
		return nil
	}
	for _, t := range cfg.Tunnels {
		if sharesKubePort(t) && t.Name != spec.Name {
			busy = func(int) bool { return false }
		}
	}
	err := d.SetKubePort(deriveKubePort(withPorts(cfg), busy))
	if _, refused := errors.AsType[*config.RefusedError](err); refused {
		return nil // the port is derived all the same each time
	}
	return err
}

// sharesKubePort reports whether a tunnel listens where the others do.
func sharesKubePort(t state.TunnelSpec) bool { return t.Kind == state.KindKube && t.Port == 0 }
