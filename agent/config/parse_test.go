package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"berth/agent/state"
	"berth/internal/plain"
	"berth/internal/testneeds"
	"berth/internal/testwait"
)

func TestParse(t *testing.T) {
	tests := map[string]struct {
		in   string
		want *Config
	}{
		"nothing":            {"", Default()},
		"blank":              {" \n\n", Default()},
		"comments":           {"# nothing\n", Default()},
		"null":               {"~\n", Default()},
		"start_marker":       {"---\n", Default()},
		"empty_keys":         {"version:\nhomes:\nprofiles:\ntunnels:\nnotifications:\ntsh:\nlog:\n", Default()},
		"byte_order_mark":    {byteOrderMark + "version: 1\n", Default()},
		"windows_line_ends":  {"version: 1\r\nlog: {level: warn}\r\n", &Config{Version: 1, Log: logging{logWarn}}},
		"no_last_line_end":   {"log:\n  level: debug", &Config{Version: 1, Log: logging{logDebug}}},
		"json":               {`{"version": 1, "homes": ["~/.tsh"]}`, &Config{Version: 1, Homes: []string{"~/.tsh"}}},
		"hexadecimal_port":   {"tunnels: [{name: a, kind: db, cluster: c, resource: r, port: 0x2000}]", &Config{Version: 1, Tunnels: []state.TunnelSpec{{Name: "a", Kind: state.KindDB, Cluster: "c", Resource: "r", Port: 8192}}}},
		"off_is_a_mode":      {"profiles: [{proxy: p, renew: {mode: off}}]", &Config{Version: 1, Profiles: []Profile{{Proxy: "p", Renew: renew{Mode: state.RenewOff}}}}},
		"zero_hold":          {"tunnels: [{name: a, kind: kube, cluster: c, resource: r, hold: 0s}]", &Config{Version: 1, Tunnels: []state.TunnelSpec{{Name: "a", Kind: state.KindKube, Cluster: "c", Resource: "r", Hold: new(state.Duration)}}}},
		"word_like_a_date":   {"tunnels: [{name: 2024-01-02, kind: kube, cluster: c, resource: r}]", &Config{Version: 1, Tunnels: []state.TunnelSpec{{Name: "2024-01-02", Kind: state.KindKube, Cluster: "c", Resource: "r"}}}},
		"empty_ca_file":      {`profiles: [{proxy: p, ca_file: ""}]`, &Config{Version: 1, Profiles: []Profile{{Proxy: "p"}}}},
		"kube_as":            {"kube: {port: 15440}\ntunnels: [{name: a, kind: kube, cluster: c, resource: r, as: u, as_groups: [g, h]}]", &Config{Version: 1, Kube: kube{Port: 15440}, Tunnels: []state.TunnelSpec{{Name: "a", Kind: state.KindKube, Cluster: "c", Resource: "r", As: "u", AsGroups: []string{"g", "h"}}}}},
		"kube_with_empty_db": {`tunnels: [{name: a, kind: kube, cluster: c, resource: r, db_user: ""}]`, &Config{Version: 1, Tunnels: []state.TunnelSpec{{Name: "a", Kind: state.KindKube, Cluster: "c", Resource: "r"}}}},
		"anchors_and_merges": {
			"tunnels:\n  - &a {name: a, kind: db, cluster: c, resource: r, hold: 90s}\n  - {<<: *a, name: b, port: 15000}\n  - {name: d, <<: [*a]}\n",
			&Config{Version: 1, Tunnels: []state.TunnelSpec{
				{Name: "a", Kind: state.KindDB, Cluster: "c", Resource: "r", Hold: new(state.Duration(90 * time.Second))},
				{Name: "b", Kind: state.KindDB, Cluster: "c", Resource: "r", Hold: new(state.Duration(90 * time.Second)), Port: 15000},
				{Name: "d", Kind: state.KindDB, Cluster: "c", Resource: "r", Hold: new(state.Duration(90 * time.Second))},
			}},
		},
		"all_of_it": {
			`version: 1
homes: [~/.tsh, "~"]
profiles:
  - proxy: teleport.example.com:443
    auth: okta
    renew: {mode: auto, before: 1h30m}
    insecure: true
  - {proxy: "[::1]:3080"}
tunnels:
  - {name: prod-pg, kind: db, cluster: example.com, resource: pg-prod, db_user: alice, db_name: app, port: 15432, hold: 10m, engine: tsh}
notifications: {enabled: false, quiet_hours: "22:00-07:00"}
tsh: {path: ~/bin/tsh}
log: {level: error}
`,
			&Config{
				Version: 1, Homes: []string{"~/.tsh", "~"},
				Profiles: []Profile{
					{Proxy: "teleport.example.com:443", Auth: "okta", Renew: renew{state.RenewAuto, state.Duration(90 * time.Minute)}, Insecure: true},
					{Proxy: "[::1]:3080"},
				},
				Tunnels: []state.TunnelSpec{{
					Name: "prod-pg", Kind: state.KindDB, Cluster: "example.com", Resource: "pg-prod", DBUser: "alice", DBName: "app",
					Port: 15432, Hold: new(state.Duration(10 * time.Minute)), Engine: state.EngineTSH,
				}},
				Notifications: notifications{Enabled: new(false), QuietHours: "22:00-07:00"},
				TSH:           tsh{"~/bin/tsh"}, Log: logging{logError},
			},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := parseText("config.yaml", []byte(tt.in))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got, cmpopts.IgnoreUnexported(Config{})); diff != "" {
				t.Errorf("config differs (-want +got):\n%s", diff)
			}
		})
	}
}

