package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/agent/state"
)

func TestDiff(t *testing.T) {
	db := state.TunnelSpec{Name: "a", Kind: state.KindDB, Cluster: "c", Resource: "r", Port: 15000}
	with := func(change func(*state.TunnelSpec)) state.TunnelSpec {
		changed := db
		change(&changed)
		return changed
	}
	tunnels := func(list ...state.TunnelSpec) *Config { return &Config{Version: 1, Tunnels: list} }
	other := with(func(t *state.TunnelSpec) { t.Name = "b" })
	moved := with(func(t *state.TunnelSpec) { t.Port = 15001 })
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		from, to *Config
		want     Changes
	}{
		"nothing": {tunnels(db), tunnels(db), Changes{}},
		"added":   {tunnels(db), tunnels(other, db), Changes{Added: []state.TunnelSpec{other}}},
		"removed": {tunnels(db, other), tunnels(other), Changes{Removed: []state.TunnelSpec{db}}},
		"changed": {tunnels(db, other), tunnels(moved, other), Changes{Changed: []state.TunnelSpec{moved}}},
		"renamed": {tunnels(db), tunnels(other), Changes{Added: []state.TunnelSpec{other}, Removed: []state.TunnelSpec{db}}},
		"order":   {tunnels(db, other), tunnels(other, db), Changes{}},
		"default_written": {tunnels(db), tunnels(with(func(t *state.TunnelSpec) {
			t.Hold = new(state.Duration(state.DefaultHold))
			t.Engine = state.EngineAuto
		})), Changes{}},
		"hold":            {tunnels(db), tunnels(with(func(t *state.TunnelSpec) { t.Hold = new(state.Duration) })), Changes{Changed: []state.TunnelSpec{with(func(t *state.TunnelSpec) { t.Hold = new(state.Duration) })}}},
		"engine":          {tunnels(db), tunnels(with(func(t *state.TunnelSpec) { t.Engine = state.EngineTSH })), Changes{Changed: []state.TunnelSpec{with(func(t *state.TunnelSpec) { t.Engine = state.EngineTSH })}}},
		"homes":           {Default(), &Config{Homes: []string{"/x"}}, Changes{HomesChanged: true}},
		"same_homes":      {&Config{Homes: []string{"~/.tsh"}}, &Config{Homes: []string{filepath.Join(home, ".tsh"), "~/.tsh"}}, Changes{}},
		"profiles":        {Default(), &Config{Profiles: []Profile{{Proxy: "p"}}}, Changes{ProfilesChanged: true}},
		"profile_changed": {&Config{Profiles: []Profile{{Proxy: "p"}}}, &Config{Profiles: []Profile{{Proxy: "p", Insecure: true}}}, Changes{ProfilesChanged: true}},
		"profile_spelt": {
			&Config{Profiles: []Profile{{Proxy: "p"}, {Proxy: "q"}}},
			&Config{Profiles: []Profile{{Proxy: "q"}, {Proxy: "P:443", Renew: renew{state.RenewAsk, state.Duration(defaultRenewBefore)}}}}, Changes{},
		},
		"notifications": {Default(), &Config{Notifications: notifications{Enabled: new(false)}}, Changes{OthersChanged: true}},
		"enabled_spelt": {Default(), &Config{Notifications: notifications{Enabled: new(true)}}, Changes{}},
		"quiet_hours":   {Default(), &Config{Notifications: notifications{QuietHours: "22:00-07:00"}}, Changes{OthersChanged: true}},
		"kube_port":     {Default(), &Config{Kube: kube{Port: 15440}}, Changes{OthersChanged: true}},
		"as_groups": {
			tunnels(with(func(t *state.TunnelSpec) { t.AsGroups = []string{"g"} })), tunnels(with(func(t *state.TunnelSpec) { t.AsGroups = []string{"h"} })),
			Changes{Changed: []state.TunnelSpec{with(func(t *state.TunnelSpec) { t.AsGroups = []string{"h"} })}},
		},
		"tsh":             {Default(), &Config{TSH: tsh{"/tsh"}}, Changes{OthersChanged: true}},
		"log":             {Default(), &Config{Log: logging{logDebug}}, Changes{OthersChanged: true}},
		"metrics":         {Default(), &Config{Metrics: Metrics{Listen: "127.0.0.1:9090"}}, Changes{OthersChanged: true}},
		"telemetry":       {Default(), &Config{Telemetry: telemetry{Mode: telemetryLocal}}, Changes{OthersChanged: true}},
		"telemetry_spelt": {Default(), &Config{Telemetry: telemetry{Mode: telemetryOff}}, Changes{}},
		"metrics_spelt":   {Default(), &Config{Metrics: Metrics{Enabled: new(false), Labels: labelsHashed}}, Changes{}},
		"log_spelt":       {Default(), &Config{Log: logging{logInfo}}, Changes{}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := Diff(tt.from, tt.to)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("changes differ (-want +got):\n%s", diff)
			}
			if got.Empty() != cmp.Equal(tt.want, Changes{}) {
				t.Errorf("Empty() = %v for %+v", got.Empty(), got)
			}
		})
	}
}

