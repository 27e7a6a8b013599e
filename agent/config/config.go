// Package config is berth's config file: the desired state, written by people
// and kept in version control.
//
// It promises three things. A file with mistakes is never half used: Load
// returns the whole Config or an Error that names every mistake with its line
// and column. A file that goes bad stops nothing: the Watcher keeps the last
// good Config. And an edit made by berth changes what was asked and not one
// byte more: comments, order and line endings stay, or the edit is refused.
package config

import (
	"cmp"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"berth/agent/state"
)

// Version is the version of the file's format that this berth reads and
// writes.
const formatVersion = 1

// defaultRenewBefore is the value of renew.before when it is left out.
const defaultRenewBefore = 15 * time.Minute

// defaultHandoverGrace is the value of handover_grace when it is left out.
const defaultHandoverGrace = 24 * time.Hour

// The bounds of values, checked by parseText.
const (
	minPort        = 1024
	maxPort        = 65535
	MaxHold        = 10 * time.Minute
	minRenewBefore = time.Minute
	maxRenewBefore = 24 * time.Hour
	maxNameLength  = 64

	maxHandoverGrace = 7 * 24 * time.Hour
)

// Config is a whole config file, as written: what is left out there is zero
// here. The methods give the values that follow from it. It is not changed
// once made.
type Config struct {
	// Version of the format; parseText makes a missing one 1.
	Version int `json:"version,omitempty" jsonschema:"enum=1,default=1"`
	// Homes are the TELEPORT_HOME folders to watch; see HomePaths. None means
	// $TELEPORT_HOME, else ~/.tsh.
	Homes []string `json:"homes,omitempty"`
	// Profiles are settings per proxy. A proxy without an entry has the
	// zero Profile's.
	Profiles []Profile `json:"profiles,omitempty"`
	// Tunnels to keep open, in the order of the file.
	Tunnels       []state.TunnelSpec `json:"tunnels,omitempty"`
	Kube          kube               `json:"kube,omitzero"`
	Notifications notifications      `json:"notifications,omitzero"`
	Access        Access             `json:"access,omitzero"`
	TSH           tsh                `json:"tsh,omitzero"`
	// Browser is the command that opens login pages; see BrowserFor. Empty
	// means $BROWSER, else the system's own.
	Browser []string `json:"browser,omitempty"`
	// HandoverGrace is how long an agent that was replaced serves its open
	// connections; see HandoverGraceDuration.
	HandoverGrace *state.Duration `json:"handover_grace,omitempty" jsonschema:"default=24h"`
	Log           logging         `json:"log,omitzero"`

	// Policy is what this Config is bound by, nil when nothing is: see Policy.Bind.
	Policy    *Policy   `json:"-"`
	Metrics   Metrics   `json:"metrics,omitzero"`
	Telemetry telemetry `json:"telemetry,omitzero"`
	Limits    Limits    `json:"limits,omitzero"` // see Limit

	said map[string]any // the file as JSON: with what it sets to nothing, such as a list
	path string         // the file
}

// Profile holds the settings of one proxy.
type Profile struct {
	Proxy string `json:"proxy" jsonschema:"required,example=teleport.example.com:443"` // host:port, or a host for port 443
	Auth  string `json:"auth,omitempty" jsonschema:"example=okta"`                     // connector for tsh login; empty means the cluster's default
	// Browser opens the proxy's login pages; empty means Config.Browser.
	Browser  []string `json:"browser,omitempty" jsonschema:"example=firefox,example=-P,example=work"`
	Renew    renew    `json:"renew,omitzero"`
	CAFile   string   `json:"ca_file,omitempty" jsonschema:"example=~/certs/proxy-ca.pem"` // see CAFilePath; empty means the system's roots
	Insecure bool     `json:"insecure,omitempty" jsonschema:"default=false"`               // true means the proxy's web cert is not verified
}

// renew says how a session is renewed before it ends.
type renew struct {
	Mode   state.RenewMode `json:"mode,omitempty" jsonschema:"enum=ask,enum=auto,enum=off,default=ask"` // empty means RenewAsk
	Before state.Duration  `json:"before,omitzero" jsonschema:"default=15m"`                            // zero means defaultRenewBefore
}

// kube holds the settings that all tunnels of kind kube share.
type kube struct {
	// Port is where the tunnels without a port of their own listen together;
	// zero means that berth chooses one, always the same.
	Port int `json:"port,omitempty" jsonschema:"minimum=1024,maximum=65535,example=15440"`
}

// notifications says when the desktop may be bothered.
type notifications struct {
	Enabled    *bool  `json:"enabled,omitempty" jsonschema:"default=true"` // nil means true
	QuietHours string `json:"quiet_hours,omitempty"`                       // "22:00-07:00" in local time; empty means none; see QuietAt
}

// tsh says how to run tsh.
type tsh struct {
	Path string `json:"path,omitempty" jsonschema:"example=/usr/local/bin/tsh"` // see TSHPath; empty means the one on PATH
}

// logging says how much the agent logs.
type logging struct {
	Level LogLevel `json:"level,omitempty" jsonschema:"enum=debug,enum=info,enum=warn,enum=error,default=info"` // empty means logInfo
}

// LogLevel is the least severity that is logged.
type LogLevel string

// Level is the level as slog has it; that of an unknown text is slog.LevelInfo.
func (l LogLevel) Level() slog.Level {
	var level slog.Level
	if err := level.UnmarshalText([]byte(l)); err != nil {
		return slog.LevelInfo
	}
	return level
}

