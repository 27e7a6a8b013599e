package config

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"berth/agent/state"
	"berth/internal/plain"
)

// shipped is what the files say that a policy includes.
type shipped struct {
	tunnels  []state.TunnelSpec
	from     map[string]string // the file of each tunnel, by name
	profiles []Profile
	defaults map[string]any // the other keys of a config, as JSON
	vain     []Mistake      // what the rules leave without effect; the places are the policy's
}

// ShipsInVain is what the included files say and the policy's own rules leave without
// effect.
func (p *Policy) ShipsInVain() []Mistake { return p.shipped.vain }

// Ships is how many tunnels the policy ships.
func (p *Policy) Ships() int { return len(p.shipped.tunnels) }

// ShippedIn is the file in which the policy ships the tunnel called name; empty
// when it ships none of that name.
func (p *Policy) ShippedIn(name string) string {
	if p == nil {
		return ""
	}
	return p.shipped.from[name]
}

// Included lists the files whose tunnels and defaults are in force.
func (p *Policy) Included() []string {
	if p == nil {
		return nil
	}
	return slices.Compact(slices.Sorted(maps.Values(p.shipped.from)))
}

// shippedAlike is the name of the shipped tunnel that has a name, or one that looks
// the same.
func (p *Policy) shippedAlike(name string) string {
	for _, t := range p.shipped.tunnels {
		if plain.SameName(t.Name) == plain.SameName(name) {
			return t.Name
		}
	}
	return ""
}

// shippedPort is the name of the shipped tunnel that has a port.
func (p *Policy) shippedPort(port int) string {
	for _, t := range p.shipped.tunnels {
		if port != 0 && t.Port == port {
			return t.Name
		}
	}
	return ""
}

// include reads the files that the policy includes. What is wrong with one is a
// mistake of the policy; the others count all the same. It reports whether they are
// all that there is.
func (p *Policy) include(f PolicyFile, root *value) (whole bool) {
	listed := root.find("include")
	whole = (p.Err == nil || root != nil && !p.misspelt()) && (listed == nil || listed.sound())
	p.shipped = shipped{from: make(map[string]string), defaults: make(map[string]any)}
	note := func(i int, path string, err error) {
		if err == nil {
			return
		}
		if p.Err == nil {
			p.Err = &Error{Path: f.Path}
		}
		at := listed.list[i].at
		for _, text := range wrongWith(path, err) {
			p.Err.Mistakes = append(p.Err.Mistakes,
				Mistake{Line: at.line, Column: at.column, Path: fmt.Sprintf("include[%d]", i), Text: text})
		}
		whole = false
	}
	var checks []func()
	for i, name := range p.rules.Include {
		path := name
		if !filepath.IsAbs(path) {
			path = filepath.Join(filepath.Dir(f.Path), path)
		}
		data, err := f.read(path)
		p.print += "\x00" + string(data)
		var cfg *Config
		var said *value
		if err == nil {
			cfg, said, err = parse(path, data)
		}
		if err == nil && said != nil {
			err = p.ship(path, cfg, said)
			p.shipped.vain = append(p.shipped.vain, p.inVain(i, path, cfg, said, listed.list[i])...)
			checks = append(checks, func() { note(i, path, p.checkRules(path, cfg, said)) })
		}
		note(i, path, err)
	}
	if whole { // every tunnel that is shipped is known
		for _, check := range checks {
			check()
		}
	}
	return whole
}

// inVain is what the i-th included file says and the rules leave without effect.
func (p *Policy) inVain(i int, path string, cfg *Config, said, listed *value) []Mistake {
	alone := *p
	alone.shipped = shipped{}
	alone.Err = &Error{} // names of tunnels are checkRules' to check
	var list []Mistake
	for _, m := range alone.overruled(cfg, said) {
		text := (&Error{Path: path, Mistakes: []Mistake{m}}).Error()
		list = append(list, Mistake{Line: listed.at.line, Column: listed.at.column, Path: fmt.Sprintf("include[%d]", i), Text: text})
	}
	return list
}

// wrongWith says what is wrong with an included file, a text for each mistake.
func wrongWith(path string, err error) []string {
	bad, ok := errors.AsType[*Error](err)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return []string{"there is no " + path}
	case !ok:
		return []string{err.Error()}
	}
	return strings.Split(bad.Error(), "\n")
}

// checkFile returns an *Error when a rule of the user's file at path names a tunnel
// that the file does not have. Where there is a policy it may have shipped the tunnel
// until now: the file then stays good, and Bind says that the rule has no effect.
func (p *Policy) checkFile(path string, cfg *Config, root *value) error {
	if p != nil {
		return nil
	}
	return p.checkRules(path, cfg, root)
}

// checkRules returns an *Error when a rule of the file at path names a tunnel that
// neither the file has nor the policy ships.
func (p *Policy) checkRules(path string, cfg *Config, root *value) error {
	var ms mistakes
	for _, i := range p.strays(cfg) {
		at := root.get("access").get("auto_assume").list[i].get("tunnel")
		mark(at, strayPath(i), &ms, "there is no tunnel %s", quote(cfg.Access.AutoAssume[i].Tunnel))
	}
	if err := ms.err(path); err != nil {
		return err
	}
	return nil
}

