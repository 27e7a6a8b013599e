package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"berth/internal/plain"
)

// Bounds against files that are small and grow when they are read.
const (
	maxDepth   = 50
	maxAliased = 20_000 // values that aliases may repeat
)

// value is a place in the file and what it says, with aliases followed and
// merges done.
type value struct {
	at      position
	written string // a scalar as written
	scalar  any    // string, bool, int64, uint64, float64; nil when it is not one, or null
	null    bool
	list    []*value           // of a sequence
	keys    []*member          // of a mapping, in the order of the file
	byName  map[string]*member // the same
	isList  bool
	isMap   bool
	wrong   bool // has a mistake already: nothing more is said of it
}

type member struct {
	name string
	at   position // of the key
	val  *value
}

// get returns the member called name, or nil where there is none, it is null,
// or v is no mapping.
func (v *value) get(name string) *value {
	if v == nil {
		return nil
	}
	if m := v.byName[name]; m != nil && !m.val.null {
		return m.val
	}
	return nil
}

// put adds a member, unless there is one of its name.
func (v *value) put(m *member) {
	if v.byName == nil {
		v.byName = make(map[string]*member)
	}
	if v.byName[m.name] == nil {
		v.byName[m.name] = m
		v.keys = append(v.keys, m)
	}
}

// str returns the text that v holds; ok is false when it is absent, no text,
// or known to be wrong.
func (v *value) str() (s string, ok bool) {
	if v == nil || v.wrong {
		return "", false
	}
	s, ok = v.scalar.(string)
	return s, ok
}

// blank reports whether v is there and says nothing.
func (v *value) blank() bool { return len(v.list) == 0 && (v.scalar == nil || v.scalar == "") }

// json is v as the JSON it stands for: a key that is null is left out.
func (v *value) json() any {
	switch {
	case v.isMap:
		m := make(map[string]any, len(v.keys))
		for _, k := range v.keys {
			if !k.val.null {
				m[k.name] = k.val.json()
			}
		}
		return m
	case v.isList:
		l := make([]any, len(v.list))
		for i, e := range v.list {
			l[i] = e.json()
		}
		return l
	default:
		return v.scalar
	}
}

// describe names v in a sentence.
func (v *value) describe() string {
	switch {
	case v.isMap:
		return "a group of keys"
	case v.isList:
		return "a list"
	case v.null:
		return "empty"
	}
	if s, ok := v.scalar.(string); ok {
		return quote(s)
	}
	return plain.Short(v.written, maxValue)
}

// parseYAML returns the top of the one document in text, or nil when there is
// none, adding what is wrong with the syntax.
func parseYAML(text []byte, ms *mistakes) *yaml.Node {
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var doc, second yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return nil
	} else if err != nil {
		addSyntax(text, err, ms)
		return nil
	}
	switch err := dec.Decode(&second); {
	case errors.Is(err, io.EOF):
	case err != nil:
		addSyntax(text, err, ms)
		return nil
	default:
		ms.add(position{second.Line, 0}, "", "a second YAML document starts here: berth reads one, so join the two and remove the ---")
	}
	if len(doc.Content) == 0 {
		return nil
	}
	return doc.Content[0]
}

// builder makes values of YAML nodes.
type builder struct {
	ms      *mistakes
	open    []*yaml.Node // the aliased nodes that are being followed
	aliased int
	full    bool // maxAliased was reached and reported
}

// build makes the value of n. It is never nil; what is wrong with n is
// reported and the value marked.
func (b *builder) build(n *yaml.Node, path string, depth int) *value {
	v := &value{at: position{n.Line, n.Column}}
	if depth > maxDepth {
		b.fail(v, path, "more than %d levels deep", maxDepth)
		return v
	}
	if len(b.open) > 0 {
		if b.aliased++; b.aliased > maxAliased {
			if !b.full {
				b.full = true
				b.fail(v, path, "aliases repeat more than %d values: write them out", maxAliased)
			}
			v.wrong, v.null = true, true
			return v
		}
	}
	switch n.Kind {
	case yaml.AliasNode:
		return b.follow(n, v, path, depth)
	case yaml.MappingNode:
		v.isMap = true
		b.checkTag(n, v, path, "!!map")
		b.members(n, v, path, depth)
	case yaml.SequenceNode:
		v.isList = true
		b.checkTag(n, v, path, "!!seq")
		for i, c := range n.Content {
			e := b.build(c, fmt.Sprintf("%s[%d]", path, i), depth+1)
			if e.null && !e.wrong {
				b.fail(e, fmt.Sprintf("%s[%d]", path, i), "the entry is empty: fill it in, or delete it")
			}
			v.list = append(v.list, e)
		}
	default:
		b.scalar(n, v, path)
	}
	return v
}

