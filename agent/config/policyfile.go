package config

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	generator "github.com/invopop/jsonschema"
)

// PolicyFile is where a policy is, and who must own it. The zero PolicyFile has
// no policy.
type PolicyFile struct {
	Path string
	// Trusted says why an open file or folder, which is the policy's or one of a file
	// that it includes, could be another's work than an administrator's.
	Trusted func(*os.File) error
}

// SystemPolicy is the policy file of this machine. No environment variable moves
// it: what moves it would undo it.
func SystemPolicy() PolicyFile {
	return PolicyFile{Path: filepath.Join(policyFolder(), "policy.yaml"), Trusted: ownedBySystem}
}

// Load reads the policy; nil when there is none. A policy that cannot be used is
// one too: it has an Err, and rules at their strictest.
func (f PolicyFile) Load() *Policy { return f.reload(nil) }

// reload is Load. Where mistakes hide which proxies are allowed or what is shipped,
// what last said holds on: no tunnel ends because of a slip.
func (f PolicyFile) reload(last *Policy) *Policy {
	if f.Path == "" {
		return nil
	}
	p := &Policy{Path: f.Path}
	data, err := f.read(f.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var root *value
	var ms mistakes
	if err == nil {
		p.print = "there: " + string(data)
		root = readTree(data, &ms)
		if root != nil && (!root.wrong || root.isMap) {
			validate(root, policySpecs(), &ms)
			checkPolicy(root, &ms)
		}
		p.Err = ms.err(f.Path)
	} else {
		p.Err = asError(f.Path, err)
	}
	if err := p.decode(root); err != nil {
		p.Err = asError(f.Path, err)
	}
	shipped := p.include(f, root)
	if last != nil && p.assumed["proxies"] {
		p.rules.Proxies, p.rules.noProxy = last.rules.Proxies, last.rules.noProxy
	}
	if last != nil && !shipped {
		p.shipped = last.shipped
	}
	if p.Err != nil {
		p.print += "\x00" + p.Err.Error()
	}
	return p
}

// fingerprint differs whenever anything that was read does.
func (p *Policy) fingerprint() string {
	if p == nil {
		return ""
	}
	return p.print
}

func asError(path string, err error) *Error {
	if bad, ok := errors.AsType[*Error](err); ok {
		return bad
	}
	return &Error{Path: path, Mistakes: []Mistake{{Text: err.Error()}}}
}

// read returns the content of a file that an administrator wrote, in a folder
// where no one else can put another in its place. The error is fs.ErrNotExist only
// where there is nothing.
func (f PolicyFile) read(path string) ([]byte, error) {
	target, err := f.follow(path)
	if err != nil {
		return nil, err
	}
	data, err := readFileIf(target, f.Trusted)
	if bad, ok := errors.AsType[*Error](err); ok {
		return nil, &Error{Path: path, Mistakes: bad.Mistakes}
	}
	if _, there := os.Lstat(path); err != nil && there == nil { // only what it leads to has gone
		return nil, leadsToNothing(path, target)
	}
	return data, err
}

// maxLinks are the most links that lead to a policy.
const maxLinks = 40

// follow returns the file to which path leads, over links if need be. Each folder in
// which something is looked up, from the root down, is one to be trusted: whoever owns
// one can put another below it in its place. A link to what is not there may lead to a
// disk that is not mounted, so it does not count as no file.
func (f PolicyFile) follow(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fileError(path, err)
	}
	at, todo := fromRoot(abs)
	own := len(todo) // how many names at the end of todo are path's own, not a link's
	hops := 0
	var untrusted error
	for len(todo) > 0 {
		name, linked := todo[0], len(todo) > own
		todo = todo[1:]
		own = min(own, len(todo))
		if name == "." {
			continue
		}
		if name == ".." {
			at = filepath.Dir(at)
			continue
		}
		untrusted = cmp.Or(untrusted, f.trusts(path, at))
		next := filepath.Join(at, name)
		info, err := os.Lstat(next)
		switch {
		case errors.Is(err, fs.ErrNotExist) && linked:
			return "", leadsToNothing(path, next)
		case errors.Is(err, fs.ErrNotExist) && len(todo) == 0 && untrusted != nil:
			return "", untrusted
		case err != nil:
			return "", fileError(path, err)
		case info.Mode()&fs.ModeSymlink == 0:
			at = next
			continue
		}
		to, err := os.Readlink(next)
		if err != nil {
			return "", leadsToNothing(path, next)
		}
		if hops++; hops > maxLinks {
			return "", &Error{Path: path, Mistakes: []Mistake{{Text: "too many links lead from one to the next"}}}
		}
		root, names := fromRoot(to)
		if filepath.IsAbs(to) {
			at = root
		}
		todo = append(names, todo...)
	}
	return at, untrusted
}

// fromRoot splits a path into its root and the names below that.
func fromRoot(path string) (root string, names []string) {
	volume := filepath.VolumeName(path)
	return volume + string(filepath.Separator), strings.FieldsFunc(path[len(volume):], func(r rune) bool {
		return r < utf8.RuneSelf && os.IsPathSeparator(uint8(r))
	})
}

