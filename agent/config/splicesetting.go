package config

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"berth/agent/state"
)

// The settings that a front end may change, by their keys in the file.
const (
	SettingNotifications = "notifications.enabled"
	SettingQuietHours    = "notifications.quiet_hours"
	SettingBrowser       = "browser"
	SettingRenew         = "renew.mode" // of a proxy
)

// ChangeSetting writes a setting: one of the constants above, for SettingRenew that
// of a proxy. A browser's command is words with blanks between them.
func (d *Document) ChangeSetting(key, proxy, value string) error {
	want := *d.cfg
	var edit change
	var line string
	switch key {
	case SettingNotifications:
		on, err := strconv.ParseBool(value)
		if err != nil {
			return d.badSetting(key, value, "it is true or false")
		}
		want.Notifications.Enabled = &on
		edit, line = setUnder(setTop, "notifications", "enabled", value), "notifications: {enabled: "+value+"}"
	case SettingQuietHours:
		if _, err := parseText(d.path, []byte("notifications: {quiet_hours: "+token(value)+"}")); err != nil {
			return d.badSetting(key, value, "it is like 22:00-07:00, or empty for none")
		}
		want.Notifications.QuietHours = value
		edit, line = setUnder(setTop, "notifications", "quiet_hours", token(value)), "notifications: {quiet_hours: "+token(value)+"}"
	case SettingBrowser:
		if want.Browser = strings.Fields(value); len(want.Browser) == 0 {
			want.Browser = nil
		}
		edit, line = setTop("browser", tokens(want.Browser)), "browser: "+tokens(want.Browser)
	case SettingRenew:
		mode := state.RenewMode(value)
		if !slices.Contains([]state.RenewMode{state.RenewAsk, state.RenewAuto, state.RenewOff}, mode) {
			return d.badSetting(key, value, "it is ask, auto or off")
		}
		want.Profiles = slices.Clone(d.cfg.Profiles)
		i := want.profileAt(proxy)
		line = fmt.Sprintf("profiles: [{proxy: %s, renew: {mode: %s}}]", token(proxy), value)
		if i < 0 {
			want.Profiles = append(want.Profiles, Profile{Proxy: proxy, Renew: renew{Mode: mode}})
			edit = addProfile(fmt.Sprintf("{proxy: %s, renew: {mode: %s}}", token(proxy), value))
		} else {
			want.Profiles[i].Renew.Mode = mode
			edit = inProfile(i, setUnder(setOwn, "renew", "mode", value))
		}
	default:
		return d.badSetting(key, value, "berth changes "+strings.Join([]string{SettingNotifications, SettingQuietHours, SettingBrowser, SettingRenew}, ", "))
	}
	if sameConfig(d.cfg, &want) {
		return nil
	}
	d.begin()
	return d.splice(edit, &want, &RefusedError{Path: d.path, Edit: "change this in it yourself:\n" + line})
}

// Setting is a setting as a file has it.
type Setting struct {
	Key, Proxy string
	Value      string // the default's where the file has none
	Line       int    // zero where the file has none
}

// Settings returns a config file's text, which is empty where there is no file, and the
// settings that ChangeSetting knows, with those of the proxies. A file with mistakes has
// its text and an error.
func Settings(path string, proxies []string) (text string, list []Setting, err error) {
	data, err := readFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", nil, err
	}
	text = string(data)
	cfg, err := parseText(path, data)
	if err != nil {
		return text, nil, err
	}
	var ms mistakes
	top := parseYAML(data, &ms)
	add := func(key, proxy, value string, from *yaml.Node, names ...string) {
		list = append(list, Setting{Key: key, Proxy: proxy, Value: value, Line: lineOf(from, names...)})
	}
	enabled := cfg.Notifications.Enabled == nil || *cfg.Notifications.Enabled
	add(SettingNotifications, "", strconv.FormatBool(enabled), top, "notifications", "enabled")
	add(SettingQuietHours, "", cfg.Notifications.QuietHours, top, "notifications", "quiet_hours")
	add(SettingBrowser, "", strings.Join(cfg.Browser, " "), top, "browser")
	for _, proxy := range proxies {
		profile, _ := cfg.Profile(proxy)
		var item *yaml.Node
		if i := cfg.profileAt(proxy); i >= 0 {
			if _, profiles := lookup(top, "profiles"); profiles != nil && i < len(profiles.Content) {
				item = profiles.Content[i]
			}
		}
		add(SettingRenew, proxy, string(profile.RenewMode()), item, "renew", "mode")
	}
	return text, list, nil
}

