package config

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"berth/agent/state"
	"berth/internal/plain"
)

// check adds the mistakes that the schema cannot see. It passes over whatever
// is known to be wrong.
func check(root *value, ms *mistakes) {
	checkText(root, "", ms)
	if homes := root.get("homes"); homes != nil {
		for i, h := range homes.list {
			checkPath(h, fmt.Sprintf("homes[%d]", i), ms)
		}
	}
	checkPath(root.get("tsh").get("path"), "tsh.path", ms)
	checkCommand(root.get("browser"), "browser", ms)
	checkDuration(root.get("handover_grace"), "handover_grace", 0, maxHandoverGrace, ms)
	checkProfiles(root.get("profiles"), ms)
	ports := make(map[int64]*value)
	checkTunnels(root.get("tunnels"), ports, ms)
	checkProxyPorts(root.get("tunnels"), root.get("profiles"), ms)
	checkPort(root.get("kube").get("port"), "kube.port", ports, ms)
	checkMetrics(root.get("metrics"), ports, ms)
	checkLimits(root, ms)
	checkHooks(root.get("access").get("hooks"), ms)
	quiet := root.get("notifications").get("quiet_hours")
	if s, ok := quiet.str(); ok && s != "" {
		if _, _, ok := parseQuietHours(s); !ok {
			mark(quiet, "notifications.quiet_hours", ms, "%s is not a span of time: write it as \"22:00-07:00\"", quote(s))
		}
	}
}

func mark(v *value, path string, ms *mistakes, format string, args ...any) {
	v.wrong = true
	ms.add(v.at, path, format, args...)
}

// checkText refuses, in every text below v, what could disturb a terminal or
// deceive a reader.
func checkText(v *value, path string, ms *mistakes) {
	for i, e := range v.list {
		checkText(e, fmt.Sprintf("%s[%d]", path, i), ms)
	}
	for _, m := range v.keys {
		checkText(m.val, join(path, m.name), ms)
	}
	if s, ok := v.str(); ok && plain.Line(s) != s {
		mark(v, path, ms, "%s has an invisible character: delete it", quote(s))
	}
}

// checkPath refuses paths that depend on where or by whom berth is started.
func checkPath(v *value, path string, ms *mistakes) {
	s, ok := v.str()
	if !ok || s == "" && path != "homes" && !strings.HasPrefix(path, "homes[") {
		return
	}
	const use = "write an absolute path, or one that starts with ~/"
	switch {
	case s == "":
		mark(v, path, ms, "this is empty: %s", use)
	case filepath.IsAbs(s), s == "~", strings.HasPrefix(s, "~") && os.IsPathSeparator(s[1]):
	case strings.HasPrefix(s, "~"):
		mark(v, path, ms, "%s is another user's home, which berth does not look up: %s", quote(s), use)
	case strings.ContainsAny(s, "$%"):
		mark(v, path, ms, "%s has a variable, which berth does not expand: %s", quote(s), use)
	default:
		mark(v, path, ms, "%s is relative: %s", quote(s), use)
	}
}

// checkCommand refuses a command without a program.
func checkCommand(v *value, path string, ms *mistakes) {
	if v == nil || len(v.list) == 0 {
		return
	}
	if s, ok := v.list[0].str(); ok && strings.TrimSpace(s) == "" {
		mark(v.list[0], path+"[0]", ms, "this is empty: write the program's name or path")
	}
}

func checkProfiles(profiles *value, ms *mistakes) {
	if profiles == nil {
		return
	}
	seen := make(map[string]*value)
	for i, p := range profiles.list {
		path := fmt.Sprintf("profiles[%d]", i)
		checkProxy(p.get("proxy"), path+".proxy", seen, ms)
		checkDuration(p.get("renew").get("before"), path+".renew.before", minRenewBefore, maxRenewBefore, ms)
		checkCommand(p.get("browser"), path+".browser", ms)
		ca, insecure := p.get("ca_file"), p.get("insecure")
		checkPath(ca, path+".ca_file", ms)
		if file, ok := ca.str(); ok && file != "" && insecure != nil && insecure.scalar == true {
			mark(insecure, path+".insecure", ms, "insecure: true leaves ca_file without effect: delete one of the two")
		}
	}
}

func checkProxy(v *value, path string, seen map[string]*value, ms *mistakes) {
	s, ok := v.str()
	if !ok {
		return
	}
	if why := proxyRefusal(s); why != "" {
		mark(v, path, ms, "%s", why)
		return
	}
	if first := seen[normalProxy(s)]; first != nil {
		mark(v, path, ms, "%s has its settings on line %d already: join the two", quote(s), first.at.line)
		return
	}
	seen[normalProxy(s)] = v
}

// CheckProxy refuses what cannot be the address of a proxy in the config.
func CheckProxy(addr string) error {
	if why := proxyRefusal(addr); why != "" {
		return errors.New(why)
	}
	return nil
}