// tun is a file with one tunnel that has the given keys besides what it needs.
func tun(keys string) string {
	return "tunnels:\n  - {name: a, kind: db, cluster: c, resource: r, " + keys + "}\n"
}

// Every case lists all that parseText says, without the file's name.
func TestParseMistakes(t *testing.T) {
	testneeds.Unix(t, "absolute paths are written as on Unix")
	tests := map[string]struct {
		in   string
		want []string
	}{
		// The text itself.
		"not_utf8":          {"version: 1\n# \xff\n", []string{`2:3: the byte 0xff is not UTF-8: save the file as UTF-8`}},
		"utf16":             {"\xff\xfev\x00", []string{"the file is UTF-16: save it as UTF-8"}},
		"control_character": {"log: {level: \"\x07\"}\n", []string{"1:15: the character U+0007 is invisible and not allowed: delete it"}},

		// YAML.
		"tab":  {"tunnels:\n\t- name: a\n", []string{"2:1: a tab indents this line, which YAML forbids: use spaces"}},
		"tabs": {"tunnels:\n  - name: a\n\t  kind: db\n \t cluster: c\n", []string{"3:1: a tab indents this line, which YAML forbids: use spaces", "4:2: a tab indents this line, which YAML forbids: use spaces"}},
		"tab_below_another_mistake": {"version: 1: 2\nlog:\n\tlevel: info\n", []string{
			"1:11: a second \": \" on one line: indent this line like its neighbours, or put quotes around the value",
			"3:1: a tab indents this line, which YAML forbids: use spaces",
		}},
		"open_bracket": {"version: 1\ntunnels: [\n", []string{"2:10: a value is missing here: a bracket is not closed, or a bracket or comma is too many"}},
		"open_brace":   {"version: 1\nlog: {level: info\ntsh: {}\n", []string{"2:7: a { is not closed here: a comma or } is missing"}},
		"open_quote":   {"log: {level: 'info}\n", []string{"1:14: a quote is opened here and never closed"}},
		"bad_indent":   {"tunnels:\n  - name: a\n   kind: db\n", []string{`3:4: this line does not fit the list above it: check how far it is indented, or start it with "- "`}},
		"bad_escape":   {`tsh: {path: "C:\tsh\q.exe"}`, []string{"1:20: a backslash in double quotes starts an escape: use single quotes, or double the backslash"}},
		"at_sign":      {"tunnels:\n  - {name: @a}\n", []string{"2:12: a value cannot start with this character: put quotes around it"}},
		"unknown_alias": {"homes: *mine\n", []string{
			"1:12: this alias (*) has no anchor (&) above it: put quotes around the value if it is none",
		}},
		"alias_of_itself":  {"homes: &h [*h]\n", []string{"1:8: homes[0]: a list is not a folder: write an absolute path, or one that starts with ~/", `1:12: homes[0][0]: the alias "*h" contains itself`}},
		"two_documents":    {"version: 1\n---\nlog: {}\n", []string{"2: a second YAML document starts here: berth reads one, so join the two and remove the ---"}},
		"text_after_end":   {"version: 1\n...\nlog: {}\n", []string{"3:1: the document ends above, at the line with ...: remove that line, or what follows it"}},
		"duplicate_key":    {"version: 1\nlog: {}\nversion: 1\n", []string{"3:1: version: this key is already on line 1: keep one of the two"}},
		"tag":              {"log: !secret {level: info}\nversion: !!binary aGk=\n", []string{`1:6: log: the tag "!secret" means nothing to berth: delete it`, `2:10: version: the tag "!!binary" means nothing to berth: delete it`}},
		"wrong_tag":        {"version: !!int one\n", []string{`1:10: version: "one" does not fit its tag !!int`}},
		"key_is_a_list":    {"? [a]\n: b\n", []string{"1:3: a key must be a word"}},
		"merge_of_nothing": {"log: {<<: 1}\n", []string{"1:11: log.<<: << wants the alias of a group of keys, as in <<: *defaults"}},

		// Shape.
		"word":           {"tunnels\n", []string{`1:1: "tunnels" is not a config: write lines like version: 1 and tunnels: …`}},
		"list":           {"- version: 1\n", []string{"1:1: a list is not a config: write lines like version: 1 and tunnels: …"}},
		"newer_version":  {"version: 2\n", []string{"1:10: version: version 2 is for a newer berth: this one reads version 1"}},
		"version_word":   {"version: one\n", []string{`1:10: version: "one" is not a version: write 1`}},
		"version_0":      {"version: 0\n", []string{`1:10: version: 0 is not a version: write 1`}},
		"misspelt_key":   {"tunels: []\n", []string{"1:1: tunels: unknown key: did you mean tunnels?"}},
		"empty_misspelt": {"tunels:\n", []string{"1:1: tunels: unknown key: did you mean tunnels?"}},
		"unknown_key":    {"zebra: 1\n", []string{"1:1: zebra: unknown key: those known here are access, browser, handover_grace, homes, kube, limits, log, metrics, notifications, profiles, telemetry, tsh, tunnels, version"}},
		"camel_case_key": {tun("dbUser: x, local_port: 15000, type: db"), []string{
			"2:50: tunnels[0].dbUser: unknown key: did you mean db_user?",
			"2:61: tunnels[0].local_port: unknown key: did you mean port?",
			"2:80: tunnels[0].type: unknown key: did you mean kind?",
		}},
		"wrong_types": {"homes: ~/.tsh\nprofiles: {}\ntunnels: 1\nnotifications: true\ntsh: [a]\nlog: debug\n", []string{
			`1:8: homes: "~/.tsh" is not a list of folders: write [~/.tsh]`,
			`2:11: profiles: a group of keys is not a list of profiles: start each with "- proxy: "`,
			`3:10: tunnels: 1 is not a list of tunnels: start each with "- name: "`,
			`4:16: notifications: true is not a group of keys: write {enabled: true, quiet_hours: "22:00-07:00"}`,
			`5:6: tsh: a list is not a group of keys: write {path: /usr/local/bin/tsh}`,
			`6:6: log: "debug" is not a group of keys: write {level: info}`,
		}},
		"empty_entries": {"homes: [~]\ntunnels:\n  -\n", []string{
			`1:9: homes[0]: the entry is empty: fill it in, or delete it`,
			`3:4: tunnels[0]: the entry is empty: fill it in, or delete it`,
		}},
		"missing_keys": {"profiles: [{auth: x}]\ntunnels:\n  - {name: a}\n  - kind: db\n    name:\n    cluster: c\n    resource: ''\n", []string{
			"1:12: profiles[0]: proxy is missing: write at least proxy: host:port",
			"3:5: tunnels[0]: cluster, kind and resource are missing: write at least name, kind, cluster and resource",
			"5:5: tunnels[1].name: this is empty: use letters, digits, dots, dashes and underscores",
			"7:15: tunnels[1].resource: this is empty: write it as berth resources shows it",
		}},

		// Tunnels.
		"port_0":          {tun("port: 0"), []string{"2:56: tunnels[0].port: 0 is not a port: use 1024–65535, or delete the key to have one derived"}},
		"port_70000":      {tun("port: 70000"), []string{"2:56: tunnels[0].port: 70000 is not a port: use 1024–65535"}},
		"port_negative":   {tun("port: -1"), []string{"2:56: tunnels[0].port: -1 is not a port: use 1024–65535"}},
		"port_huge":       {tun("port: 99999999999999999999"), []string{"2:56: tunnels[0].port: 99999999999999999999 is not a port: use 1024–65535"}},
		"port_fraction":   {tun("port: 15432.5"), []string{"2:56: tunnels[0].port: 15432.5 is not a port: use 1024–65535"}},
		"port_not_number": {tun("port: .inf"), []string{`2:56: tunnels[0].port: ".inf" is not a port: use 1024–65535`}},
		"port_text":       {tun(`port: "15432"`), []string{`2:56: tunnels[0].port: "15432" is not a port: use 1024–65535`}},
		"port_privileged": {tun("port: 443"), []string{"2:56: tunnels[0].port: 443 is a privileged port, which only an administrator may open: use 1024–65535"}},
		"two_of_one_port_and_name": {
			"tunnels:\n  - {name: a, kind: db, cluster: c, resource: r, port: 15000}\n  - {name: a, kind: db, cluster: c, resource: r, port: 15000}\n  - {name: b, kind: db, cluster: c, resource: r, port: 15000.0}\n",
			[]string{
				`3:12: tunnels[1].name: the tunnel on line 2 is called "a" already: no two may share a name`,
				"3:56: tunnels[1].port: the tunnel on line 2 has port 15000 already: no two may share one",
				"4:56: tunnels[2].port: the tunnel on line 2 has port 15000 already: no two may share one",
			},
		},
		"name_with_space":   {"tunnels: [{name: my prod pg, kind: db, cluster: c, resource: r}]", []string{`1:18: tunnels[0].name: "my prod pg" has a space: write "my-prod-pg"`}},
		"name_with_control": {`tunnels: [{name: "a\nb\e[31m", kind: db, cluster: c, resource: r}]`, []string{`1:18: tunnels[0].name: "a\nb\x1b[31m" has an invisible character: use letters, digits, dots, dashes and underscores`}},
		"name_with_slash":   {"tunnels: [{name: a/b, kind: db, cluster: c, resource: r}]", []string{`1:18: tunnels[0].name: "a/b" is not a name: use letters, digits, dots, dashes and underscores`}},
		"name_with_dash":    {"tunnels: [{name: -rf, kind: db, cluster: c, resource: r}]", []string{`1:18: tunnels[0].name: "-rf" does not start with a letter or a digit`}},
		"name_too_long":     {"tunnels: [{name: " + strings.Repeat("x", 65) + ", kind: db, cluster: c, resource: r}]", []string{`1:18: tunnels[0].name: "` + strings.Repeat("x", 60) + `…" is longer than 64 characters`}},
		"name_is_number":    {"tunnels: [{name: 123, kind: db, cluster: true, resource: r}]", []string{"1:18: tunnels[0].name: 123 is read as a number here: put quotes around it", "1:42: tunnels[0].cluster: true is not read as text here: put quotes around it"}},
		"name_empty":        {"tunnels: [{name: '', kind: db, cluster: c, resource: r}]", []string{"1:18: tunnels[0].name: this is empty: write a name, as in prod-pg"}},
		"unknown_kind":      {"tunnels: [{name: a, kind: ssh, cluster: c, resource: r}]", []string{`1:27: tunnels[0].kind: "ssh" is not a kind of tunnel: use db or kube`}},
		"unknown_engine":    {tun("engine: fast"), []string{`2:58: tunnels[0].engine: "fast" is not an engine: use auto, native or tsh`}},
		"empty_group":       {"tunnels: [{name: a, kind: kube, cluster: c, resource: r, as_groups: [g, '']}]", []string{"1:73: tunnels[0].as_groups[1]: this is empty: write a name"}},
		"db_with_kube":      {"tunnels: [{name: a, kind: db, cluster: c, resource: r, as: u, as_groups: [g]}]", []string{"1:60: tunnels[0].as: as is for Kubernetes, and this tunnel is of kind db: delete it", "1:74: tunnels[0].as_groups: as_groups is for Kubernetes, and this tunnel is of kind db: delete it"}},
		"kube_port_taken":   {"kube: {port: 15001}\ntunnels: [{name: a, kind: db, cluster: c, resource: r, port: 15001}]", []string{"1:14: kube.port: the tunnel on line 2 has port 15001 already: no two may share one"}},
		"kube_with_db":      {"tunnels: [{name: a, kind: kube, cluster: c, resource: r, db_user: u, db_name: n}]", []string{"1:67: tunnels[0].db_user: db_user is for databases, and this tunnel is of kind kube: delete it", "1:79: tunnels[0].db_name: db_name is for databases, and this tunnel is of kind kube: delete it"}},
		"hold_number":       {tun("hold: 60"), []string{"2:56: tunnels[0].hold: 60 has no unit: write 60s or 60m"}},
		"hold_words":        {tun("hold: 5 minutes"), []string{`2:56: tunnels[0].hold: "5 minutes" is not a duration: write a number and a unit, as in 90s`}},
		"hold_too_long":     {tun("hold: 11m"), []string{"2:56: tunnels[0].hold: 11m is too long: use 0s to 10m"}},
		"hold_overflow":     {tun("hold: 99999999999h"), []string{`2:56: tunnels[0].hold: "99999999999h" is not a duration: write a number and a unit, as in 15m`}},
		"hold_negative":     {tun("hold: -5s"), []string{`2:56: tunnels[0].hold: "-5s" is not a duration: write a number and a unit, as in 90s`}},
		"db_user_blank":     {tun(`db_user: "al\u3164ice"`), []string{`2:59: tunnels[0].db_user: "al\u3164ice" has an invisible character: delete it`}},
		"db_user_hidden":    {tun(`db_user: "al\u202eice"`), []string{`2:59: tunnels[0].db_user: "al\u202eice" has an invisible character: delete it`}},
		"resource_spaces":   {"tunnels: [{name: a, kind: db, cluster: c, resource: ' r'}]", []string{`1:53: tunnels[0].resource: " r" begins or ends with a space: delete it`}},

		// Profiles and the rest.
		"proxy_url":        {"profiles: [{proxy: https://t.example.com:443/web}]", []string{`1:20: profiles[0].proxy: "https://t.example.com:443/web" is a URL: write only "t.example.com:443"`}},
		"proxy_empty":      {"profiles: [{proxy: ''}]", []string{`1:20: profiles[0].proxy: this is empty: write host:port, as in teleport.example.com:443`}},
		"proxy_port":       {"profiles: [{proxy: 't:70000'}]", []string{`1:20: profiles[0].proxy: "t:70000" has no port that can be: write host:port, as in teleport.example.com:443`}},
		"proxy_path":       {"profiles: [{proxy: t/web}]", []string{`1:20: profiles[0].proxy: "t/web" is not a proxy's address: write host:port, as in teleport.example.com:443`}},
		"proxy_twice":      {"profiles:\n  - proxy: T.example.com\n  - proxy: t.example.com:443\n", []string{`3:12: profiles[1].proxy: "t.example.com:443" has its settings on line 2 already: join the two`}},
		"renew":            {"profiles: [{proxy: t, renew: {mode: always, before: 30s}}]", []string{`1:37: profiles[0].renew.mode: "always" is not a way to renew: use ask, auto or off`, "1:53: profiles[0].renew.before: 30s is too short: use 1m to 24h"}},
		"insecure_word":    {"profiles: [{proxy: t, insecure: yes}]", []string{`1:33: profiles[0].insecure: "yes" is not true or false: write one of the two, without quotes`}},
		"insecure_with_ca": {"profiles: [{proxy: t, insecure: true, ca_file: /ca.pem}]", []string{"1:33: profiles[0].insecure: insecure: true leaves ca_file without effect: delete one of the two"}},
		"browser_without_a_program": {"browser: ['']\nprofiles:\n  - {proxy: p, browser: [' ', -P]}\n", []string{
			"1:11: browser[0]: this is empty: write the program's name or path",
			"3:26: profiles[0].browser[0]: this is empty: write the program's name or path",
		}},
		"guards": {"tunnels:\n  - {name: a, kind: db, cluster: c, resource: r, guard: none}\n  - {name: b, kind: kube, cluster: c, resource: r, guard: off}\n", []string{
			`2:57: tunnels[0].guard: "none" is not a guard: use on or off`,
			"3:59: tunnels[1].guard: guard is for databases: clients of a tunnel of kind kube show a certificate: delete it",
		}},
		"relative_paths": {"homes: [.tsh, $HOME/.tsh, ~bob/.tsh, '']\ntsh: {path: tsh}\n", []string{
			`1:9: homes[0]: ".tsh" is relative: write an absolute path, or one that starts with ~/`,
			`1:15: homes[1]: "$HOME/.tsh" has a variable, which berth does not expand: write an absolute path, or one that starts with ~/`,
			`1:27: homes[2]: "~bob/.tsh" is another user's home, which berth does not look up: write an absolute path, or one that starts with ~/`,
			`1:38: homes[3]: this is empty: write an absolute path, or one that starts with ~/`,
			`2:13: tsh.path: "tsh" is relative: write an absolute path, or one that starts with ~/`,
		}},
		"quiet_hours":       {"notifications: {quiet_hours: 22-7}", []string{`1:30: notifications.quiet_hours: "22-7" is not a span of time: write it as "22:00-07:00"`}},
		"quiet_hours_never": {"notifications: {quiet_hours: 07:00-07:00}", []string{`1:30: notifications.quiet_hours: "07:00-07:00" is not a span of time: write it as "22:00-07:00"`}},
		"enabled_word":      {"notifications: {enabled: 'true'}", []string{`1:26: notifications.enabled: "true" is not true or false: write one of the two, without quotes`}},
		"metrics_everyone":  {"metrics: {listen: 0.0.0.0:9090}", []string{`1:19: metrics.listen: "0.0.0.0:9090" is neither an address of this machine alone nor a file: write 127.0.0.1:9090, or the path of a socket`}},
		"metrics_name":      {"metrics: {listen: localhost:9090}", []string{`1:19: metrics.listen: "localhost:9090" is a name, which others could have lead elsewhere: write 127.0.0.1:9090`}},
		"metrics_low_port":  {"metrics: {listen: 127.0.0.1:90}", []string{"1:19: metrics.listen: port 90 cannot be: use one from 1024 to 65535"}},
		"telemetry_mode":    {"telemetry: {mode: remote}", []string{`1:19: telemetry.mode: "remote" is not a choice: use off or local`}},
		"log_level":         {"log: {level: verbose}", []string{`1:14: log.level: "verbose" is not a level: use debug, info, warn or error`}},

		// Positions count characters, and look through aliases.
		"columns_are_characters": {"tunnels: [{name: é日本!, kind: db, cluster: ü, resource: r, port: 1}]", []string{
			`1:18: tunnels[0].name: "é日本!" is not a name: use letters, digits, dots, dashes and underscores`,
			"1:65: tunnels[0].port: 1 is a privileged port, which only an administrator may open: use 1024–65535",
		}},
		"in_an_alias": {"tunnels:\n  - &a {name: a, kind: db, cluster: c, resource: r, hold: 1h}\n  - {<<: *a, name: b}\n", []string{
			"2:59: tunnels[0].hold: 1h is too long: use 0s to 10m",
			"2:59: tunnels[1].hold: 1h is too long: use 0s to 10m",
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			for _, in := range []string{tt.in, strings.ReplaceAll(tt.in, "\n", "\r\n")} {
				_, err := parseText("config.yaml", []byte(in))
				bad := (*Error)(nil)
				if !errors.As(err, &bad) {
					t.Fatalf("Parse(%q): error %v, want an *Error", in, err)
				}
				var got []string
				for _, m := range bad.Mistakes {
					got = append(got, m.String())
				}
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("mistakes of %q differ (-want +got):\n%s", in, diff)
				}
			}
		})
	}
}

