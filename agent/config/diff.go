package config

import (
	"reflect"
	"slices"

	"berth/agent/state"
)

// Changes is what differs between two configs, so that only that is touched.
type Changes struct {
	// Added, Removed and Changed tunnels, by name. Removed ones are as they
	// were, the others as they are now. What was removed or changed must let
	// go of its port before what was added or changed takes one: two tunnels
	// may have swapped theirs.
	Added, Removed, Changed []state.TunnelSpec

	HomesChanged    bool
	ProfilesChanged bool
	OthersChanged   bool // any other key at the top of the file
}

// Diff says what leads from one config to another. The order of tunnels and
// how the file spells things do not count.
func Diff(from, to *Config) Changes {
	var c Changes
	for _, t := range from.Tunnels {
		if _, stays := to.Tunnel(t.Name); !stays {
			c.Removed = append(c.Removed, t)
		}
	}
	for _, t := range to.Tunnels {
		old, was := from.Tunnel(t.Name)
		switch {
		case !was:
			c.Added = append(c.Added, t)
		case !sameTunnel(old, t):
			c.Changed = append(c.Changed, t)
		}
	}
	c.HomesChanged = !slices.Equal(from.HomePaths(), to.HomePaths())
	c.ProfilesChanged = !sameProfiles(from.Profiles, to.Profiles)
	c.OthersChanged = !reflect.DeepEqual(from.others(), to.others())
	return c
}

// Empty reports whether nothing differs.
func (c Changes) Empty() bool {
	return len(c.Added)+len(c.Removed)+len(c.Changed) == 0 && !c.HomesChanged && !c.ProfilesChanged && !c.OthersChanged
}

// others is c without what Diff compares in detail, with what is left out
// filled in.
func (c *Config) others() Config {
	o := *c
	o.Version, o.Homes, o.Profiles, o.Tunnels, o.said, o.path = 0, nil, nil, nil, nil, ""
	o.Notifications.Enabled = new(c.Notifications.On())
	o.Access = c.Access.plain()
	o.TSH.Path = c.TSHPath()
	o.Log.Level = c.LogLevel()
	o.Metrics = c.Metrics.plain()
	if !o.Telemetry.Local() {
		o.Telemetry.Mode = telemetryOff
	}
	for _, k := range limitKeys {
		*k.of(&o.Limits) = c.Limit(k.Name)
	}
	if len(o.Browser) == 0 {
		o.Browser = nil
	}
	return o
}

func sameProfiles(from, to []Profile) bool {
	if len(from) != len(to) {
		return false
	}
	norm := make(map[string]Profile, len(from))
	for _, p := range from {
		norm[normalProxy(p.Proxy)] = p.plain()
	}
	for _, p := range to {
		if old, ok := norm[normalProxy(p.Proxy)]; !ok || !reflect.DeepEqual(old, p.plain()) {
			return false
		}
	}
	return true
}

// plain is p with what is left out filled in.
func (p Profile) plain() Profile {
	p.Proxy = normalProxy(p.Proxy)
	p.Renew = renew{Mode: p.RenewMode(), Before: state.Duration(p.RenewBefore())}
	p.CAFile = p.CAFilePath()
	return p
}