// lineOf is the line of a key; zero where there is none.
func lineOf(n *yaml.Node, names ...string) int {
	line := 0
	for _, name := range names {
		if n == nil || n.Kind != yaml.MappingNode {
			return 0
		}
		key, val := lookup(n, name)
		if key == nil {
			return 0
		}
		n, line = val, key.Line
	}
	return line
}

func (d *Document) badSetting(key, value, text string) error {
	return &InvalidSettingError{Key: key, Value: value, Text: text}
}

// InvalidSettingError says that a setting cannot be changed so.
type InvalidSettingError struct{ Key, Value, Text string }

// Error says what it can be.
func (e *InvalidSettingError) Error() string {
	return fmt.Sprintf("%s cannot be %q: %s", e.Key, e.Value, e.Text)
}

// setTop gives one of the file's own keys a value, or takes it out for none.
func setTop(key, token string) change {
	return func(s *source, top *yaml.Node) ([]splice, bool) {
		at, _ := lookup(top, key)
		switch {
		case at != nil:
			return s.setKey(top, key, token)
		case token == "":
			return nil, true
		}
		return s.addTop(top, key+": "+token)
	}
}

// addTop adds a key to the file: on its line, or on a line of its own at the end.
func (s *source) addTop(top *yaml.Node, pair string) ([]splice, bool) {
	end, pad := len(s.text), ""
	switch {
	case top == nil || empty(top):
	case top.Kind != yaml.MappingNode || len(top.Content) == 0:
		return nil, false
	case isFlow(top):
		at, ok := s.lastEnd(top, 0) // it is not empty
		return []splice{{at, at, ", " + pair}}, ok
	default:
		pad = strings.Repeat(" ", top.Column-1)
	}
	return []splice{{end, end, s.open(end) + pad + pair + s.eol()}}, true
}

// setUnder gives a key of a section a value, or takes it out for none. set writes a
// section that is not there.
func setUnder(set func(section, token string) change, section, key, token string) change {
	return func(s *source, top *yaml.Node) ([]splice, bool) {
		_, val := lookup(top, section)
		switch {
		case val == nil || val.Kind != yaml.MappingNode:
			return set(section, "{"+key+": "+token+"}")(s, top)
		case isFlow(val) && len(val.Content) == 0:
			open := s.skipProperties(s.offset(val)) + 1
			return []splice{{open, open, key + ": " + token}}, token != ""
		}
		return s.setKey(val, key, token)
	}
}

// setOwn gives a key of a mapping within the file a value, takes it out for none, or
// adds it.
func setOwn(key, token string) change {
	return func(s *source, mapping *yaml.Node) ([]splice, bool) { return s.setKey(mapping, key, token) }
}

// setKey gives a key of a mapping a value, takes it out for none, or adds it.
func (s *source) setKey(mapping *yaml.Node, key, token string) ([]splice, bool) {
	if mapping.Kind != yaml.MappingNode || len(mapping.Content) == 0 {
		return nil, false
	}
	sp, ok := s.changeKey(mapping, key, token)
	if ok && sp == nil {
		if token == "" {
			return nil, true
		}
		added, there := s.addPairs(mapping, []string{key + ": " + token})
		sp, ok = &added, there
	}
	if !ok {
		return nil, false
	}
	return []splice{*sp}, true
}

// inProfile makes a change within the i-th profile.
func inProfile(i int, c change) change {
	return func(s *source, top *yaml.Node) ([]splice, bool) {
		_, list := lookup(top, "profiles")
		if list == nil || list.Kind != yaml.SequenceNode || i >= len(list.Content) {
			return nil, false
		}
		return c(s, list.Content[i])
	}
}

// addProfile adds a profile after those that are there.
func addProfile(item string) change {
	return func(s *source, top *yaml.Node) ([]splice, bool) {
		if _, list := lookup(top, "profiles"); list != nil && list.Kind == yaml.SequenceNode {
			return s.appendProfile(top, item)
		}
		return setTop("profiles", "["+item+"]")(s, top)
	}
}
