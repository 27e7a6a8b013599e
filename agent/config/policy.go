package config

import (
	"cmp"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"berth/agent/state"
)

// Policy is what whoever looks after this machine has decided for the berth of
// every user on it: what their config files cannot loosen, and defaults and
// tunnels. A nil Policy forbids nothing. It is not changed once made.
//
// A policy with mistakes fails closed: of its rules, those that cannot be read
// hold at their strictest.
type Policy struct {
	Path string // of the policy file
	Err  *Error // what is wrong with the file or one that it includes; nil when nothing is

	rules   policyRules
	assumed map[string]bool // the rules that are strict because Err hides what they say
	lines   map[string]int  // of the file's rules
	shipped shipped
	print   string // differs when anything that was read differs
}

// policyRules are the keys of a policy file.
type policyRules struct {
	Version    int             `json:"version,omitempty" jsonschema:"enum=1,default=1"`
	Banner     string          `json:"banner,omitempty" jsonschema:"maxLength=200,example=Managed by Example IT: ask in #berth"`
	Insecure   *bool           `json:"insecure,omitempty" jsonschema:"default=true"`
	Guard      state.Guard     `json:"guard,omitempty" jsonschema:"enum=on"`
	Remember   *bool           `json:"remember,omitempty" jsonschema:"default=true"`
	Renew      renewRule       `json:"renew,omitzero"`
	Hold       *state.Duration `json:"hold,omitempty" jsonschema:"example=30s"`
	Proxies    []string        `json:"proxies,omitempty" jsonschema:"minItems=1,example=teleport.example.com:443,example=*.example.com"`
	Metrics    onOff           `json:"metrics,omitempty" jsonschema:"enum=on,enum=off,default=on"`
	Telemetry  onOff           `json:"telemetry,omitempty" jsonschema:"enum=on,enum=off,default=on"`
	Links      onOff           `json:"links,omitempty" jsonschema:"enum=on,enum=off,default=on"`
	Window     onOff           `json:"window,omitempty" jsonschema:"enum=on,enum=off,default=on"`
	Recordings recordingsRule  `json:"recordings,omitzero"`
	Include    []string        `json:"include,omitempty" jsonschema:"example=tunnels.yaml"`

	noProxy bool // which proxies are allowed is not known, so none is
}

// renewRule is what a policy says of renewing sessions.
type renewRule struct {
	Auto *bool `json:"auto,omitempty" jsonschema:"default=true"`
}

// recordingsRule is what a policy says of recordings.
type recordingsRule struct {
	Export onOff `json:"export,omitempty" jsonschema:"enum=on,enum=off,default=on"`
}

// onOff is on, which leaves something to the user, or off.
type onOff string

const off onOff = "off"

// Feature is something of berth that a policy can switch off. Its text is the
// policy's key.
type Feature string

// The features.
const (
	FeatureRemember        Feature = "remember"
	FeatureMetrics         Feature = "metrics"
	FeatureTelemetry       Feature = "telemetry"
	FeatureLinks           Feature = "links"
	FeatureWindow          Feature = "window"
	FeatureRecordingExport Feature = "recordings.export"

	featureInsecure  Feature = "insecure"
	featureRenewAuto Feature = "renew.auto"
)

// strictest sets each rule that fails closed to what allows least.
var strictest = map[string]func(*policyRules){
	string(featureInsecure):        func(r *policyRules) { r.Insecure = new(false) },
	"guard":                        func(r *policyRules) { r.Guard = state.GuardOn },
	string(FeatureRemember):        func(r *policyRules) { r.Remember = new(false) },
	string(featureRenewAuto):       func(r *policyRules) { r.Renew.Auto = new(false) },
	"hold":                         func(r *policyRules) { r.Hold = new(state.Duration(0)) },
	"proxies":                      func(r *policyRules) { r.noProxy = true },
	string(FeatureMetrics):         func(r *policyRules) { r.Metrics = off },
	string(FeatureTelemetry):       func(r *policyRules) { r.Telemetry = off },
	string(FeatureLinks):           func(r *policyRules) { r.Links = off },
	string(FeatureWindow):          func(r *policyRules) { r.Window = off },
	string(FeatureRecordingExport): func(r *policyRules) { r.Recordings.Export = off },
}