// TestMetricsOn: whoever writes the group wants metrics, unless it says otherwise.
func TestMetricsOn(t *testing.T) {
	for text, on := range map[string]bool{
		"{}": false, "{labels: names}": true, "{pprof: true}": true, "{enabled: true}": true, "{listen: '127.0.0.1:9090'}": true,
		"{enabled: false, labels: names}": false, "{enabled: false, listen: '127.0.0.1:9090'}": false,
	} {
		cfg, err := parseText("config.yaml", []byte("metrics: "+text))
		if err != nil || cfg.Metrics.On() != on {
			t.Errorf("metrics: %s: on is not %v: %v", text, on, err)
		}
	}
}

// TestMetricsSocketLength: what no system could bind is a mistake.
func TestMetricsSocketLength(t *testing.T) {
	testneeds.Unix(t, "sockets with paths")
	_, err := parseText("config.yaml", []byte("metrics: {listen: /tmp/"+strings.Repeat("x", 99)+"}"))
	if err == nil || !strings.Contains(err.Error(), "has at most 103 bytes, and this one 104") {
		t.Errorf("a path of 104 bytes: %v", err)
	}
	if _, err := parseText("config.yaml", []byte("metrics: {listen: /tmp/"+strings.Repeat("x", 98)+"}")); err != nil {
		t.Errorf("a path of 103 bytes: %v", err)
	}
}