func (b *builder) fail(v *value, path, format string, args ...any) {
	v.wrong = true
	b.ms.add(v.at, path, format, args...)
}

// follow builds what an alias stands for.
func (b *builder) follow(n *yaml.Node, v *value, path string, depth int) *value {
	if slices.Contains(b.open, n.Alias) {
		b.fail(v, path, "the alias %s contains itself", quote("*"+n.Value))
		return v
	}
	b.open = append(b.open, n.Alias)
	defer func() { b.open = b.open[:len(b.open)-1] }()
	return b.build(n.Alias, path, depth+1)
}

func (b *builder) checkTag(n *yaml.Node, v *value, path, want string) {
	if tag := n.ShortTag(); tag != want {
		b.fail(v, path, "the tag %s means nothing to berth: delete it", quote(tag))
	}
}

// members fills v with the keys of a mapping.
func (b *builder) members(n *yaml.Node, v *value, path string, depth int) {
	var merges []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, val := n.Content[i], n.Content[i+1]
		at := position{key.Line, key.Column}
		switch {
		case key.Kind == yaml.AliasNode:
			key = key.Alias
		case key.ShortTag() == "!!merge":
			merges = append(merges, val)
			continue
		}
		if key.Kind != yaml.ScalarNode {
			b.ms.add(at, path, "a key must be a word")
			continue
		}
		if twin := v.byName[key.Value]; twin != nil {
			twin.val.wrong = true
			b.ms.add(at, join(path, key.Value), "this key is already on line %d: keep one of the two", twin.at.line)
			continue
		}
		v.put(&member{key.Value, at, b.build(val, join(path, key.Value), depth+1)})
	}
	for _, m := range merges {
		b.merge(m, v, path, depth)
	}
}

// merge adds to v the keys of << that it does not have itself.
func (b *builder) merge(n *yaml.Node, v *value, path string, depth int) {
	from := b.build(n, join(path, "<<"), depth+1)
	sources := from.list
	if !from.isList {
		sources = []*value{from}
	}
	for _, s := range sources {
		if !s.isMap {
			if !s.wrong {
				b.fail(s, join(path, "<<"), "<< wants the alias of a group of keys, as in <<: *defaults")
			}
			continue
		}
		for _, m := range s.keys {
			v.put(m)
		}
	}
}

// scalar fills v with the single value n.
func (b *builder) scalar(n *yaml.Node, v *value, path string) {
	v.written = n.Value
	switch tag := n.ShortTag(); tag {
	case "!!null":
		v.null = true
	case "!!str", "!!timestamp", "!!merge":
		v.scalar = n.Value
	case "!!bool", "!!int", "!!float":
		if err := n.Decode(&v.scalar); err != nil {
			b.fail(v, path, "%s does not fit its tag %s", quote(n.Value), tag)
			return
		}
		switch x := v.scalar.(type) {
		case int:
			v.scalar = int64(x)
		case float64:
			if math.IsInf(x, 0) || math.IsNaN(x) {
				v.scalar = n.Value // JSON has no such number
			}
		}
	default:
		b.fail(v, path, "the tag %s means nothing to berth: delete it", quote(tag))
	}
}

// join is the path of the key called name below path.
func join(path, name string) string {
	if !plainKey(name) {
		name = quote(name)
	}
	if path == "" {
		return name
	}
	return path + "." + name
}

func plainKey(s string) bool {
	return s != "" && len(s) <= 64 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-<") == ""
}

// maxValue is how much of a value an error shows, in columns: the last may be an
// ellipsis.
const maxValue = 61

// quote is s in quotes, with what cannot be seen written out, and not too long
// for a line.
func quote(s string) string {
	var b strings.Builder
	for _, r := range strconv.Quote(s) {
		if plain.Invisible(r) { // in what strconv takes for printable
			fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	quoted := b.String()
	return `"` + plain.Cut(plain.Line(quoted[1:len(quoted)-1]), maxValue) + `"`
}
