// Package clientenv makes the environment of a client that must find one
// server and no other.
package clientenv

import (
	"regexp"
	"runtime"
	"slices"
	"strings"
)

// loopback is what no client may reach through an HTTP proxy: a tunnel is on
// this machine.
var loopback = []string{"127.0.0.1", "localhost", "::1"}

// noProxy are the variables that name what is reached without a proxy. Some
// programs read the one spelling, some the other, and some the first that is set.
var noProxy = []string{"NO_PROXY", "no_proxy"}

// Make returns environ without the variables that gone names and with those of
// set, which are KEY=VALUE. A name in gone that ends with "*" stands for every
// variable that begins so. What environ says is reached without an HTTP proxy
// is kept, and this machine is added.
func Make(environ, gone, set []string) []string {
	env := slices.DeleteFunc(slices.Clone(environ), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return matches(name, gone) || has(set, name)
	})
	return slices.Concat(withoutProxy(env), set)
}

// Named returns the names of those variables in environ that patterns name, as in
// Make, and that a shell can name too.
func Named(environ, patterns []string) []string {
	var names []string
	for _, kv := range environ {
		if name, _, _ := strings.Cut(kv, "="); matches(name, patterns) && inShell.MatchString(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// inShell is what a variable of a shell is called.
var inShell = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func matches(name string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		prefix, wild := strings.CutSuffix(p, "*")
		return sameName(name, p) || wild && len(name) >= len(prefix) && sameName(name[:len(prefix)], prefix)
	})
}

// has reports whether env has a variable of that name.
func has(env []string, name string) bool {
	return slices.ContainsFunc(env, func(kv string) bool {
		is, _, _ := strings.Cut(kv, "=")
		return sameName(is, name)
	})
}

// sameName compares names as the system does.
func sameName(a, b string) bool {
	return a == b || runtime.GOOS == "windows" && strings.EqualFold(a, b)
}

// withoutProxy extends the lists of what is reached without a proxy. Both
// spellings are set, so that no program stops reading the one that the user set.
func withoutProxy(env []string) []string {
	was := make(map[string]string)
	for _, kv := range env {
		name, value, _ := strings.Cut(kv, "=")
		for _, n := range append(noProxy, "no_grpc_proxy") {
			if sameName(name, n) {
				was[n] = value
			}
		}
	}
	var set []string
	for i, name := range noProxy {
		value, ok := was[name]
		if !ok {
			value = was[noProxy[1-i]]
		}
		set = append(set, name+"="+withLoopback(value))
	}
	if value, ok := was["no_grpc_proxy"]; ok { // to gRPC it comes before the others
		set = append(set, "no_grpc_proxy="+withLoopback(value))
	}
	if runtime.GOOS == "windows" { // both are one variable
		set = set[1:]
	}
	env = slices.DeleteFunc(env, func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return has(set, name)
	})
	return append(env, set...)
}

// withLoopback adds this machine to a list. "*" means everything, to some
// programs only if it stands alone.
func withLoopback(list string) string {
	var hosts []string
	for h := range strings.SplitSeq(list, ",") {
		if h = strings.TrimSpace(h); h == "*" {
			return "*"
		}
		if h != "" {
			hosts = append(hosts, h)
		}
	}
	for _, h := range loopback {
		if !slices.Contains(hosts, h) {
			hosts = append(hosts, h)
		}
	}
	return strings.Join(hosts, ",")
}