// TestMetricsFile: what is there and can be no socket is a mistake.
func TestMetricsFile(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "passwd")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, bad := range map[string]bool{dir: true, file: true, filepath.Join(dir, "new.sock"): false} {
		_, err := parseText("config.yaml", fmt.Appendf(nil, "metrics: {listen: '%s'}", path))
		if is := err != nil && strings.Contains(err.Error(), "is there and is not a socket"); is != bad || err != nil && !bad {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestErrorText(t *testing.T) {
	_, err := parseText("/etc/config.yaml", []byte("tunels: []\nversion: 2\n"))
	want := "/etc/config.yaml:1:1: tunels: unknown key: did you mean tunnels?\n" +
		"/etc/config.yaml:2:10: version: version 2 is for a newer berth: this one reads version 1"
	if err == nil || err.Error() != want {
		t.Errorf("error\n%v\nwant\n%s", err, want)
	}
	bad := (*Error)(nil)
	if !errors.As(err, &bad) {
		t.Fatal("not an *Error")
	}
	if got, want := bad.Summary(), "config.yaml line 1: tunels: unknown key: did you mean tunnels? (and 1 more)"; got != want {
		t.Errorf("Summary() = %q, want %q", got, want)
	}
}

// Small files that grow, and large ones that are wrong everywhere, are refused
// soon and in few words.
func TestParseHostile(t *testing.T) {
	t.Parallel()
	bomb := "homes: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for _, c := range "bcdefghij" {
		prev := string(c - 1)
		bomb += "k" + string(c) + ": &" + string(c) + " [" + strings.TrimSuffix(strings.Repeat("*"+prev+",", 10), ",") + "]\n"
	}
	var keys strings.Builder
	for i := range 20_000 {
		keys.WriteString("k" + strings.Repeat("x", i%7) + string(rune('a'+i%26)) + time.Duration(i).String() + ": 1\n")
	}
	tests := map[string]struct{ in, says string }{
		"aliases":       {bomb, "aliases repeat more than"},
		"merges":        {"a: &a {" + strings.Repeat("x: {<<: *a}, ", 3) + "}\n", "contains itself"},
		"deep_brackets": {"homes: " + strings.Repeat("[", 40_000), ""},
		"deep_closed":   {"homes: " + strings.Repeat("[", 5_000) + strings.Repeat("]", 5_000), "levels deep"},
		"deep_lines":    {deepLines(500), "levels deep"},
		"many_mistakes": {keys.String(), "more mistakes"},
		"many_controls": {strings.Repeat("\x01", 500_000), "more mistakes"},
		"many_tabs":     {strings.Repeat("\tx\n", 200_000), "more mistakes"},
		"long_line":     {"homes: ['" + strings.Repeat("x", 900_000) + "']", "relative"},
		"late_syntax":   {strings.Repeat("# comment\n", 15_000) + "a: b: c\n", ":15001:5: "},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			_, err := parseText("config.yaml", []byte(tt.in))
			if took := time.Since(start); took > testwait.Patience {
				t.Errorf("took %v", took)
			}
			if err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Fatalf("error %.300v does not say %q", err, tt.says)
			}
			if n := len(err.Error()); n > 50_000 {
				t.Errorf("error of %d bytes", n)
			}
		})
	}
}

