package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"berth/agent/state"
	"berth/internal/testneeds"
)

// writePolicy makes a policy file that counts as an administrator's.
func writePolicy(t *testing.T, text string) PolicyFile {
	t.Helper()
	path := filepath.Join(t.TempDir(), "policy.yaml")
	writeFile(t, path, text)
	return PolicyFile{Path: path, Trusted: func(*os.File) error { return nil }}
}

func parsed(t *testing.T, text string) *Config {
	t.Helper()
	cfg, err := parseText("config.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// loosest is a config that asks for all that a policy can forbid.
const loosest = `profiles: [{proxy: evil.example.net, insecure: true, renew: {mode: auto}}]
tunnels: [{name: a, kind: db, cluster: c, resource: r, port: 15432, guard: off, hold: 5m}]
metrics: {enabled: true}
telemetry: {mode: local}
`

// Each rule does what it says, and is named where it does; without it nothing is
// forbidden.
func TestPolicyRules(t *testing.T) {
	tests := map[string]struct {
		policy string
		allows func(p *Policy, bound *Config) error
		notes  string // the path in loosest that is named
	}{
		"insecure": {policy: "insecure: false", notes: "profiles[0].insecure", allows: func(_ *Policy, bound *Config) error {
			return unless(bound.Profiles[0].Insecure)
		}},
		"guard": {policy: "guard: on", notes: "tunnels[0].guard", allows: func(p *Policy, bound *Config) error {
			return errors.Join(p.AllowsTunnel(state.TunnelSpec{Name: "b", Guard: state.GuardOff}), unless(!bound.Tunnels[0].Guarded()))
		}},
		"renew.auto": {policy: "renew: {auto: false}", notes: "profiles[0].renew.mode", allows: func(_ *Policy, bound *Config) error {
			return unless(bound.Profiles[0].RenewMode() == state.RenewAuto)
		}},
		"hold": {policy: "hold: 30s", notes: "tunnels[0].hold", allows: func(p *Policy, bound *Config) error {
			long := state.TunnelSpec{Name: "b", Hold: new(state.Duration(time.Minute))}
			return errors.Join(p.AllowsTunnel(long), unless(bound.Tunnels[0].HoldDuration() != 30*time.Second))
		}},
		"proxies": {policy: `proxies: [teleport.example.com, "*.corp.example.com:3080"]`, notes: "profiles[0].proxy",
			allows: func(p *Policy, _ *Config) error { return p.AllowsProxy("evil.example.net:443") }},
		"remember": {policy: "remember: false", allows: func(p *Policy, _ *Config) error { return p.Allows(FeatureRemember) }},
		"metrics": {policy: "metrics: off", notes: "metrics", allows: func(p *Policy, bound *Config) error {
			return errors.Join(p.Allows(FeatureMetrics), unless(bound.Metrics.On()))
		}},
		"telemetry": {policy: "telemetry: off", notes: "telemetry", allows: func(p *Policy, bound *Config) error {
			return errors.Join(p.Allows(FeatureTelemetry), unless(bound.Telemetry.Local()))
		}},
		"links":  {policy: "links: off", allows: func(p *Policy, _ *Config) error { return p.Allows(FeatureLinks) }},
		"window": {policy: "window: off", allows: func(p *Policy, _ *Config) error { return p.Allows(FeatureWindow) }},
		"recordings.export": {policy: "recordings: {export: off}", allows: func(p *Policy, _ *Config) error {
			return p.Allows(FeatureRecordingExport)
		}},
	}
	for _, key := range policyKeys {
		if tests[key].policy == "" {
			t.Errorf("the rule %s has no test", key)
		}
	}
	for key, tt := range tests {
		t.Run(key, func(t *testing.T) {
			p := writePolicy(t, "version: 1\n"+tt.policy+"\n").Load()
			if p == nil || p.Err != nil {
				t.Fatalf("the policy is %+v", p)
			}
			bound, notes := p.Bind(parsed(t, loosest))
			if err := tt.allows(p, bound); err == nil {
				t.Error("it is allowed")
			} else if policy := (*PolicyError)(nil); errors.As(err, &policy) && !strings.Contains(policy.Error(), "policy.yaml:2") {
				t.Errorf("%q does not name the policy and its line", policy.Error())
			}
			if got := p.Forbids(); len(got) != 1 || !strings.HasPrefix(got[0], key+": ") {
				t.Errorf("it forbids %q", got)
			}
			if tt.notes == "" && len(notes) > 0 || tt.notes != "" && (len(notes) != 1 || notes[0].Path != tt.notes) {
				t.Errorf("overruled is %v", notes)
			}
			for other, ot := range tests {
				if err := ot.allows(p, bound); other != key && err != nil {
					t.Errorf("%s is forbidden too: %v", other, err)
				}
			}
			cfg := parsed(t, loosest)
			if unbound, _ := (*Policy)(nil).Bind(cfg); unbound != cfg || tt.allows(nil, unbound) != nil {
				t.Error("without a policy it is forbidden too")
			}
		})
	}
}

// unless is an error that stands for something that the policy forbids, unless
// the config still has it.
func unless(has bool) error {
	if has {
		return nil
	}
	return errors.New("not so")
}

func TestPolicyProxies(t *testing.T) {
	p := writePolicy(t, `proxies: [teleport.example.com, "*.corp.example.com:3080"]`).Load()
	for addr, want := range map[string]bool{
		"teleport.example.com:443": true, "TELEPORT.example.com": true, "a.corp.example.com:3080": true, "a.b.corp.example.com:3080": true,
		"teleport.example.com:3080": false, "corp.example.com:3080": false, "evilcorp.example.com:3080": false,
		"a.corp.example.com": false, "teleport.example.com.evil.net:443": false, ".corp.example.com:3080": false, "": false,
	} {
		if got := p.AllowsProxy(addr) == nil; got != want {
			t.Errorf("%q is allowed: %v", addr, got)
		}
	}
}

// A policy with mistakes fails closed: what it says clearly holds, and the rest is
// as strict as can be.
func TestPolicyFailsClosed(t *testing.T) {
	all := []string{
		"insecure: false", "guard: on", "remember: false", "renew.auto: false", "hold: 0s", "proxies: []", "metrics: off",
		"telemetry: off", "links: off", "window: off", "recordings.export: off",
	}
	tests := map[string]struct {
		text    string
		says    string
		forbids []string
	}{
		"not YAML":         {"insecure: [", "policy.yaml", all},
		"a list":           {"- a", "a list", all},
		"binary":           {"insecure: true\n\x00", "invisible", all},
		"a newer version":  {"version: 2\nproxies: [a.example.com]", "newer", all},
		"a misspelt key":   {"insecur: false", "did you mean insecure", all},
		"a value":          {"links: maybe\nmetrics: on", "links", []string{"links: off"}},
		"a banner":         {"banner: 5\nproxies: [a.example.com]", "banner", []string{"proxies: [a.example.com]"}},
		"a proxy":          {"proxies: [a.example.com, 'https://b']", "proxies[1]", []string{"proxies: []"}},
		"no proxy":         {"proxies: []", "proxies: this list is empty: write [", []string{"proxies: []"}},
		"an empty rule":    {"remember:", "empty", []string{"remember: false"}},
		"an empty key":     {"renew: {auto: }", "renew.auto: this is empty", []string{"renew.auto: false"}},
		"a null":           {"recordings: {export: ~}", "recordings.export: this is empty", []string{"recordings.export: off"}},
		"a null in a list": {"proxies: [a.example.com, ~]", "proxies[1]", []string{"proxies: []"}},
		"twice":            {"links: on\nlinks: on", "already on line 1", []string{"links: off"}},
		"a hold":           {"hold: 30 minutes", "hold", []string{"hold: 0s"}},
		"a group":          {"renew: 5", "renew", []string{"renew.auto: false"}},
		"within a group":   {"recordings: {exprot: off}", "did you mean export", []string{"recordings.export: off"}},
		"a second file":    {"links: on\n---\nlinks: off", "second", slices.DeleteFunc(slices.Clone(all), func(s string) bool { return s == "links: off" })},
		"an included file": {"include: [missing.yaml]", "include[0]", nil},
		"a hidden letter":  {"banner: \"a\u202eb\"", "invisible", nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p := writePolicy(t, tt.text).Load()
			if p == nil || p.Err == nil || !strings.Contains(p.Err.Error(), tt.says) {
				t.Fatalf("the policy is %+v, want one that says %q", p, tt.says)
			}
			if got := p.Forbids(); !slices.Equal(got, tt.forbids) {
				t.Errorf("it forbids %q, want %q", got, tt.forbids)
			}
			for _, f := range []Feature{
				FeatureRemember, FeatureMetrics, FeatureTelemetry, FeatureLinks, FeatureWindow, FeatureRecordingExport,
			} {
				if err := p.Allows(f); err != nil && !strings.Contains(err.Error(), "has mistakes") {
					t.Errorf("%v does not say that the policy has mistakes", err)
				}
			}
		})
	}
}

// A file that anyone but an administrator owns or can write is refused.
func TestPolicyOwner(t *testing.T) {
	f := writePolicy(t, "insecure: true\n")
	f.Trusted = func(*os.File) error { return errors.New("it is owned by the user 1000, not by root") }
	if p := f.Load(); p == nil || p.Err == nil || !strings.Contains(p.Err.Error(), "not by root") || len(p.Forbids()) == 0 {
		t.Errorf("the policy is %+v", p)
	}
	f.Trusted = func(f *os.File) error {
		if info, err := f.Stat(); err != nil || !info.IsDir() {
			return err
		}
		return errors.New("users other than root can write it")
	}
	if p := f.Load(); p == nil || p.Err == nil || !strings.Contains(p.Err.Error(), "its folder is not to be trusted") {
		t.Errorf("the policy is %+v", p)
	}
	if p := (PolicyFile{Path: filepath.Join(t.TempDir(), "none", "policy.yaml"), Trusted: f.Trusted}).Load(); p != nil {
		t.Errorf("without a file the policy is %+v", p)
	}
	if p := (PolicyFile{}).Load(); p != nil {
		t.Errorf("without a path the policy is %+v", p)
	}
}

// Only where there is nothing is there no policy: a link to what is not there, such
// as a disk that is not mounted, is a broken one, and so is a missing file in a
// folder where anyone can put one.
func TestPolicyGone(t *testing.T) {
	testneeds.Unix(t, "it makes symbolic links")
	dir := t.TempDir()
	link := func(to, name string) PolicyFile {
		path := filepath.Join(dir, name)
		if err := os.Symlink(to, path); err != nil {
			t.Fatal(err)
		}
		return PolicyFile{Path: path, Trusted: func(*os.File) error { return nil }}
	}
	file, folder := link(filepath.Join(dir, "mnt", "policy.yaml"), "policy.yaml"), link("mnt", "berth")
	folder.Path = filepath.Join(folder.Path, "policy.yaml")
	deeper := folder
	deeper.Path = filepath.Join(dir, "berth", "etc", "policy.yaml")
	around := link("around.yaml", "around.yaml")
	for _, f := range []PolicyFile{file, folder, deeper, around} {
		if p := f.Load(); p == nil || p.Err == nil || len(p.Forbids()) != len(policyKeys) {
			t.Errorf("%s: the policy is %+v", f.Path, p)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "mnt"), 0o700); err != nil {
		t.Fatal(err)
	}
	if p := file.Load(); p == nil || p.Err == nil || !strings.Contains(p.Err.Error(), "which is not there") {
		t.Errorf("the policy is %+v", p)
	}
	if p := folder.Load(); p != nil {
		t.Errorf("in an empty folder the policy is %+v", p)
	}
	folder.Trusted = func(*os.File) error { return errors.New("users other than root can write it") }
	if p := folder.Load(); p == nil || p.Err == nil || !strings.Contains(p.Err.Error(), "its folder is not to be trusted") {
		t.Errorf("in a folder of others the policy is %+v", p)
	}
	writeFile(t, filepath.Join(dir, "mnt", "policy.yaml"), "links: off\n")
	if p := file.Load(); p == nil || p.Err != nil || !slices.Equal(p.Forbids(), []string{"links: off"}) {
		t.Errorf("over a link the policy is %+v", p)
	}
}

// Each folder on the way over links must be an administrator's.
func TestPolicyLinks(t *testing.T) {
	testneeds.Unix(t, "it makes symbolic links")
	top := t.TempDir()
	var dirs [3]string
	for i := range dirs {
		dirs[i] = filepath.Join(top, string(rune('a'+i)))
		if err := os.Mkdir(dirs[i], 0o700); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, filepath.Join(dirs[2], "policy.yaml"), "links: off\n")
	for i := range 2 {
		to := filepath.Join("..", filepath.Base(dirs[i+1]), "policy.yaml")
		if err := os.Symlink(to, filepath.Join(dirs[i], "policy.yaml")); err != nil {
			t.Fatal(err)
		}
	}
	for _, bad := range append(dirs[:], "") {
		p := PolicyFile{Path: filepath.Join(dirs[0], "policy.yaml"), Trusted: func(f *os.File) error {
			if filepath.Base(f.Name()) == filepath.Base(bad) {
				return errors.New("users other than root can write it")
			}
			return nil
		}}.Load()
		if p == nil || (p.Err == nil) != (bad == "") {
			t.Errorf("with a bad folder %q the policy is %+v", bad, p)
		}
	}
}

// So must each folder above those, on a link's way and an included file's too: its
// owner could put another in the place of what is below.
func TestPolicyFoldersAbove(t *testing.T) {
	testneeds.Unix(t, "it makes symbolic links")
	top := t.TempDir()
	for _, dir := range []string{"etc/berth", "outer/inner", "users/way", "shared/files"} {
		if err := os.MkdirAll(filepath.Join(top, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{
		"etc/berth/policy.yaml": "../../users/way/policy.yaml", "users/way/policy.yaml": "../through/inner/policy.yaml",
		"users/through": filepath.Join(top, "outer"),
	} {
		if err := os.Symlink(to, filepath.Join(top, link)); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, filepath.Join(top, "outer/inner/policy.yaml"), "links: off\ninclude: ["+filepath.Join(top, "shared/files/a.yaml")+"]\n")
	writeFile(t, filepath.Join(top, "shared/files/a.yaml"), "log: {level: warn}\n")
	for _, bad := range []string{"", "etc", "etc/berth", "users", "users/way", "outer", "outer/inner", "shared", "shared/files"} {
		p := PolicyFile{Path: filepath.Join(top, "etc/berth/policy.yaml"), Trusted: func(f *os.File) error {
			if bad != "" && strings.HasSuffix(f.Name(), "/"+bad) {
				return errors.New("it is owned by the user 1000, not by root")
			}
			return nil
		}}.Load()
		if p == nil || (p.Err == nil) != (bad == "") {
			t.Errorf("with a bad folder %q the policy is %+v", bad, p)
		} else if bad != "" && !strings.Contains(p.Err.Error(), "not to be trusted: it is owned by the user 1000") {
			t.Errorf("with a bad folder %q: %v", bad, p.Err)
		}
	}
}

// The machine's own place follows no variable of the user's.
func TestSystemPolicy(t *testing.T) {
	for _, name := range []string{"HOME", "BERTH_HOME", "XDG_CONFIG_HOME", "ProgramData", "ALLUSERSPROFILE"} {
		t.Setenv(name, t.TempDir())
	}
	f := SystemPolicy()
	if runtime.GOOS == "linux" && f.Path != "/etc/berth/policy.yaml" || !filepath.IsAbs(f.Path) || f.Trusted == nil {
		t.Errorf("the policy is %+v", f)
	}
	own := filepath.Join(t.TempDir(), "policy.yaml")
	writeFile(t, own, "insecure: true\n")
	if os.Getuid() != 0 {
		if p := (PolicyFile{Path: own, Trusted: f.Trusted}).Load(); p == nil || p.Err == nil {
			t.Errorf("a user's own policy is %+v", p)
		}
		return
	}
	testneeds.Unix(t, "it gives a file away")
	whole := f.Trusted
	f.Trusted = func(file *os.File) error {
		if !strings.HasPrefix(file.Name(), filepath.Dir(own)) { // where tests may write, others may too
			return nil
		}
		return whole(file)
	}
	if p := (PolicyFile{Path: own, Trusted: f.Trusted}).Load(); p == nil || p.Err != nil {
		t.Errorf("root's own policy is %+v", p)
	}
	if err := os.Chown(own, 12345, 12345); err != nil {
		t.Fatal(err)
	}
	if p := (PolicyFile{Path: own, Trusted: f.Trusted}).Load(); p == nil || p.Err == nil ||
		!strings.Contains(p.Err.Error(), "owned by the user 12345, not by root") {
		t.Errorf("a user's policy is %+v", p)
	}
}

func TestPolicyInclude(t *testing.T) {
	f := writePolicy(t, "guard: on\ninclude: [company.yaml, absent.yaml]\n")
	company, absent := filepath.Join(filepath.Dir(f.Path), "company.yaml"), filepath.Join(filepath.Dir(f.Path), "absent.yaml")
	writeFile(t, company, `profiles: [{proxy: teleport.example.com, auth: okta, renew: {mode: ask, before: 30m}}, {proxy: other.example.com}]
tunnels: [{name: orders, kind: db, cluster: c, resource: orders, port: 15500, guard: off}]
notifications: {quiet_hours: "22:00-07:00"}
log: {level: debug}
`)
	writeFile(t, absent, "log: {level: warn}\n")
	p := f.Load()
	if p.Err != nil {
		t.Fatal(p.Err)
	}
	cfg := parsed(t, `profiles: [{proxy: "teleport.example.com:443", renew: {before: 5m}}]
tunnels:
  - {name: mine, kind: db, cluster: c, resource: r}
  - {name: orders, kind: db, cluster: c, resource: other}
  - {name: taken, kind: db, cluster: c, resource: r, port: 15500}
notifications: {enabled: false}
`)
	bound, notes := p.Bind(cfg)
	var names []string
	for _, tu := range bound.Tunnels {
		names = append(names, tu.Name)
	}
	if !slices.Equal(names, []string{"orders", "mine", "taken"}) || bound.Tunnels[2].Port != 0 || !bound.Tunnels[0].Guarded() || bound.Tunnels[0].Resource != "orders" {
		t.Errorf("the tunnels are %+v", bound.Tunnels)
	}
	if len(notes) != 2 || notes[0].Path != "tunnels[1]" || notes[1].Path != "tunnels[2].port" ||
		!strings.Contains(notes[0].Text, `the tunnel "orders" is left out`) || !strings.Contains(notes[1].Text, `so "taken" gets another port`) ||
		notes[0].Tunnel != "orders" || notes[1].Tunnel != "taken" {
		t.Errorf("overruled is %v", notes)
	}
	one, _ := bound.Profile("teleport.example.com")
	if len(bound.Profiles) != 2 || one.Auth != "okta" || one.RenewBefore() != 5*time.Minute || one.Renew.Mode != state.RenewAsk {
		t.Errorf("the profiles are %+v", bound.Profiles)
	}
	if bound.Notifications.On() || bound.Notifications.QuietHours != "22:00-07:00" || bound.LogLevel() != logWarn {
		t.Errorf("the config is %+v", bound)
	}
	if p.ShippedIn("orders") != company || p.ShippedIn("mine") != "" || !slices.Equal(p.Included(), []string{company}) {
		t.Errorf("orders is from %q, all from %q", p.ShippedIn("orders"), p.Included())
	}
	for _, spec := range []state.TunnelSpec{{Name: "orders"}, {Name: "b", Port: 15500}} {
		if err := p.AllowsTunnel(spec); err == nil || !strings.Contains(err.Error(), "ships it") {
			t.Errorf("%+v: %v", spec, err)
		}
	}
	// A slip takes nothing away from an agent that runs, and is named.
	if err := os.Remove(absent); err != nil {
		t.Fatal(err)
	}
	writeFile(t, company, "tunnels: [{name: x}]\n")
	next := f.reload(p)
	if next.Err == nil || !strings.Contains(next.Err.Error(), "include[0]") || !strings.Contains(next.Err.Error(), "include[1]") ||
		next.ShippedIn("orders") == "" || next.fingerprint() == p.fingerprint() {
		t.Errorf("after a slip: %v, orders from %q", next.Err, next.ShippedIn("orders"))
	}
}

// What the user's file sets to nothing, or to false, comes before a default, too.
func TestPolicyDefaultsGiveWay(t *testing.T) {
	f := writePolicy(t, "include: [company.yaml]\n")
	writeFile(t, filepath.Join(filepath.Dir(f.Path), "company.yaml"), `browser: [firefox]
notifications: {quiet_hours: "22:00-07:00"}
metrics: {enabled: true, pprof: true, labels: names}
profiles: [{proxy: a.example.com, auth: okta, browser: [firefox]}, {proxy: b.example.com, auth: okta}]
`)
	p := f.Load()
	if p.Err != nil {
		t.Fatal(p.Err)
	}
	bound, _ := p.Bind(parsed(t, `browser: []
notifications: {quiet_hours: ""}
metrics: {pprof: false}
profiles: [{proxy: a.example.com, auth: "", browser: []}, {proxy: b.example.com}]
`))
	if len(bound.Browser) > 0 || bound.Notifications.QuietHours != "" || bound.Metrics.Pprof || bound.Metrics.Labels != "names" {
		t.Errorf("the config is %+v", bound)
	}
	if a, b := bound.Profiles[0], bound.Profiles[1]; a.Auth != "" || len(a.Browser) > 0 || b.Auth != "okta" {
		t.Errorf("the profiles are %+v", bound.Profiles)
	}
}

// A name that a person takes for a shipped one is reserved, too.
func TestPolicyNamesAlike(t *testing.T) {
	f := writePolicy(t, "include: [company.yaml]\n")
	writeFile(t, filepath.Join(filepath.Dir(f.Path), "company.yaml"), "tunnels: [{name: orders, kind: db, cluster: c, resource: orders}]\n")
	p := f.Load()
	for _, name := range []string{"Orders", "ORDERS", "\u043erders"} {
		if err := p.AllowsTunnel(state.TunnelSpec{Name: name}); err == nil || !strings.Contains(err.Error(), "ships it") {
			t.Errorf("%q: %v", name, err)
		}
	}
	bound, notes := p.Bind(parsed(t, "tunnels: [{name: Orders, kind: db, cluster: c, resource: other}]\n"))
	if len(bound.Tunnels) != 1 || bound.Tunnels[0].Name != "orders" || len(notes) != 1 || notes[0].Path != "tunnels[0]" {
		t.Errorf("the tunnels are %+v, overruled is %v", bound.Tunnels, notes)
	}
}

// What is forbidden is named with its place in the user's file.
func TestPolicyCheck(t *testing.T) {
	p := writePolicy(t, "insecure: false\nguard: on\n").Load()
	path := filepath.Join(t.TempDir(), "config.yaml")
	writeFile(t, path, loosest)
	list, err := Overruled(path, p)
	if err != nil || len(list) != 2 || list[0].Line != 1 || list[1].Line != 2 || list[1].Column == 0 ||
		!strings.Contains(list[1].Text, "policy.yaml:2 says guard: on") {
		t.Errorf("overruled is %v, %v", list, err)
	}
	warnings, err := Check(path, p)
	if err != nil || !slices.ContainsFunc(warnings, func(m Mistake) bool { return m == list[1] }) {
		t.Errorf("warnings are %v, %v", warnings, err)
	}
}

// A rule names a tunnel of its own file or one that the policy ships, from whichever
// file; without the policy the same rule is a mistake.
func TestPolicyRulesNameShippedTunnels(t *testing.T) {
	const rule = "access: {auto_assume: [{roles: [dba], tunnel: orders}]}\n"
	const orders = "tunnels: [{name: orders, kind: db, cluster: c, resource: orders}]\n"
	const mine = "tunnels: [{name: mine, kind: db, cluster: c, resource: r}]\n"
	f := writePolicy(t, "include: [rules.yaml, company.yaml]\n")
	dir := filepath.Dir(f.Path)
	writeFile(t, filepath.Join(dir, "rules.yaml"), rule)
	writeFile(t, filepath.Join(dir, "company.yaml"), orders)
	path, lastGood := filepath.Join(dir, "config.yaml"), filepath.Join(dir, "good.yaml")
	writeFile(t, path, rule+mine)
	policy := f.Load()
	if list, err := Check(path, policy); policy.Err != nil || err != nil || len(list) > 0 {
		t.Errorf("policy %v; check: %v, %v", policy.Err, list, err)
	}
	const stray = `access.auto_assume[0].tunnel: there is no tunnel "orders"`
	for name, check := range map[string]func(string, *Policy) ([]Mistake, error){"check": Check, "overruled": Overruled} {
		if _, err := check(path, nil); err == nil || !strings.Contains(err.Error(), "1:47: "+stray) {
			t.Errorf("%s without the policy: %v", name, err)
		}
	}
	if err := AddTunnel(path, state.TunnelSpec{Name: "more", Kind: state.KindDB, Cluster: "c", Resource: "r"}); err != nil {
		t.Errorf("the file cannot be edited: %v", err)
	}
	watcher := func() *Watcher {
		w, err := NewWatcher(WatcherConfig{Path: path, Policy: f, LastGood: lastGood})
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	w := watcher()
	if got := w.Current(); got.Err != nil || len(got.Config.Tunnels) != 3 || got.Config.Access.AutoAssume[0].Tunnel != "orders" {
		t.Errorf("loaded %+v", got)
	}
	// A rule of a shipped file that names nothing is a mistake of the policy, and what
	// is shipped may then be hidden, so it is none of the user's.
	writeFile(t, filepath.Join(dir, "company.yaml"), "log: {level: warn}\n")
	if p := f.Load(); p.Err == nil || !strings.Contains(p.Err.Error(), "include[0]") || !strings.Contains(p.Err.Error(), stray) {
		t.Errorf("the policy: %v", p.Err)
	} else if _, err := Check(path, p); err != nil {
		t.Errorf("check: %v", err)
	}
	// Once the tunnel is no longer shipped the rule has no effect, and the rest of the
	// file has: what the user changes then, too.
	writeFile(t, f.Path, "include: [company.yaml]\n")
	const note = "1:47: access.auto_assume[0].tunnel: this has no effect: there is no tunnel \"orders\", " +
		"in this file or among those that the policy "
	if list, err := Overruled(path, f.Load()); err != nil || len(list) != 1 || !strings.Contains(list[0].String(), note) {
		t.Errorf("overruled: %v, %v", list, err)
	}
	if err := AddTunnel(path, state.TunnelSpec{Name: "third", Kind: state.KindDB, Cluster: "c", Resource: "r"}); err != nil {
		t.Errorf("the file cannot be edited: %v", err)
	}
	for when, got := range map[string]*Loaded{"after": reload(t, w), "at a start": watcher().Current()} {
		rules := got.Config.Access.AutoAssume
		if got.Err != nil || len(got.Config.Tunnels) != 3 || len(rules) != 1 || rules[0].Tunnel != "orders" || len(got.Overruled) != 1 {
			t.Errorf("%s: %v with %+v", when, got.Err, got.Config)
		}
	}
}

// An edit leaves no rule without its tunnel.
func TestRemoveTunnelOfRule(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.yaml")
	text := "access: {auto_assume: [{roles: [dba], tunnel: a}, {roles: [dba], tunnel: shipped}]}\n" +
		"tunnels: [{name: a, kind: db, cluster: c, resource: r}, {name: b, kind: db, cluster: c, resource: r}]\n"
	writeFile(t, path, text)
	named := (*NamedByRuleError)(nil)
	if err := RemoveTunnel(path, "a"); !errors.As(err, &named) || named.Rule != "access.auto_assume[0]" {
		t.Errorf("a: %v", err)
	}
	if err := RemoveTunnel(path, "b"); err != nil {
		t.Errorf("b: %v", err)
	}
}

// The agent follows the policy as it follows the config, also while the config
// is bad.
func TestPolicyIsFollowed(t *testing.T) {
	f := writePolicy(t, "metrics: off\nproxies: [a.example.com]\n")
	path := filepath.Join(t.TempDir(), "config.yaml")
	writeFile(t, path, loosest)
	w, err := NewWatcher(WatcherConfig{Path: path, Policy: f})
	if err != nil {
		t.Fatal(err)
	}
	if got := w.Current(); got.Config.Policy.Allows(FeatureMetrics) == nil || len(got.Overruled) != 2 {
		t.Errorf("loaded %+v", got)
	}
	writeFile(t, path, "tunnels: 5\n")
	writeFile(t, f.Path, "insecure: [")
	got := reload(t, w)
	if got.Err == nil || got.Config.Profiles[0].Insecure || got.Config.Policy.Err == nil {
		t.Errorf("loaded %+v", got)
	}
	// The proxies that were allowed are known.
	if p := got.Config.Policy; p.AllowsProxy("a.example.com") != nil || p.AllowsProxy("evil.example.net") == nil {
		t.Errorf("proxies are %q", p.Proxies())
	}
	if err := os.Remove(f.Path); err != nil {
		t.Fatal(err)
	}
	if got := reload(t, w); got.Config.Policy != nil || !got.Config.Profiles[0].Insecure {
		t.Errorf("without a policy: %+v", got)
	}
	if _, err := os.Stat(f.Path); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// A slip in a machine's first policy takes no proxy from an agent that runs; the other
// rules are strict. An agent that starts then allows no proxy.
func TestFirstPolicyWithASlip(t *testing.T) {
	f := writePolicy(t, "")
	if err := os.Remove(f.Path); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "config.yaml")
	writeFile(t, path, loosest)
	watcher := func() *Watcher {
		w, err := NewWatcher(WatcherConfig{Path: path, Policy: f})
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	w := watcher()
	writeFile(t, f.Path, "insecure: [")
	for range 2 { // and after another slip
		c := reload(t, w).Config
		if c.Policy.AllowsProxy("evil.example.net") != nil || c.Tunnels[0].HoldDuration() != 0 {
			t.Errorf("proxies %q, hold %s", c.Policy.Proxies(), c.Tunnels[0].HoldDuration())
		}
		if got := c.Policy.Forbids(); len(got) != len(policyKeys)-1 || !c.Tunnels[0].Guarded() || c.Profiles[0].Insecure || c.Metrics.On() {
			t.Errorf("it forbids %q", got)
		}
		writeFile(t, f.Path, "links: [")
	}
	if p := watcher().Current().Config.Policy; p.AllowsProxy("evil.example.net") == nil {
		t.Errorf("at a start proxies are %q", p.Proxies())
	}
}

// A shipped tunnel's port is not served for metrics.
func TestPolicyPortOfMetrics(t *testing.T) {
	f := writePolicy(t, "include: [company.yaml]\n")
	writeFile(t, filepath.Join(filepath.Dir(f.Path), "company.yaml"),
		"tunnels: [{name: orders, kind: db, cluster: c, resource: orders, port: 15500}]\n")
	p := f.Load()
	for listen, taken := range map[string]bool{"127.0.0.1:15500": true, "127.0.0.1:15501": false, "/run/berth.sock": false} {
		bound, notes := p.Bind(parsed(t, "metrics: {enabled: true, listen: '"+listen+"'}\n"))
		if bound.Metrics.On() == taken || (len(notes) == 1 && notes[0].Path == "metrics.listen") != taken {
			t.Errorf("%s: on %v, overruled is %v", listen, bound.Metrics.On(), notes)
		}
	}
}

func FuzzPolicy(f *testing.F) {
	f.Add([]byte("version: 1\ninsecure: false\nproxies: [a.example.com]\nrenew: {auto: false}\n"))
	f.Add([]byte("links: off\nlinks: on\n---\n? [a]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "policy.yaml")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		p := PolicyFile{Path: path, Trusted: func(*os.File) error { return nil }}.Load()
		if p == nil {
			t.Fatal("a policy that is there counts as none")
		}
		p.Bind(Default())
		if p.Err == nil && len(p.assumed) > 0 {
			t.Errorf("nothing is wrong, and %v are assumed", p.assumed)
		}
	})
}

// After a slip in the limit of holds no client is held, whether the agent runs already
// or starts then.
func TestPolicyHoldAfterASlip(t *testing.T) {
	f := writePolicy(t, "hold: 90s\n")
	last := f.Load()
	writeFile(t, f.Path, "hold: 99h\n")
	if next := f.reload(last); next.Err == nil || next.holdAtMost() != 0 {
		t.Errorf("after a slip: %v, holds of %s", next.Err, next.holdAtMost())
	}
	if fresh := f.Load(); fresh.Err == nil || fresh.holdAtMost() != 0 {
		t.Errorf("at the start: %v, holds of %s", fresh.Err, fresh.holdAtMost())
	}
}