func TestQuietAt(t *testing.T) {
	tests := map[string]struct {
		hours string
		at    string
		want  bool
	}{
		"none":              {"", "23:00", false},
		"night_before":      {"22:00-07:00", "21:59", false},
		"night_begins":      {"22:00-07:00", "22:00", true},
		"night_after_12":    {"22:00-07:00", "03:00", true},
		"night_ends":        {"22:00-07:00", "07:00", false},
		"day_before":        {"12:00-13:30", "11:59", false},
		"day_within":        {"12:00-13:30", "13:29", true},
		"day_ends":          {"12:00-13:30", "13:30", false},
		"spaces":            {"22:00 - 07:00", "23:00", true},
		"nonsense_is_never": {"22-7", "23:00", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			at, err := time.ParseInLocation("15:04", tt.at, time.Local)
			if err != nil {
				t.Fatal(err)
			}
			// A year in which the zone has its present offset.
			at = time.Date(2024, 6, 15, at.Hour(), at.Minute(), 30, 0, time.Local)
			if got := (notifications{QuietHours: tt.hours}).QuietAt(at.UTC()); got != tt.want {
				t.Errorf("%q quiet at %s: %v, want %v", tt.hours, tt.at, got, tt.want)
			}
		})
	}
}

func TestProfile(t *testing.T) {
	c := &Config{Profiles: []Profile{{Proxy: "t.example.com", Auth: "a"}, {Proxy: "[::1]:3080", Auth: "b"}, {Proxy: "::2", Auth: "d"}}}
	for addr, want := range map[string]string{
		"t.example.com:443":  "a",
		"T.Example.com":      "a",
		"t.example.com:3080": "",
		"[::1]:3080":         "b",
		"[::2]:443":          "d",
		"other":              "",
	} {
		p, ok := c.Profile(addr)
		if p.Auth != want || ok != (want != "") {
			t.Errorf("Profile(%q) = %+v, %v", addr, p, ok)
		}
	}
}

func TestSensitiveRoles(t *testing.T) {
	a := Access{Sensitive: []string{"admin", "prod-*", "[odd"}}
	for role, want := range map[string]bool{"admin": true, "prod-dba": true, "[odd": true, "dba": false, "administrator": false} {
		if got := a.IsSensitive([]string{"viewer", role}); got != want {
			t.Errorf("IsSensitive(%s) = %v, want %v", role, got, want)
		}
	}
	if (Access{}).IsSensitive([]string{"admin"}) {
		t.Error("without a list a role is sensitive")
	}
}