// PolicyError says that a policy forbids something.
type PolicyError struct {
	What string // what was to be done, as the beginning of a sentence
	Why  string // "the policy /etc/berth/policy.yaml says links: off"
}

func (e *PolicyError) Error() string { return e.What + ": " + e.Why }

// NextStep is what a person can do.
func (e *PolicyError) NextStep() string { return policyHint }

// Hint is the next step of a person whom the policy is in the way of.
func (p *Policy) Hint() string { return policyHint }

const policyHint = "ask whoever looks after this machine"

// Allows returns nil when the policy leaves the feature to the user, else a
// *PolicyError.
func (p *Policy) Allows(f Feature) error {
	if p == nil {
		return nil
	}
	r, what := p.rules, ""
	switch {
	case f == FeatureRemember && isFalse(r.Remember):
		what = "berth may not remember passwords here"
	case f == FeatureMetrics && r.Metrics == off:
		what = "metrics are switched off here"
	case f == FeatureTelemetry && r.Telemetry == off:
		what = "telemetry is switched off here"
	case f == FeatureLinks && r.Links == off:
		what = "berth:// links are switched off here"
	case f == FeatureWindow && r.Window == off:
		what = "the window is switched off here"
	case f == FeatureRecordingExport && r.Recordings.Export == off:
		what = "recordings may not be exported here"
	default:
		return nil
	}
	return &PolicyError{What: what, Why: p.why(string(f))}
}

// AllowsProxy returns nil when the policy allows logins and tunnels at the proxy
// at addr, else a *PolicyError.
func (p *Policy) AllowsProxy(addr string) error {
	if p == nil || len(p.rules.Proxies) == 0 && !p.rules.noProxy ||
		slices.ContainsFunc(p.rules.Proxies, func(pattern string) bool { return matchesProxy(pattern, addr) }) {
		return nil
	}
	return &PolicyError{What: fmt.Sprintf("the proxy %s is not allowed here", addr), Why: p.why("proxies")}
}

// Proxies are the proxies that are allowed: none means every one, and one without a
// name that none is.
func (p *Policy) Proxies() []string {
	switch {
	case p == nil:
		return nil
	case p.rules.noProxy:
		return []string{""}
	}
	return p.rules.Proxies
}

// AllowsTunnel returns nil when the policy allows a tunnel as spec has it, else a
// *PolicyError.
func (p *Policy) AllowsTunnel(spec state.TunnelSpec) error {
	what := ""
	switch {
	case p == nil:
	case p.guards() && !spec.Guarded():
		return &PolicyError{What: "a tunnel without its guard is not allowed here", Why: p.why("guard")}
	case p.rules.Hold != nil && spec.Hold != nil && *spec.Hold > *p.rules.Hold:
		return &PolicyError{What: fmt.Sprintf("holding clients for %s is not allowed here", spec.Hold), Why: p.why("hold")}
	case p.ShippedIn(spec.Name) != "":
		what = fmt.Sprintf("the tunnel %q is there already", spec.Name)
	case p.shippedAlike(spec.Name) != "":
		what = fmt.Sprintf("the name %q looks like that of the tunnel %q", spec.Name, p.shippedAlike(spec.Name))
	case p.shippedPort(spec.Port) != "":
		what = fmt.Sprintf("port %d is reserved for the tunnel %q", spec.Port, p.shippedPort(spec.Port))
	}
	if what == "" {
		return nil
	}
	return &PolicyError{What: what, Why: "the policy " + p.Path + " ships it"}
}

// Banner is the policy's line for everyone who uses berth here; often empty.
func (p *Policy) Banner() string {
	if p == nil {
		return ""
	}
	return p.rules.Banner
}

// Forbids lists what the policy forbids, each as the file has or would have it,
// such as "links: off".
func (p *Policy) Forbids() []string {
	if p == nil {
		return nil
	}
	var list []string
	for _, key := range policyKeys {
		if said := p.said(key); said != "" {
			list = append(list, said)
		}
	}
	return list
}

// policyKeys are the rules in the order in which they are listed.
var policyKeys = []string{
	string(featureInsecure), "guard", string(FeatureRemember), string(featureRenewAuto), "hold", "proxies",
	string(FeatureMetrics), string(FeatureTelemetry), string(FeatureLinks), string(FeatureWindow), string(FeatureRecordingExport),
}