// trusts says why the folder of a policy, or of a link to it, is not to be trusted.
func (f PolicyFile) trusts(path, folder string) error {
	dir, err := os.Open(folder)
	if err != nil {
		return fileError(path, err)
	}
	defer func() { _ = dir.Close() }() // only looked at
	if err := f.Trusted(dir); err != nil {
		return &Error{Path: path, Mistakes: []Mistake{{Text: "its folder is not to be trusted: " + err.Error()}}}
	}
	return nil
}

func leadsToNothing(path, target string) error {
	return &Error{Path: path, Mistakes: []Mistake{{Text: "it leads to " + target + ", which is not there"}}}
}

// decode takes over the rules in root that have no mistakes. The others hold at
// their strictest; and where a key is unknown, which may be another's misspelt
// name, those too that are not there.
func (p *Policy) decode(root *value) error {
	p.assumed, p.lines = make(map[string]bool), make(map[string]int)
	switch {
	case root == nil && p.Err == nil:
		return nil // an empty file
	case root == nil || !root.isMap || root.byName["version"] != nil && !root.byName["version"].val.sound():
		p.assume(func(string) bool { return true })
		return nil
	}
	clean := make(map[string]any)
	for _, m := range root.keys {
		if _, known := policySpecs().Properties[m.name]; known && m.val.sound() && !m.val.null {
			clean[m.name] = m.val.json()
		}
	}
	raw, err := json.Marshal(clean)
	if err == nil {
		err = json.Unmarshal(raw, &p.rules)
	}
	if err != nil {
		p.assume(func(string) bool { return true })
		return fmt.Errorf("[unexpected] %w", err)
	}
	misspelt := p.misspelt()
	for _, key := range policyKeys {
		if v := root.find(key); v != nil {
			p.lines[key] = v.at.line
		}
	}
	p.assume(func(key string) bool {
		v := root.find(key)
		return v == nil && misspelt || v != nil && !v.sound()
	})
	return nil
}

// misspelt reports whether a mistake may hide a key.
func (p *Policy) misspelt() bool {
	return p.Err != nil && slices.ContainsFunc(p.Err.Mistakes, func(m Mistake) bool {
		top, _, _ := strings.Cut(generic(m.Path), ".")
		_, known := policySpecs().Properties[strings.TrimSuffix(top, "[]")]
		return !known
	})
}

// find returns what stands at a key such as renew.auto; where that is missing or
// hidden by a mistake in a group of keys, the group. It returns nil where nothing
// is.
func (v *value) find(key string) *value {
	if v == nil {
		return nil
	}
	at := v
	for name := range strings.SplitSeq(key, ".") {
		m := at.byName[name]
		if m == nil {
			if at != v && !at.sound() {
				return at
			}
			return nil
		}
		at = m.val
		if !at.isMap {
			break
		}
	}
	return at
}

// assume makes the rules for which hidden is true as strict as can be.
func (p *Policy) assume(hidden func(key string) bool) {
	for key, set := range strictest {
		if hidden(key) {
			set(&p.rules)
			p.assumed[key] = true
		}
	}
}

// sound reports whether nothing in v has a mistake.
func (v *value) sound() bool {
	for _, e := range v.list {
		if !e.sound() {
			return false
		}
	}
	for _, m := range v.keys {
		if !m.val.sound() {
			return false
		}
	}
	return !v.wrong
}

// policyWants are to a policy what wants are to a config.
var policyWants = map[string]want{
	"":                  {"a policy", "write lines like version: 1 and insecure: false"},
	"version":           {"a version", "write 1"},
	"banner":            {"a line of text", "put it in quotes"},
	"insecure":          {"true or false", useBool},
	"guard":             {"a guard", "write on, or delete the key to leave it to the user"},
	"remember":          {"true or false", useBool},
	"renew":             {"a group of keys", "write {auto: false}"},
	"renew.auto":        {"true or false", useBool},
	"hold":              {"a duration", "write a number and a unit, as in 30s"},
	"proxies":           {"a list of proxies", "write [teleport.example.com:443]; without the key every proxy is allowed"},
	"proxies[]":         {"a proxy's address", "write host:port, as in teleport.example.com:443 or *.example.com"},
	"metrics":           {"a choice", "use on or off"},
	"telemetry":         {"a choice", "use on or off"},
	"links":             {"a choice", "use on or off"},
	"window":            {"a choice", "use on or off"},
	"recordings":        {"a group of keys", "write {export: off}"},
	"recordings.export": {"a choice", "use on or off"},
	"include":           {"a list of files", "write [tunnels.yaml]"},
	"include[]":         {"a file", "write an absolute path, or one from the policy's folder"},
}

var generatePolicy = sync.OnceValue(func() []byte {
	return schemaOf(&policyRules{}, "berth policy", func(*generator.Schema) {})
})

var policySpecs = sync.OnceValue(func() keySpec { return specOf(generatePolicy(), policyWants) })

// PolicySchema is the JSON Schema of a policy file.
func PolicySchema() []byte { return generatePolicy() }