func deepLines(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "config.yaml")
	cfg, err := Load(path)
	if err != nil {
		t.Fatalf("no file: %v", err)
	}
	if diff := cmp.Diff(Default(), cfg, cmpopts.IgnoreUnexported(Config{})); diff != "" {
		t.Errorf("no file is not the default (-want +got):\n%s", diff)
	}
	tests := map[string]struct {
		make func(path string) error
		says string
	}{
		"folder":    {func(p string) error { return os.Mkdir(p, 0o700) }, "this is a folder"},
		"too_large": {func(p string) error { return os.WriteFile(p, make([]byte, 10<<20), 0o600) }, "the file is too large: 10240 KiB, where 1024 KiB is the most"},
		"link_loop": {func(p string) error { return os.Symlink(p, p) }, "the file cannot be read"},
		"mistakes":  {func(p string) error { return os.WriteFile(p, []byte("version: 2"), 0o600) }, "newer berth"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "config.yaml")
			if err := tt.make(path); err != nil {
				t.Fatal(err)
			}
			_, err := Load(path)
			if !errors.As(err, new(*Error)) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error %v does not say %q", err, tt.says)
			}
			if _, checkErr := Check(path, nil); checkErr == nil || checkErr.Error() != err.Error() {
				t.Errorf("Check says %v", checkErr)
			}
		})
	}
}

