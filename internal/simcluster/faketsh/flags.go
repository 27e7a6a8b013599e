package faketsh

import (
	"fmt"
	"strings"
)

// flags are a command line's flags by their long names. tsh takes them
// anywhere, with the value after "=" or as the next word.
type flags map[string]string

// longFlags says of each flag whether it takes a value. Flags that make no
// difference here are accepted as tsh accepts them.
func longFlags() map[string]bool {
	return map[string]bool{
		"proxy": true, "user": true, "auth": true, "ttl": true, "out": true, "format": true, "browser": true,
		"browser-login": true, "cluster": true, "add-keys-to-agent": true, "request-id": true, "request-reason": true,
		"request-roles": true, "mfa-mode": true, "bind-addr": true, "callback": true, "port": true, "db-user": true,
		"db-name": true, "db-roles": true, "identity": true, "kube-cluster": true, "login": true, "listen": true,
		"roles": true, "reason": true, "reviewers": true, "resource": true, "max-duration": true, "assume-start-time": true,
		"request-reviewers": true, "approve": false, "deny": false, "nowait": false, "my-requests": false,
		"reviewable": false, "suggested": false,
		"teleport-cluster": true, "as": true, "as-groups": true, "kube-namespace": true, "set-context-name": true,
		"insecure": false, "debug": false, "client": false, "tunnel": false, "overwrite": false, "headless": false,
		"skip-version-check": false, "use-local-ssh-agent": false, "enable-escape-sequences": false, "all": false,
		"verbose": false, "request-nowait": false, "quiet": false,
	}
}

// shortFlags are the one-letter names.
func shortFlags() map[string]string {
	return map[string]string{
		"d": "debug", "f": "format", "o": "out", "i": "identity", "p": "port", "k": "add-keys-to-agent", "c": "cluster",
		"l": "login", "v": "verbose", "q": "quiet", "n": "kube-namespace",
	}
}

// parseFlags splits a command line into flags and words.
func parseFlags(args []string) (flags, []string, error) {
	f := make(flags)
	var words []string
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		switch {
		case arg == "--":
			return f, append(words, args...), nil
		case strings.HasPrefix(arg, "--"):
			name, value, given := strings.Cut(arg[2:], "=")
			rest, err := f.set(name, value, given, args)
			if err != nil {
				return nil, nil, err
			}
			args = rest
		case len(arg) > 1 && arg[0] == '-':
			name, ok := shortFlags()[arg[1:2]]
			if !ok {
				return nil, nil, fmt.Errorf("unknown short flag '%s'", arg)
			}
			rest, err := f.set(name, arg[2:], len(arg) > 2, args)
			if err != nil {
				return nil, nil, err
			}
			args = rest
		default:
			words = append(words, arg)
		}
	}
	return f, words, nil
}

// set stores a flag, and returns the words after it and its value.
func (f flags) set(name, value string, given bool, args []string) ([]string, error) {
	takes, known := longFlags()[name]
	if positive, ok := strings.CutPrefix(name, "no-"); !known && ok {
		if takes, known = longFlags()[positive]; known && !takes {
			f[positive] = "false"
			return args, nil
		}
		known = false
	}
	switch {
	case !known:
		return nil, fmt.Errorf("unknown long flag '--%s'", name)
	case !takes && !given:
		value = "true"
	case takes && !given && len(args) == 0:
		return nil, fmt.Errorf("expected argument for flag '--%s'", name)
	case takes && !given:
		value, args = args[0], args[1:]
	}
	f[name] = value
	return args, nil
}

// on reports whether a flag without a value was given.
func (f flags) on(name string) bool { return f[name] == "true" }

// flag returns a flag, or the variable that stands in for it, or "".
func (t *tsh) flag(name, variable string) string {
	if v, ok := t.flags[name]; ok {
		return v
	}
	if variable == "" {
		return ""
	}
	return t.env[variable]
}
