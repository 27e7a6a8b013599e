package doctor

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"

	"berth/agent/config"
)

// gone stands for what was taken out.
const gone = "REMOVED"

// minLiteral is how long the value of a variable must be to be looked for
// everywhere: a shorter one is part of ordinary words.
const minLiteral = 6

// patterns find what looks like a secret, whoever wrote it. What is found too
// much costs a support case a detail; what is not found would cost more.
var patterns = []struct {
	find    *regexp.Regexp
	replace string
}{
	// PEM, whole or cut off, also where its line ends are written as \n.
	{regexp.MustCompile(`(?s)-----BEGIN [A-Z0-9 ]+-----.*?(?:-----END [A-Z0-9 ]+-----|\z)`), gone},
	// One whose beginning was cut off: the lines of it that are left.
	{regexp.MustCompile(`(?:[A-Za-z0-9+/=]*(?:\r?\n|\\n))*-----END [A-Z0-9 ]+-----`), gone},
	{regexp.MustCompile(`(?:ssh|ecdsa|sk)-[a-z0-9@.-]+ [A-Za-z0-9+/=]{20,}`), gone},
	{regexp.MustCompile(`otpauth://[^\s"']+`), gone},
	// JSON Web Tokens, and the names that services give their tokens.
	{regexp.MustCompile(`eyJ[A-Za-z0-9_-]{5,}(?:\.[A-Za-z0-9_-]*){0,4}`), gone},
	{regexp.MustCompile(`\b(?:gh[oprsu]_|github_pat_|glpat-|xox[abprs]-|sk-|AKIA|ASIA)[A-Za-z0-9_-]{8,}`), gone},
	// Headers, to the end of their line or string.
	{regexp.MustCompile(`(?i)\b((?:proxy-)?authorization|(?:set-)?cookie|x-[a-z-]*(?:token|key|auth)[a-z-]*)(\\?["']?\s*[:=]\s*)[^\r\n"']*(?:["'][^\r\n"']*["'])?`), "$1$2" + gone},
	{regexp.MustCompile(`(?i)\b(bearer|basic|negotiate)\s+[A-Za-z0-9+/=._~-]{6,}`), "$1 " + gone},
	// URLs: who logs in with what, and what follows a question mark; a login page
	// on the loopback is a secret as a whole.
	{regexp.MustCompile(`([a-zA-Z][a-zA-Z0-9+.-]*://)[^\s/@"']+@`), "$1" + gone + "@"},
	{regexp.MustCompile(`(https?://(?:127\.0\.0\.1|localhost|\[::1\]):\d+/)[^\s"']+`), "$1" + gone},
	{regexp.MustCompile(`([a-zA-Z][a-zA-Z0-9+.-]*://[^\s"'?#]+[?#])[^\s"']+`), "$1" + gone},
	// name=value, name: value, "name": "value", --name value.
	{regexp.MustCompile(`(?i)([\w.-]*(?:passw(?:or)?d|passphrase|pwd|secret|token|api_?key|private_?key|credential|otp|totp|seed)[\w.-]*\\?["']?(?:\s*[:=]\s*|\s+(?:is\s+)?))` +
		`(?:\\?"(?:[^"\\]|\\.)*"|'[^']*'|[^\s,;}\])"']+)`), "${1}" + gone},
	// Long runs of letters and digits: keys, hashes, tokens.
	{regexp.MustCompile(`\b[A-Fa-f0-9]{32,}\b`), gone},
	{regexp.MustCompile(`[A-Za-z0-9+/_]{40,}={0,2}`), gone},
}

// secretName finds variables that hold secrets by their name.
var secretName = regexp.MustCompile(`(?i)pass|pwd|secret|token|key|credential|auth|cookie|otp|seed|dsn|session|private`)

// redactor takes secrets out of texts.
type redactor struct {
	literals []literal // the longest first
}

type literal struct{ is, becomes string }