func TestParseTooLarge(t *testing.T) {
	if _, err := parseText("config.yaml", make([]byte, maxSize+1)); err == nil || !strings.Contains(err.Error(), "too large") {
		t.Errorf("error %v", err)
	}
	full := append([]byte("version: 1\n"), []byte(strings.Repeat("#", maxSize-11))...)
	if _, err := parseText("config.yaml", full); err != nil {
		t.Errorf("a file of exactly the limit: %v", err)
	}
}

func TestCheckWarns(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	writeFile(t, file, "no certificate")
	missing := filepath.Join(dir, "missing")
	path := filepath.Join(dir, "config.yaml")
	writeFile(t, path, "homes:\n  - '"+file+"'\n  - '"+missing+"'\n"+
		"profiles:\n  - {proxy: a, insecure: true}\n  - {proxy: b, ca_file: '"+missing+"'}\n  - {proxy: c, ca_file: '"+file+"'}\n"+
		"tsh: {path: '"+missing+"'}\n")
	warnings, err := Check(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []struct{ place, says string }{
		{"homes[0]", "not a folder"},
		{"profiles[0].insecure", "not verified"},
		{"profiles[1].ca_file", "cannot be read"},
		{"profiles[2].ca_file", "no PEM certificate"},
		{"tsh.path", "cannot be run"},
	}
	if len(warnings) != len(want) {
		t.Fatalf("warnings %v", warnings)
	}
	for i, w := range want {
		if got := warnings[i]; got.Path != w.place || !strings.Contains(got.Text, w.says) || got.Line == 0 {
			t.Errorf("warning %d is %v, want one of %s that says %q", i, got, w.place, w.says)
		}
	}
	writeFile(t, path, "")
	if warnings, err := Check(path, nil); err != nil || len(warnings) != 0 {
		t.Errorf("an empty file: %v, %v", warnings, err)
	}
	if warnings, err := Check(missing, nil); err != nil || len(warnings) != 0 {
		t.Errorf("no file: %v, %v", warnings, err)
	}
}

func TestExample(t *testing.T) {
	testneeds.Unix(t, "the example's path of tsh is one of Unix")
	for name, text := range map[string]string{"example": fullExample(), "header": header} {
		cfg, err := parseText(name, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if name == "header" {
			continue
		}
		for _, key := range allKeys(reflect.TypeFor[Config]()) {
			if !strings.Contains(text, key+":") {
				t.Errorf("the example does not show %s", key)
			}
		}
		if len(cfg.Tunnels) != 3 {
			t.Errorf("%d tunnels, want 3", len(cfg.Tunnels))
		}
	}
}

// allKeys are the names of the keys of t and what is below.
func allKeys(t reflect.Type) []string {
	var keys []string
	for t.Kind() == reflect.Slice || t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return nil
	}
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "-" {
			continue // not of the file
		}
		keys = append(append(keys, name), allKeys(f.Type)...)
	}
	return keys
}

