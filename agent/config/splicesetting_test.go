package config

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestChangeSetting(t *testing.T) {
	const block = "# mine\nnotifications:\n  enabled: true # yes\nprofiles:\n  - proxy: a.example.com:443\n    auth: okta\ntunnels:\n  - {name: pg, kind: db, cluster: c, resource: r}\n"
	for name, tt := range map[string]struct {
		file              string
		key, proxy, value string
		want              string // a part of the file; empty: refused
	}{
		"new_file":        {"", SettingNotifications, "", "false", "notifications: {enabled: false}\n"},
		"only_comments":   {"# mine\n", SettingBrowser, "", "firefox -P work", "# mine\nbrowser: [firefox, \"-P\", work]\n"},
		"value":           {block, SettingNotifications, "", "false", "# mine\nnotifications:\n  enabled: false # yes\n"},
		"key":             {block, SettingQuietHours, "", "22:00-07:00", "  enabled: true # yes\n  quiet_hours: \"22:00-07:00\"\nprofiles:"},
		"section":         {block, SettingBrowser, "", "firefox", "resource: r}\nbrowser: [firefox]\n"},
		"known_proxy":     {block, SettingRenew, "a.example.com:443", "auto", "    auth: okta\n    renew: {mode: auto}\ntunnels:"},
		"new_proxy":       {block, SettingRenew, "b.example.com:443", "off", "    auth: okta\n  - {proxy: \"b.example.com:443\", renew: {mode: off}}\ntunnels:"},
		"first_proxy":     {"version: 1\n", SettingRenew, "b:443", "ask", "version: 1\nprofiles: [{proxy: \"b:443\", renew: {mode: ask}}]\n"},
		"flow":            {"{notifications: {enabled: true}}\n", SettingNotifications, "", "false", "{notifications: {enabled: false}}\n"},
		"taken_out":       {"browser: [firefox]\nversion: 1\n", SettingBrowser, "", "", "version: 1\n"},
		"no_hours":        {"notifications:\n  enabled: true\n  quiet_hours: 22:00-07:00\n", SettingQuietHours, "", "", "notifications:\n  enabled: true\n"},
		"no_bool":         {block, SettingNotifications, "", "maybe", ""},
		"no_hours_at_all": {block, SettingQuietHours, "", "22-7", ""},
		"injection":       {block, SettingQuietHours, "", "x}\ntunnels: []", ""},
		"no_mode":         {block, SettingRenew, "a.example.com:443", "sometimes", ""},
		"no_proxy":        {block, SettingRenew, "a b", "auto", ""},
		"unknown":         {block, "tsh.path", "", "/tmp/evil", ""},
		"anchor":          {"notifications: &n {enabled: true}\n", SettingNotifications, "", "false", "notifications: &n {enabled: false}\n"},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := newDocument("config.yaml", []byte(tt.file))
			if err != nil {
				t.Fatal(err)
			}
			err = d.ChangeSetting(tt.key, tt.proxy, tt.value)
			var invalid *InvalidSettingError
			var refused *RefusedError
			switch {
			case tt.want == "" && (errors.As(err, &invalid) || errors.As(err, &refused)) && string(d.bytes()) == tt.file:
			case err != nil || tt.want == "" || !strings.Contains(string(d.bytes()), tt.want):
				t.Errorf("%v; the file is\n%s", err, d.bytes())
			}
			if tt.want != "" && d.ChangeSetting(tt.key, tt.proxy, tt.value) != nil {
				t.Error("the same change again is refused")
			}
		})
	}
}

func TestSettings(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.yaml")
	proxies := []string{"a.example.com:443", "b.example.com:443"}
	want := func(lines ...int) []Setting {
		return []Setting{
			{SettingNotifications, "", "true", lines[0]}, {SettingQuietHours, "", "", lines[1]}, {SettingBrowser, "", "", lines[2]},
			{SettingRenew, proxies[0], "ask", lines[3]}, {SettingRenew, proxies[1], "ask", lines[4]},
		}
	}
	text, list, err := Settings(path, proxies)
	if err != nil || text != "" || !slices.Equal(list, want(0, 0, 0, 0, 0)) {
		t.Errorf("without a file: %q, %+v, %v", text, list, err)
	}
	file := "notifications:\n  enabled: true\nprofiles:\n  - proxy: b.example.com\n    renew:\n      mode: ask\n"
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	text, list, err = Settings(path, proxies)
	if err != nil || text != file || !slices.Equal(list, want(2, 0, 0, 0, 6)) {
		t.Errorf("%q, %+v, %v", text, list, err)
	}
	if err := os.WriteFile(path, []byte("tunnels: 7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if text, list, err = Settings(path, proxies); err == nil || text == "" || len(list) > 0 {
		t.Errorf("a file with mistakes: %q, %+v, %v", text, list, err)
	}
}