func TestBrowserFor(t *testing.T) {
	c := &Config{Browser: []string{"firefox"}, Profiles: []Profile{{Proxy: "work:443", Browser: []string{"chrome", "--profile=work"}}, {Proxy: "plain"}}}
	for proxy, want := range map[string]string{"work": "chrome --profile=work", "plain:443": "firefox", "else:443": "firefox"} {
		if got := strings.Join(c.BrowserFor(proxy), " "); got != want {
			t.Errorf("BrowserFor(%s) = %q, want %q", proxy, got, want)
		}
	}
	if diff := Diff(&Config{}, c); !diff.OthersChanged || diff.Empty() {
		t.Errorf("a new browser changes nothing: %+v", diff)
	}
}

func TestDefaults(t *testing.T) {
	if got := (state.TunnelSpec{}).HoldDuration(); got != time.Minute {
		t.Errorf("hold %v", got)
	}
	if got := (state.TunnelSpec{Hold: new(state.Duration)}).HoldDuration(); got != 0 {
		t.Errorf("hold of 0s is %v", got)
	}
	p := Profile{}
	if p.RenewMode() != state.RenewAsk || p.RenewBefore() != 15*time.Minute {
		t.Errorf("renew %s %v", p.RenewMode(), p.RenewBefore())
	}
	if !(notifications{}).On() || (notifications{Enabled: new(false)}).On() {
		t.Error("notifications are on unless they are off")
	}
}

func TestPlace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.yaml")
	const text = "version: 1\ntunnels:\n  - {name: a, kind: db, cluster: c, resource: a, port: 15001}\n" +
		"  - name: b\n    kind: db\n    cluster: c\n    resource: b\n    db_name: app\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	for at, want := range map[[2]string]string{
		{"b", "db_name"}: "config.yaml line 8", {"a", "port"}: "config.yaml line 3", {"a", "db_name"}: "", {"none", "db_name"}: "",
	} {
		if got := c.Place(at[0], at[1]); got != want {
			t.Errorf("Place(%q, %q) = %q, want %q", at[0], at[1], got, want)
		}
	}
	bound, _ := (&Policy{}).Bind(c)
	if got := bound.Place("b", "db_name"); got != "config.yaml line 8" {
		t.Errorf("with a policy it is at %q", got)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if got := c.Place("b", "db_name"); got != "" {
		t.Errorf("without the file it is at %q", got)
	}
}

func TestExpand(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("USERPROFILE", home)
	for path, want := range map[string]string{
		"~":        home,
		"~/.tsh":   filepath.Join(home, ".tsh"),
		"~bob/x":   "~bob/x",
		"/abs/~/x": "/abs/~/x",
		"":         "",
	} {
		if got := expand(path); got != want {
			t.Errorf("expand(%q) = %q, want %q", path, got, want)
		}
	}
	c := &Config{Homes: []string{"~/.tsh", filepath.Join(home, ".tsh"), "~/two"}, TSH: tsh{"~/tsh"}}
	if diff := cmp.Diff([]string{filepath.Join(home, ".tsh"), filepath.Join(home, "two")}, c.HomePaths()); diff != "" {
		t.Errorf("homes differ (-want +got):\n%s", diff)
	}
	if got := c.TSHPath(); got != filepath.Join(home, "tsh") {
		t.Errorf("tsh is %q", got)
	}
	if got := (Profile{CAFile: "~/ca.pem"}).CAFilePath(); got != filepath.Join(home, "ca.pem") {
		t.Errorf("CA file is %q", got)
	}
}

func TestDurationString(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", time.Minute: "1m", 90 * time.Second: "1m30s", time.Hour: "1h", 90 * time.Minute: "1h30m",
		10 * time.Minute: "10m", 20 * time.Hour: "20h", 100 * time.Millisecond: "100ms", 3601 * time.Second: "1h0m1s",
	} {
		if got := state.Duration(d).String(); got != want {
			t.Errorf("%v is written %q, want %q", d, got, want)
		}
		var back state.Duration
		if err := back.UnmarshalText([]byte(want)); err != nil || time.Duration(back) != d {
			t.Errorf("%q is read as %v, %v", want, time.Duration(back), err)
		}
	}
}