// Every key has words: what it is, for the schema, and how to write it, for
// mistakes.
func TestSchema(t *testing.T) {
	var root map[string]any
	if err := json.Unmarshal(Schema(), &root); err != nil {
		t.Fatal(err)
	}
	if got := root["$schema"]; got != "https://json-schema.org/draft/2020-12/schema" {
		t.Errorf("$schema is %v", got)
	}
	walkWants(t, root, wants)
	var policy map[string]any
	if err := json.Unmarshal(PolicySchema(), &policy); err != nil {
		t.Fatal(err)
	}
	walkWants(t, policy, policyWants)
	for name := range descriptions {
		if typ, _, _ := strings.Cut(name, "."); !strings.Contains("Config Profile renew TunnelSpec kube notifications Access autoAssume hook tsh logging policyRules renewRule recordingsRule Metrics telemetry", typ) {
			t.Errorf("descriptions has %q", name)
		}
	}
}

func walkWants(t *testing.T, root map[string]any, wants map[string]want) {
	t.Helper()
	places := make(map[string]bool)
	walkSchema(t, root, "", wants, places)
	for place := range wants {
		if !places[place] {
			t.Errorf("wants has %q, which the schema has not", place)
		}
	}
}

func walkSchema(t *testing.T, node map[string]any, path string, wants map[string]want, places map[string]bool) {
	places[path] = true
	if w := wants[path]; w.what == "" || w.use == "" {
		t.Errorf("wants has nothing for %q", path)
	}
	if items, ok := node["items"].(map[string]any); ok {
		walkSchema(t, items, path+"[]", wants, places)
	}
	props, _ := node["properties"].(map[string]any)
	for name, sub := range props {
		prop := sub.(map[string]any)
		if d, _ := prop["description"].(string); !strings.HasSuffix(d, ".") {
			t.Errorf("%s has the description %q", join(path, name), d)
		}
		walkSchema(t, prop, join(path, name), wants, places)
	}
	if props != nil && node["additionalProperties"] != false {
		t.Errorf("%q allows unknown keys", path)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(fullExample()))
	for _, tt := range editCases {
		f.Add([]byte(tt.in))
	}
	f.Add([]byte("tunnels: [{name: a b, kind: x, port: 0, prot: 1}, null, 5]\nversion: 2\nhomes: &a [*a]\n<<: {a: b}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		cfg, err := parseText("f", data)
		if (cfg == nil) == (err == nil) {
			t.Fatalf("config %v, error %v", cfg, err)
		}
		if err == nil {
			return
		}
		bad := (*Error)(nil)
		if !errors.As(err, &bad) || len(bad.Mistakes) == 0 {
			t.Fatalf("error %v is not an *Error with mistakes", err)
		}
		lines := len(lineStarts(data))
		for _, m := range bad.Mistakes {
			if m.Line < 0 || m.Line > lines || m.Column < 0 || m.Column > len(data)+1 || m.Text == "" {
				t.Errorf("mistake %+v in a file of %d lines", m, lines)
			}
			if plain.Line(m.String()) != m.String() || strings.Contains(m.Text, "[unexpected]") {
				t.Errorf("mistake %q", m.String())
			}
		}
	})
}

