package config

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"berth/internal/plain"
)

// want says of a key what belongs there and how to write it.
type want struct{ what, use string }

const (
	usePort     = "use 1024–65535"
	useDuration = "write a number and a unit, as in 15m"
	useBool     = "write one of the two, without quotes"
)

// wants has an entry for every key of the config file; the number of a list's
// entry is left out of its path.
var wants = withLimits(withTunnelKeys(map[string]want{
	"":                             {"a config", "write lines like version: 1 and tunnels: …"},
	"version":                      {"a version", "write 1"},
	"homes":                        {"a list of folders", "write [~/.tsh]"},
	"homes[]":                      {"a folder", "write an absolute path, or one that starts with ~/"},
	"profiles":                     {"a list of profiles", `start each with "- proxy: "`},
	"profiles[]":                   {"a profile", "write at least proxy: host:port"},
	"profiles[].proxy":             {"a proxy's address", "write host:port, as in teleport.example.com:443"},
	"profiles[].auth":              {"a connector's name", "write one word, as in okta"},
	"browser":                      {"a command, as a list", "write [firefox, -P, work]"},
	"handover_grace":               {"a duration", "write a number and a unit, as in 24h"},
	"browser[]":                    {"a word of a command", "write it as text"},
	"profiles[].browser":           {"a command, as a list", "write [firefox, -P, work]"},
	"profiles[].browser[]":         {"a word of a command", "write it as text"},
	"profiles[].renew":             {"a group of keys", "write {mode: ask, before: 15m}"},
	"profiles[].renew.mode":        {"a way to renew", "use ask, auto or off"},
	"profiles[].renew.before":      {"a duration", useDuration},
	"profiles[].ca_file":           {"a file", "write an absolute path, or one that starts with ~/"},
	"profiles[].insecure":          {"true or false", useBool},
	"tunnels":                      {"a list of tunnels", `start each with "- name: "`},
	"tunnels[]":                    {"a tunnel", "write at least name, kind, cluster and resource"},
	"kube":                         {"a group of keys", "write {port: 15440}"},
	"kube.port":                    {"a port", usePort},
	"notifications":                {"a group of keys", `write {enabled: true, quiet_hours: "22:00-07:00"}`},
	"notifications.enabled":        {"true or false", useBool},
	"notifications.quiet_hours":    {"a time of day", `write it as "22:00-07:00"`},
	"access":                       {"a group of keys", "write {notify: mine}"},
	"access.auto_assume":           {"a list of rules", `start each with "- roles: "`},
	"access.auto_assume[]":         {"a rule", "write {roles: [dba], tunnel: prod-pg}"},
	"access.auto_assume[].roles":   {"a list of roles", "write [dba]"},
	"access.auto_assume[].roles[]": {"a role", "write its name"},
	"access.auto_assume[].tunnel":  {"a tunnel's name", "write it as berth tunnel ls shows it"},
	"access.notify":                {"a choice", "use mine, reviewable or all"},
	"access.on_drop":               {"a choice", "use keep or close"},
	"access.sensitive":             {"a list of roles", "write [admin, prod-*]"},
	"access.sensitive[]":           {"a role", "write its name, in which * stands for anything"},
	"access.hooks":                 {"a list of hooks", `start each with "- run: "`},
	"access.hooks[]":               {"a hook", "write {on: [approved], run: [notify-send, berth]}"},
	"access.hooks[].on":            {"a list of events", "write [approved, denied]"},
	"access.hooks[].on[]":          {"an event", "write its name, as in approved"},
	"access.hooks[].run":           {"a command, as a list", "write [notify-send, berth]"},
	"access.hooks[].run[]":         {"a word of a command", "write it as text"},
	"access.hooks[].timeout":       {"a duration", "write a number and a unit, as in 30s"},
	"tsh":                          {"a group of keys", "write {path: /usr/local/bin/tsh}"},
	"tsh.path":                     {"a program", "write an absolute path, or one that starts with ~/"},
	"log":                          {"a group of keys", "write {level: info}"},
	"log.level":                    {"a level", "use debug, info, warn or error"},
	"metrics":                      {"a group of keys", "write {listen: 127.0.0.1:9090}"},
	"metrics.enabled":              {"true or false", useBool},
	"metrics.listen":               {"an address", "write 127.0.0.1:9090, or the path of a socket"},
	"metrics.labels":               {"a choice", "use hashed or names"},
	"metrics.pprof":                {"true or false", useBool},
	"telemetry":                    {"a group of keys", "write {mode: local}"},
	"telemetry.mode":               {"a choice", "use off or local"},
	"limits":                       {"a group of keys", "write {connections: 4000}"},
}))

