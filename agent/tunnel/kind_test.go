package tunnel

import (
	"testing"

	"berth/agent/config"
	"berth/agent/state"
	"berth/agent/tunnel/history"
)

func TestEveryKind(t *testing.T) {
	for _, info := range state.Kinds {
		if kinds[info.Kind] == nil {
			t.Errorf("nothing makes tunnels of kind %s", info.Kind)
		}
	}
	if len(kinds) != len(state.Kinds) {
		t.Errorf("%d kinds of tunnels are made, %d are known", len(kinds), len(state.Kinds))
	}
}

// A change of any key is worded in the tunnel's history.
func TestEveryChangeIsNoted(t *testing.T) {
	set := &Set{book: history.NewBook(func() int { return 50 })}
	spec := state.TunnelSpec{Name: "x", Kind: state.KindKube, Cluster: "c", Resource: "r"}
	before := &config.Config{Tunnels: []state.TunnelSpec{spec}}
	for want, change := range map[string]state.TunnelSpec{
		"config changed: as from nothing to alice":                  {As: "alice"},
		"config changed: as_groups from nothing to [dev, ops]":      {AsGroups: []string{"dev", "ops"}},
		"config changed: the port that tunnels to Kubernetes share": {},
	} {
		change.Name, change.Kind, change.Cluster, change.Resource = spec.Name, spec.Kind, spec.Cluster, spec.Resource
		set.noteChanges(before, nil, []state.TunnelSpec{change})
		events := set.History(spec.Name)
		if got := events[len(events)-1].Text; got != want {
			t.Errorf("noted %q, want %q", got, want)
		}
	}
}