// An edit of any file that is right leaves every other byte in place, or is
// refused; taking it back leaves a file that says what it said.
func FuzzEdit(f *testing.F) {
	f.Add([]byte(fullExample()))
	for _, tt := range editCases {
		f.Add([]byte(tt.in))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		doc, err := newDocument("f", data)
		if err != nil {
			return
		}
		before := doc.Config()
		if err := doc.AddTunnel(newTunnel); err != nil {
			return // refused
		}
		if got := len(doc.Config().Tunnels); got != len(before.Tunnels)+1 {
			t.Fatalf("%d tunnels, want one more than %d", got, len(before.Tunnels))
		}
		if len(before.Tunnels) > 0 && !subsequence(string(data), string(doc.bytes())) {
			t.Errorf("%q lost something: %q", data, doc.bytes())
		}
		if err := doc.RemoveTunnel(newTunnel.Name); err != nil {
			return
		}
		if !sameConfig(doc.Config(), before) {
			t.Errorf("%q says something else after both: %q", data, doc.bytes())
		}
	})
}

// subsequence reports whether long is short with something added.
func subsequence(short, long string) bool {
	i := 0
	for j := 0; i < len(short) && j < len(long); j++ {
		if short[i] == long[j] {
			i++
		}
	}
	return i == len(short)
}

func TestPortOfTheTunnelsOwnProxy(t *testing.T) {
	for proxy, refused := range map[string]bool{
		"localhost:3080": true, "127.0.0.1:3080": true, "[::1]:3080": true,
		"teleport.example.com:3080": false, "localhost:443": false,
	} {
		_, err := parseText("config.yaml", []byte("version: 1\nprofiles: [{proxy: \""+proxy+"\"}]\ntunnels:\n"+
			"  - {name: pg, kind: db, cluster: c, resource: pg, port: 3080}\n"))
		if got := err != nil && strings.Contains(err.Error(), "port 3080 is the one of the proxy on line 2"); got != refused {
			t.Errorf("%s: %v", proxy, err)
		}
	}
}