// The levels of logging.
const (
	logDebug LogLevel = "debug"
	logInfo  LogLevel = "info"
	logWarn  LogLevel = "warn"
	logError LogLevel = "error"
)

// Default is the Config of an empty file.
func Default() *Config { return &Config{Version: formatVersion} }

// HomePaths is Homes with ~ expanded; empty when the file names none.
func (c *Config) HomePaths() []string {
	var paths []string
	for _, h := range c.Homes {
		if p := expand(h); !slices.Contains(paths, p) {
			paths = append(paths, p)
		}
	}
	return paths
}

// Profile returns the settings for the proxy at addr, and whether the file has
// any. A port left out on either side is 443.
func (c *Config) Profile(addr string) (Profile, bool) {
	if i := c.profileAt(addr); i >= 0 {
		return c.Profiles[i], true
	}
	return Profile{}, false
}

// profileAt is the place of what Profile returns; negative when there is none.
func (c *Config) profileAt(addr string) int {
	return slices.IndexFunc(c.Profiles, func(p Profile) bool { return SameProxy(p.Proxy, addr) })
}

// BrowserFor is the command that opens the login pages of the proxy at addr, in
// which %s stands for the address; empty means that the file names none.
func (c *Config) BrowserFor(addr string) []string {
	if p, _ := c.Profile(addr); len(p.Browser) > 0 {
		return p.Browser
	}
	return c.Browser
}

// Tunnel returns the tunnel called name, and whether there is one.
func (c *Config) Tunnel(name string) (state.TunnelSpec, bool) {
	for _, t := range c.Tunnels {
		if t.Name == name {
			return t, true
		}
	}
	return state.TunnelSpec{}, false
}

// TunnelNames are the names of the tunnels, in the order of the file.
func (c *Config) TunnelNames() []string {
	names := make([]string, len(c.Tunnels))
	for i, t := range c.Tunnels {
		names[i] = t.Name
	}
	return names
}

// Place is where a key of a tunnel is written now, as in "config.yaml line 12"; empty
// where no file has it.
func (c *Config) Place(tunnel, key string) string {
	path := cmp.Or(c.Policy.ShippedIn(tunnel), c.path)
	_, root, err := inspect(path)
	tunnels := root.get("tunnels")
	if err != nil || tunnels == nil {
		return ""
	}
	for _, t := range tunnels.list {
		if name, _ := t.get("name").str(); name == tunnel && t.byName[key] != nil {
			return fmt.Sprintf("%s line %d", filepath.Base(path), t.byName[key].at.line)
		}
	}
	return ""
}

// TSHPath is the tsh to run, with ~ expanded; empty means the one on PATH.
func (c *Config) TSHPath() string { return expand(c.TSH.Path) }

// LogLevel is the level of the log, never empty.
func (c *Config) LogLevel() LogLevel {
	if c.Log.Level == "" {
		return logInfo
	}
	return c.Log.Level
}

// HandoverGraceDuration is how long an agent that was replaced serves its open
// connections.
func (c *Config) HandoverGraceDuration() time.Duration {
	if c.HandoverGrace == nil {
		return defaultHandoverGrace
	}
	return time.Duration(*c.HandoverGrace)
}

// CAFilePath is CAFile with ~ expanded.
func (p Profile) CAFilePath() string { return expand(p.CAFile) }

// RenewMode is how the proxy's session is renewed, never empty.
func (p Profile) RenewMode() state.RenewMode {
	if p.Renew.Mode == "" {
		return state.RenewAsk
	}
	return p.Renew.Mode
}

// RenewBefore is how long before its end a session is renewed.
func (p Profile) RenewBefore() time.Duration {
	if p.Renew.Before == 0 {
		return defaultRenewBefore
	}
	return time.Duration(p.Renew.Before)
}

// On reports whether notifications are shown at all.
func (n notifications) On() bool { return n.Enabled == nil || *n.Enabled }

// QuietAt reports whether t, taken as local time, lies in the quiet hours.
func (n notifications) QuietAt(t time.Time) bool {
	from, to, ok := parseQuietHours(n.QuietHours)
	if !ok {
		return false
	}
	t = t.Local()
	at := t.Hour()*60 + t.Minute()
	if from < to {
		return from <= at && at < to
	}
	return at >= from || at < to // over midnight
}

// parseQuietHours returns the minutes of the day of "22:00-07:00".
func parseQuietHours(s string) (from, to int, ok bool) {
	first, second, found := strings.Cut(s, "-")
	if !found {
		return 0, 0, false
	}
	start, err := time.Parse("15:04", strings.TrimSpace(first))
	if err != nil {
		return 0, 0, false
	}
	end, err := time.Parse("15:04", strings.TrimSpace(second))
	if err != nil || end.Equal(start) {
		return 0, 0, false
	}
	return start.Hour()*60 + start.Minute(), end.Hour()*60 + end.Minute(), true
}

// SameProxy reports whether two addresses are one proxy's: a port that is left out
// is 443.
func SameProxy(a, b string) bool { return normalProxy(a) == normalProxy(b) }

// normalProxy makes addresses of one proxy equal.
func normalProxy(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		host, port = strings.Trim(addr, "[]"), "443"
	}
	return net.JoinHostPort(strings.ToLower(host), port)
}

// expand replaces a leading ~ by the user's home folder. Where there is none
// the path stays as it is, and opening it says so.
func expand(path string) string {
	rest, ok := strings.CutPrefix(path, "~")
	if !ok || rest != "" && !os.IsPathSeparator(rest[0]) {
		return path
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return path
	}
	return filepath.Join(home, rest)
}