// newRedactor also knows what the environment calls a secret, and what tells
// who the user is.
func newRedactor(environ []string) *redactor {
	r := &redactor{}
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		if len(value) >= minLiteral && secretName.MatchString(name) && !strings.HasPrefix(name, "XDG_") && !strings.HasPrefix(value, "/") && !strings.HasPrefix(value, "unix:") {
			r.literals = append(r.literals, literal{value, gone})
		}
	}
	if home, err := os.UserHomeDir(); err == nil && len(home) > 1 {
		r.literals = append(r.literals, literal{home, "~"})
	}
	slices.SortStableFunc(r.literals, func(a, b literal) int { return cmp.Compare(len(b.is), len(a.is)) })
	return r
}

// escapes are line ends and quotes as they are written inside of quoted texts.
var escapes = []struct {
	find    *regexp.Regexp
	replace string
}{
	{regexp.MustCompile(`\\+[nr]`), "\n"}, {regexp.MustCompile(`\\+t`), "\t"}, {regexp.MustCompile(`\\+"`), `"`},
}

// quoted returns a text without secrets that may hold quoted texts, such as a
// line of a log. They are unpacked: inside of quotes a secret has other
// neighbours than those it is known by.
func (r *redactor) quoted(s string) string {
	for _, e := range escapes {
		s = e.find.ReplaceAllString(s, e.replace)
	}
	return r.text(s)
}

// text returns s without secrets.
func (r *redactor) text(s string) string {
	for _, l := range r.literals {
		s = strings.ReplaceAll(s, l.is, l.becomes)
	}
	for _, p := range patterns {
		s = p.find.ReplaceAllString(s, p.replace)
	}
	return s
}

// plainTexts are the keys of the config whose texts say how berth is set up. Those of
// all others are left out: commands and names of a person's own may hold anything.
var plainTexts = []string{"homes", "proxy", "auth", "ca_file", "cluster", "resource", "quiet_hours", "path", "on", "tunnel"}

// schema is what the config's schema says of one place.
type schema struct {
	Type, Pattern string
	Enum          []any
	Items         *schema
	Properties    map[string]schema
}

// isPlain reports whether the value of a key says how berth is set up, and can say
// nothing else.
func (s schema) isPlain(key string) bool {
	return len(s.Enum) > 0 || s.Pattern != "" || s.Type == "integer" || s.Type == "boolean" || slices.Contains(plainTexts, key)
}

// configKeys are all keys that a config may have, each with whether it is plain
// wherever it stands.
var configKeys = sync.OnceValue(func() map[string]bool {
	var root schema
	if err := json.Unmarshal(config.Schema(), &root); err != nil {
		panic(fmt.Sprintf("doctor: schema of the config: %v", err))
	}
	keys := make(map[string]bool)
	var collect func(schema)
	collect = func(s schema) {
		if s.Items != nil {
			collect(*s.Items)
		}
		for key, sub := range s.Properties {
			plain, seen := keys[key]
			keys[key] = sub.isPlain(key) && (plain || !seen)
			collect(sub)
		}
	}
	collect(root)
	return keys
})

// config returns a config file with its shape and its plain values, and
// without its comments. What is no YAML is left out.
func (r *redactor) config(data []byte) string {
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return "# the file is no YAML, so it is left out; the findings say where it goes wrong\n"
	}
	strip(&doc, false)
	out, err := yaml.Marshal(&doc)
	if err != nil {
		return "# the file cannot be written without its secrets, so it is left out\n"
	}
	return r.text(string(out))
}

// strip takes comments out of a node, and values that are not plain.
func strip(n *yaml.Node, plain bool) {
	n.HeadComment, n.LineComment, n.FootComment = "", "", ""
	n.Anchor, n.Tag = "", ""
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			plain, known := configKeys()[key.Value]
			known = known && key.Kind == yaml.ScalarNode
			strip(key, known)
			strip(n.Content[i+1], known && plain)
		}
	case yaml.AliasNode:
		*n = yaml.Node{Kind: yaml.ScalarNode, Value: gone}
	case yaml.ScalarNode:
		if !plain && n.Value != "" {
			n.Value, n.Style = gone, yaml.DoubleQuotedStyle
		}
	default:
		for _, c := range n.Content {
			strip(c, plain)
		}
	}
}

// Redact returns a text without what looks like a secret, and without the values
// that the environment calls secrets.
func Redact(text string, environ []string) string { return newRedactor(environ).text(text) }