func withTunnelKeys(wants map[string]want) map[string]want {
	for _, k := range TunnelKeys {
		wants["tunnels[]."+k.Name] = k.want
		if k.entry != (want{}) {
			wants["tunnels[]."+k.Name+"[]"] = k.entry
		}
	}
	return wants
}

// validate adds a mistake for everything in root that the schema refuses.
func validate(root *value, spec keySpec, ms *mistakes) {
	unknownEmpty(root, spec, "", ms)
	obey(root, spec, "", ms)
}

// unknownEmpty adds the unknown keys that are empty: the validator does not see
// them, since an empty key counts as one left out.
func unknownEmpty(v *value, spec keySpec, path string, ms *mistakes) {
	if spec.Items != nil {
		for i, e := range v.list {
			unknownEmpty(e, *spec.Items, fmt.Sprintf("%s[%d]", path, i), ms)
		}
	}
	if spec.Properties == nil {
		return
	}
	for _, m := range v.keys {
		sub, known := spec.Properties[m.name]
		switch {
		case known:
			unknownEmpty(m.val, sub, join(path, m.name), ms)
		case m.val.null:
			ms.add(m.at, join(path, m.name), "%s", unknownKey(m.name, spec))
		}
	}
}

func explainUnknown(v *value, path string, spec keySpec, names []string, ms *mistakes) {
	slices.SortFunc(names, func(a, b string) int {
		x, y := v.byName[a].at, v.byName[b].at
		return cmp.Or(cmp.Compare(x.line, y.line), cmp.Compare(x.column, y.column))
	})
	for i, name := range names {
		m := v.byName[name]
		m.val.wrong = true
		text := "unknown key"
		if i < maxMistakes { // the rest is not shown, and guessing takes time
			text = unknownKey(name, spec)
		}
		ms.add(m.at, join(path, name), "%s", text)
	}
}

func explainMissing(v *value, path string, spec keySpec, names []string, ms *mistakes) {
	var missing []string
	for _, name := range names {
		if m := v.byName[name]; m == nil {
			missing = append(missing, name)
		} else { // there, and empty
			ms.add(m.at, join(path, name), "this is empty: %s", spec.Properties[name].want.use)
		}
	}
	slices.Sort(missing)
	switch last := len(missing) - 1; {
	case last == 0:
		ms.add(v.at, path, "%s is missing: %s", missing[0], spec.want.use)
	case last > 0:
		list := strings.Join(missing[:last], ", ") + " and " + missing[last]
		ms.add(v.at, path, "%s are missing: %s", list, spec.want.use)
	}
}

var index = regexp.MustCompile(`\[\d+\]`)

// generic is path without the numbers of entries.
func generic(path string) string { return index.ReplaceAllString(path, "[]") }

// refusal says why v, at the place that key names, is refused.
func refusal(v *value, key string, spec keySpec, why broken) string {
	w := spec.want
	switch why {
	case brokenType:
		return typeRefusal(v, w, spec)
	case brokenEnum:
		return enumRefusal(v, key, w)
	case brokenMinLength:
		return "this is empty: " + w.use
	case brokenMaxLength:
		return fmt.Sprintf("%s is longer than %d characters", v.describe(), *spec.MaxLength)
	case notBroken, brokenRange: // the key says it, or its want
	}
	if v.isList && len(v.list) == 0 && why == brokenRange {
		return "this list is empty: " + w.use
	}
	if k := tunnelKeyAt(key); k != nil && k.refuse != nil {
		return k.refuse(v)
	}
	return fmt.Sprintf("%s is not %s: %s", v.describe(), w.what, w.use)
}