// proxyRefusal says what is wrong with the address of a proxy; nothing when it
// is host:port or a host.
func proxyRefusal(s string) string {
	const use = "write host:port, as in teleport.example.com:443"
	if s == "" {
		return "this is empty: " + use
	}
	if _, rest, ok := strings.Cut(s, "://"); ok {
		addr, _, _ := strings.Cut(rest, "/")
		return fmt.Sprintf("%s is a URL: write only %s", quote(s), quote(addr))
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		if strings.Contains(s, ":") && net.ParseIP(strings.Trim(s, "[]")) == nil {
			return fmt.Sprintf("%s is not a proxy's address: %s", quote(s), use)
		}
		host, port = s, "443"
	}
	if host == "" || strings.ContainsAny(host, "/@?#, \t") {
		return fmt.Sprintf("%s is not a proxy's address: %s", quote(s), use)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Sprintf("%s has no port that can be: %s", quote(s), use)
	}
	return ""
}

func checkTunnels(tunnels *value, ports map[int64]*value, ms *mistakes) {
	if tunnels == nil {
		return
	}
	others := &seen{names: make(map[string]*value), ports: ports}
	for i, t := range tunnels.list {
		kind, known := t.get("kind").str()
		for _, k := range TunnelKeys {
			v, path := t.get(k.Name), fmt.Sprintf("tunnels[%d].%s", i, k.Name)
			if v == nil {
				continue
			}
			if k.check != nil {
				k.check(v, path, others, ms)
			}
			if known && !k.For(state.Kind(kind)) && !v.wrong && !v.blank() {
				mark(v, path, ms, "%s", k.misplaced(kind))
			}
		}
	}
}

// checkProxyPorts refuses the port of a proxy on this machine: a tunnel there
// would take the proxy's place, or lead to itself.
func checkProxyPorts(tunnels, profiles *value, ms *mistakes) {
	if tunnels == nil || profiles == nil {
		return
	}
	own := make(map[string]*value)
	for _, p := range profiles.list {
		proxy, _ := p.get("proxy").str()
		if port := ownPort(proxy); port != "" {
			own[port] = p.get("proxy")
		}
	}
	for i, t := range tunnels.list {
		v := t.get("port")
		if v == nil || v.wrong {
			continue
		}
		if proxy := own[fmt.Sprint(v.scalar)]; proxy != nil {
			mark(v, fmt.Sprintf("tunnels[%d].port", i), ms,
				"port %v is the one of the proxy on line %d: choose another", v.scalar, proxy.at.line)
		}
	}
}

// ownPort returns the port of a proxy on this machine; empty: it is elsewhere.
func ownPort(proxy string) string {
	host, port, err := net.SplitHostPort(proxy)
	if ip := net.ParseIP(host); err == nil && (host == "localhost" || ip != nil && ip.IsLoopback()) {
		return port
	}
	return ""
}

// misplaced says why a tunnel of a kind may not have the key.
func (k Key) misplaced(kind string) string {
	why := fmt.Sprintf(cmp.Or(k.not, ", and this tunnel is of kind %s"), kind)
	plurals := make([]string, len(k.Kinds))
	for i, kind := range k.Kinds {
		plurals[i] = kind.Info().Plural
	}
	return fmt.Sprintf("%s is for %s%s: delete it", k.Name, strings.Join(plurals, " and "), why)
}

// checkName refuses the name of another tunnel.
func checkName(v *value, path string, others *seen, ms *mistakes) {
	s, ok := v.str()
	if !ok {
		return
	}
	switch composed := plain.NFC(s); {
	case v.wrong:
		return
	case composed != s:
		mark(v, path, ms, "%s has letters in two parts, which look the same as %s: write that", quote(s), quote(composed))
		return
	case plain.Turns(s):
		mark(v, path, ms, "%s is written in both directions: use letters of one", quote(s))
		return
	}
	key := plain.SameName(s)
	if first := others.names[key]; first != nil {
		said, _ := first.str()
		if said == s {
			mark(v, path, ms, "the tunnel on line %d is called %s already: no two may share a name", first.at.line, quote(s))
		} else {
			mark(v, path, ms, "the tunnel on line %d is called %s, which looks the same or differs in case alone", first.at.line, quote(said))
		}
		return
	}
	others.names[key] = v
}

// checkEnds refuses spaces around a name.
func checkEnds(v *value, path string, _ *seen, ms *mistakes) {
	if s, ok := v.str(); ok && strings.TrimSpace(s) != s {
		mark(v, path, ms, "%s begins or ends with a space: delete it", quote(s))
	}
}

func checkPort(v *value, path string, ports map[int64]*value, ms *mistakes) {
	if v == nil || v.wrong {
		return
	}
	n, ok := v.scalar.(int64)
	if f, isFloat := v.scalar.(float64); isFloat {
		n, ok = int64(f), true
	}
	if !ok {
		return
	}
	if first := ports[n]; first != nil {
		mark(v, path, ms, "the tunnel on line %d has port %d already: no two may share one", first.at.line, n)
		return
	}
	ports[n] = v
}

func checkDuration(v *value, path string, least, most time.Duration, ms *mistakes) {
	s, ok := v.str()
	if !ok {
		return
	}
	d, err := time.ParseDuration(s)
	switch {
	case err != nil:
		mark(v, path, ms, "%s is not a duration: %s", quote(s), useDuration)
	case d < least:
		mark(v, path, ms, "%s is too short: use %s to %s", s, state.Duration(least), state.Duration(most))
	case d > most:
		mark(v, path, ms, "%s is too long: use %s to %s", plain.Short(s, maxValue), state.Duration(least), state.Duration(most))
	}
}