// said is a rule that forbids something, as the file says it; empty when it
// forbids nothing.
func (p *Policy) said(key string) string {
	r := p.rules
	switch key {
	case string(featureInsecure):
		return saidFalse(key, r.Insecure)
	case string(FeatureRemember):
		return saidFalse(key, r.Remember)
	case string(featureRenewAuto):
		return saidFalse(key, r.Renew.Auto)
	case "guard":
		if p.guards() {
			return "guard: on"
		}
	case "hold":
		if r.Hold != nil {
			return "hold: " + r.Hold.String()
		}
	case "proxies":
		if r.noProxy || len(r.Proxies) > 0 {
			return "proxies: [" + strings.Join(r.Proxies, ", ") + "]"
		}
	default:
		if map[string]onOff{
			string(FeatureMetrics): r.Metrics, string(FeatureTelemetry): r.Telemetry, string(FeatureLinks): r.Links, string(FeatureWindow): r.Window,
			string(FeatureRecordingExport): r.Recordings.Export,
		}[key] == off {
			return key + ": off"
		}
	}
	return ""
}

func saidFalse(key string, b *bool) string {
	if isFalse(b) {
		return key + ": false"
	}
	return ""
}

// why names the policy and its rule, or that the rule holds because the policy
// has mistakes.
func (p *Policy) why(key string) string {
	if p.assumed[key] {
		return fmt.Sprintf("the policy %s has mistakes, and until they are mended %s holds", p.Path, p.said(key))
	}
	where := p.Path
	if line := p.lines[key]; line > 0 {
		where = fmt.Sprintf("%s:%d", p.Path, line)
	}
	return fmt.Sprintf("the policy %s says %s", where, p.said(key))
}

func (p *Policy) guards() bool { return p.rules.Guard == state.GuardOn }

// holdAtMost is the longest hold that the policy allows.
func (p *Policy) holdAtMost() time.Duration {
	if p.rules.Hold == nil {
		return MaxHold
	}
	return time.Duration(*p.rules.Hold)
}

func isFalse(b *bool) bool { return b != nil && !*b }

// matchesProxy reports whether a proxy's address is the one of a rule, in which
// *. stands for any host below a domain.
func matchesProxy(pattern, addr string) bool {
	wantHost, wantPort, err := net.SplitHostPort(normalProxy(pattern))
	if err != nil {
		return false
	}
	host, port, err := net.SplitHostPort(normalProxy(addr))
	if err != nil || port != wantPort {
		return false
	}
	if domain, ok := strings.CutPrefix(wantHost, "*"); ok {
		return strings.HasSuffix(host, domain) && len(host) > len(domain)
	}
	return host == wantHost
}

// checkPolicy adds the mistakes that the schema of a policy cannot see.
func checkPolicy(root *value, ms *mistakes) {
	checkText(root, "", ms)
	checkEmpty(root, "", ms)
	checkDuration(root.get("hold"), "hold", 0, MaxHold, ms)
	if proxies := root.get("proxies"); proxies != nil {
		for i, v := range proxies.list {
			s, ok := v.str()
			if !ok {
				continue
			}
			path, host := fmt.Sprintf("proxies[%d]", i), strings.TrimPrefix(s, "*.")
			if why := proxyRefusal(host); why != "" {
				mark(v, path, ms, "%s", why)
			} else if strings.Contains(host, "*") {
				mark(v, path, ms, "%s has a * in its midst: it may only stand first, as in *.example.com", quote(s))
			}
		}
	}
	if include := root.get("include"); include != nil {
		for i, v := range include.list {
			if s, ok := v.str(); ok && cmp.Or(s, "~")[0] == '~' {
				mark(v, fmt.Sprintf("include[%d]", i), ms, "%s is no file: write an absolute path, or one from the policy's folder",
					quote(s))
			}
		}
	}
}

// checkEmpty refuses what is left empty, however deep: whoever wrote it wanted some
// rule.
func checkEmpty(v *value, path string, ms *mistakes) {
	if v.null && !v.wrong && path != "" {
		mark(v, path, ms, "this is empty: fill it in, or delete it")
	}
	for _, m := range v.keys {
		checkEmpty(m.val, join(path, m.name), ms)
	}
	for i, e := range v.list {
		checkEmpty(e, fmt.Sprintf("%s[%d]", path, i), ms)
	}
}