func typeRefusal(v *value, w want, spec keySpec) string {
	if v.scalar == nil || spec.Type != "string" {
		return fmt.Sprintf("%s is not %s: %s", v.describe(), w.what, w.use)
	}
	if w.what == "a duration" {
		if n, ok := v.scalar.(int64); ok {
			return fmt.Sprintf("%d has no unit: write %ds or %dm", n, n, n)
		}
	}
	if _, ok := v.scalar.(bool); ok {
		return fmt.Sprintf("%s is not read as text here: put quotes around it", v.describe())
	}
	return fmt.Sprintf("%s is read as a number here: put quotes around it", v.describe())
}

func enumRefusal(v *value, key string, w want) string {
	if n, ok := v.scalar.(int64); ok && key == "version" && n > formatVersion {
		return fmt.Sprintf("version %d is for a newer berth: this one reads version %d", n, formatVersion)
	}
	return fmt.Sprintf("%s is not %s: %s", v.describe(), w.what, w.use)
}

func portRefusal(v *value) string {
	n, ok := v.scalar.(int64)
	switch {
	case ok && n == 0:
		return "0 is not a port: " + usePort + ", or delete the key to have one derived"
	case ok && 0 < n && n < minPort:
		return fmt.Sprintf("%d is a privileged port, which only an administrator may open: %s", n, usePort)
	}
	return fmt.Sprintf("%s is not a port: %s", v.describe(), usePort)
}

func nameRefusal(scalar any) string {
	s, _ := scalar.(string)
	const use = "use letters, digits, dots, dashes and underscores"
	switch {
	case s == "":
		return "this is empty: write a name, as in prod-pg"
	case plain.Line(s) != s:
		return fmt.Sprintf("%s has an invisible character: %s", quote(s), use)
	case strings.ContainsAny(s, " \u00a0"):
		return fmt.Sprintf("%s has a space: write %s", quote(s), quote(strings.Join(strings.Fields(s), "-")))
	case strings.HasPrefix(s, ".") || strings.HasPrefix(s, "-") || strings.HasPrefix(s, "_"):
		return fmt.Sprintf("%s does not start with a letter or a digit", quote(s))
	}
	return fmt.Sprintf("%s is not a name: %s", quote(s), use)
}

// unknownKey says what to do about a key that the mapping does not have.
func unknownKey(name string, spec keySpec) string {
	var keys []string
	for k := range spec.Properties {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	if near := nearest(name, keys); near != "" {
		return fmt.Sprintf("unknown key: did you mean %s?", near)
	}
	if len(keys) == 1 {
		return "unknown key: only " + keys[0] + " is known here"
	}
	return "unknown key: those known here are " + strings.Join(keys, ", ")
}

// misnomers are words that people bring from elsewhere.
var misnomers = map[string]string{
	"database": "db_name", "user": "db_user", "username": "db_user", "localport": "port", "listen": "port",
	"type": "kind", "db": "resource", "service": "resource", "timeout": "hold", "addr": "proxy", "address": "proxy",
	"connector": "auth", "ca": "ca_file", "cafile": "ca_file", "quiet": "quiet_hours",
}

// nearest returns the word of choices that got was probably meant to be, or
// nothing.
func nearest(got string, choices []string) string {
	norm := func(s string) string {
		return strings.ToLower(strings.NewReplacer("_", "", "-", "", " ", "").Replace(s))
	}
	if m := misnomers[norm(plain.Head(got, maxValue))]; m != "" && slices.Contains(choices, m) {
		return m
	}
	return plain.Nearest(got, choices, norm)
}