// strays are the places of the rules in a file that name a tunnel which neither it
// has nor the policy ships.
func (p *Policy) strays(cfg *Config) []int {
	return slices.DeleteFunc(cfg.strays(), func(i int) bool { return p.ShippedIn(cfg.Access.AutoAssume[i].Tunnel) != "" })
}

func strayPath(i int) string { return fmt.Sprintf("access.auto_assume[%d].tunnel", i) }

// ship adds what the file at path says.
func (p *Policy) ship(path string, cfg *Config, root *value) error {
	for _, t := range cfg.Tunnels {
		if first := p.shippedAlike(t.Name); first != "" {
			return fmt.Errorf("the tunnel %s of %s, or one that looks the same, is in %s already", quote(t.Name), path, p.ShippedIn(first))
		}
		if first := p.shippedPort(t.Port); first != "" {
			return fmt.Errorf("the tunnel %s of %s has the port of %s", quote(t.Name), path, quote(first))
		}
	}
	for _, t := range cfg.Tunnels {
		p.shipped.from[t.Name] = path
	}
	p.shipped.tunnels = append(p.shipped.tunnels, cfg.Tunnels...)
	p.shipped.profiles = append(p.shipped.profiles, cfg.Profiles...)
	said := root.json().(map[string]any)
	delete(said, "tunnels")
	delete(said, "profiles")
	p.shipped.defaults = over(p.shipped.defaults, said)
	return nil
}

// over is JSON in which what top says comes before what base says.
func over(base, top map[string]any) map[string]any {
	both := maps.Clone(base)
	for key, v := range top {
		below, isMap := both[key].(map[string]any)
		if above, ok := v.(map[string]any); ok && isMap {
			v = over(below, above)
		}
		both[key] = v
	}
	return both
}

// Bind returns the config that is in force when a user's file says what cfg does:
// with what the policy ships, and within what it allows. Each thing in the file that
// the policy leaves without effect is named.
func (p *Policy) Bind(cfg *Config) (bound *Config, overruled []Mistake) {
	if p == nil {
		return cfg, nil
	}
	o := overruling{policy: p, cfg: cfg}
	bound = o.merged()
	bound.Profiles, bound.Tunnels, bound.Policy, bound.path = o.profiles(), o.tunnels(), p, cfg.path
	o.rules()
	if name := p.shippedPort(cfg.Kube.Port); name != "" {
		o.note("kube.port", "port %d is reserved for the tunnel %s, which the policy %s ships", cfg.Kube.Port, quote(name), p.Path)
		bound.Kube.Port = 0
	}
	if bound.Metrics.On() && p.Allows(FeatureMetrics) != nil {
		if cfg.Metrics.On() {
			o.note("metrics", "%s", p.why(string(FeatureMetrics)))
		}
		bound.Metrics = Metrics{}
	}
	if name := p.shippedPort(bound.Metrics.Port()); bound.Metrics.On() && name != "" {
		o.note("metrics.listen", "port %d is reserved for the tunnel %s, which the policy %s ships",
			bound.Metrics.Port(), quote(name), p.Path)
		bound.Metrics = Metrics{}
	}
	if bound.Telemetry.Local() && p.Allows(FeatureTelemetry) != nil {
		if cfg.Telemetry.Local() {
			o.note("telemetry", "%s", p.why(string(FeatureTelemetry)))
		}
		bound.Telemetry = telemetry{}
	}
	return bound, o.notes
}

// overruling is one Bind.
type overruling struct {
	policy *Policy
	cfg    *Config
	tunnel string // the one that notes are about
	notes  []Mistake
}

func (o *overruling) note(path, format string, args ...any) {
	o.notes = append(o.notes, Mistake{Path: path, Tunnel: o.tunnel, Text: "this has no effect: " + fmt.Sprintf(format, args...)})
}

// rules notes the user's rules for tunnels that are not there. They stay, and assume
// nothing: the next rule for the same roles would do what this one was written to
// avoid, and the policy may ship the tunnel again.
func (o *overruling) rules() {
	if o.policy.Err != nil {
		return // what is shipped may be hidden by the policy's mistakes
	}
	for _, i := range o.policy.strays(o.cfg) {
		o.note(strayPath(i), "there is no tunnel %s, in this file or among those that the policy %s ships",
			quote(o.cfg.Access.AutoAssume[i].Tunnel), o.policy.Path)
	}
}

// merged is the user's config over the policy's defaults, all but profiles and
// tunnels.
func (o *overruling) merged() *Config {
	alone := *o.cfg
	alone.Tunnels, alone.Profiles = nil, nil
	if len(o.policy.shipped.defaults) == 0 {
		return &alone
	}
	top := maps.Clone(o.cfg.said)
	delete(top, "tunnels")
	delete(top, "profiles")
	both := Default()
	raw, err := json.Marshal(over(o.policy.shipped.defaults, top))
	if err == nil {
		err = json.Unmarshal(raw, both)
	}
	if err != nil {
		panic(fmt.Sprintf("[unexpected] merge the policy's defaults: %v", err)) // both were made by decode
	}
	return both
}

// profiles are the user's, each with what a shipped one of the same proxy adds,
// then the other shipped ones.
func (o *overruling) profiles() []Profile {
	list := slices.Clone(o.cfg.Profiles)
	for i := range list {
		p, path := &list[i], fmt.Sprintf("profiles[%d]", i)
		if p.Insecure && isFalse(o.policy.rules.Insecure) {
			o.note(path+".insecure", "%s", o.policy.why(string(featureInsecure)))
		}
		if p.Renew.Mode == state.RenewAuto && isFalse(o.policy.rules.Renew.Auto) {
			o.note(path+".renew.mode", "%s", o.policy.why(string(featureRenewAuto)))
		}
		if err := o.policy.AllowsProxy(p.Proxy); err != nil {
			o.note(path+".proxy", "%s", o.policy.why("proxies"))
		}
	}
	for _, s := range o.policy.shipped.profiles {
		i := slices.IndexFunc(list, func(p Profile) bool { return SameProxy(p.Proxy, s.Proxy) })
		if i < 0 {
			list = append(list, s)
			continue
		}
		p := &list[i]
		p.Renew.Mode, p.Renew.Before = cmp.Or(p.Renew.Mode, s.Renew.Mode), cmp.Or(p.Renew.Before, s.Renew.Before)
		if !o.says(i, "auth") {
			p.Auth = cmp.Or(p.Auth, s.Auth)
		}
		if !o.says(i, "ca_file") {
			p.CAFile = cmp.Or(p.CAFile, s.CAFile)
		}
		if !o.says(i, "browser") && len(p.Browser) == 0 {
			p.Browser = s.Browser
		}
	}
	for i := range list {
		if isFalse(o.policy.rules.Insecure) {
			list[i].Insecure = false
		}
		if isFalse(o.policy.rules.Renew.Auto) && list[i].Renew.Mode == state.RenewAuto {
			list[i].Renew.Mode = state.RenewAsk
		}
	}
	return list
}

// says reports whether the user's file has a key of its profile at i, though it be
// empty. The profiles after the user's are shipped ones.
func (o *overruling) says(i int, key string) bool {
	list, _ := o.cfg.said["profiles"].([]any)
	if i >= len(list) {
		return false
	}
	profile, _ := list[i].(map[string]any)
	return profile[key] != nil
}

// tunnels are the shipped ones, then those of the user's that have neither the name of
// a shipped one nor a name that looks the same. One that has the port of a shipped one
// gets a port as if it had none.
func (o *overruling) tunnels() []state.TunnelSpec {
	p := o.policy
	list := slices.Clone(p.shipped.tunnels)
	for i, t := range o.cfg.Tunnels {
		path := fmt.Sprintf("tunnels[%d]", i)
		o.tunnel = t.Name
		switch {
		case p.ShippedIn(t.Name) != "":
			o.note(path, "the tunnel %s is left out, since the policy %s ships one of that name: rename yours", quote(t.Name), p.Path)
			continue
		case p.shippedAlike(t.Name) != "":
			o.note(path, "the tunnel %s is left out, since its name looks like %s, which the policy %s ships: rename yours",
				quote(t.Name), quote(p.shippedAlike(t.Name)), p.Path)
			continue
		}
		if name := p.shippedPort(t.Port); name != "" {
			o.note(path+".port", "port %d is reserved for the tunnel %s, which the policy %s ships, so %s gets another port",
				t.Port, quote(name), p.Path, quote(t.Name))
			t.Port = 0
		}
		if p.guards() && !t.Guarded() {
			o.note(path+".guard", "%s", p.why("guard"))
		}
		if t.HoldDuration() > p.holdAtMost() && t.Hold != nil {
			o.note(path+".hold", "%s", p.why("hold"))
		}
		list = append(list, t)
	}
	o.tunnel = ""
	for i := range list {
		if p.guards() {
			list[i].Guard = state.GuardOn
		}
		if list[i].HoldDuration() > p.holdAtMost() {
			list[i].Hold = new(state.Duration(p.holdAtMost()))
		}
	}
	return list
}

// overruled is what Bind names, with the places in the file.
func (p *Policy) overruled(cfg *Config, root *value) []Mistake {
	_, list := p.Bind(cfg)
	for i, m := range list {
		at := root
		for part := range strings.SplitSeq(strings.NewReplacer("[", ".", "]", "").Replace(m.Path), ".") {
			next := at.get(part)
			if n, err := strconv.Atoi(part); err == nil && at != nil && n < len(at.list) {
				next = at.list[n]
			}
			at = next
		}
		if at != nil {
			list[i].Line, list[i].Column = at.at.line, at.at.column
		}
	}
	return list
}
