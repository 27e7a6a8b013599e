package config

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"berth/agent/state"

	"go.yaml.in/yaml/v3"
)

// Document is the text of a config file that is being edited, and what it
// says. It is only valid within the function that Edit calls.
type Document struct {
	path  string
	there bool   // the file exists
	mark  []byte // a byte order mark, if the file has one
	text  []byte
	cfg   *Config
}

func newDocument(path string, data []byte) (*Document, error) {
	cfg, err := Parse(path, data)
	if err != nil {
		return nil, err
	}
	rest := bytes.TrimPrefix(data, []byte(byteOrderMark))
	return &Document{path: path, mark: data[:len(data)-len(rest)], text: rest, cfg: cfg}, nil
}

func (d *Document) bytes() []byte { return slices.Concat(d.mark, d.text) }

// Config is what the document says now, the edits so far included.
func (d *Document) Config() *Config { return d.cfg }

// InvalidTunnelError says what is wrong with a tunnel that was to be written.
type InvalidTunnelError struct {
	Name     string
	Mistakes []Mistake // the paths are the tunnel's keys; there are no lines
}

func (e *InvalidTunnelError) Error() string {
	texts := make([]string, len(e.Mistakes))
	for i, m := range e.Mistakes {
		texts[i] = m.String()
	}
	return fmt.Sprintf("tunnel %q: %s", e.Name, strings.Join(texts, "; "))
}

// RefusedError says that the file is written in a way in which berth cannot
// make an edit without changing more than was asked for.
type RefusedError struct {
	Path string
	Edit string // what to do by hand, as a sentence without a full stop
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("%s is written in a way that berth does not edit, so that nothing is damaged; %s", e.Path, e.Edit)
}

// AddTunnel adds a tunnel after those that are there. It is written as the
// last of them is: on one line, or a line for each key.
func (d *Document) AddTunnel(t state.TunnelSpec) error {
	if _, there := d.cfg.Tunnel(t.Name); there {
		return fmt.Errorf("add tunnel %q: %w", t.Name, ErrTunnelExists)
	}
	if err := d.checkTunnel(t, d.cfg.Tunnels); err != nil {
		return err
	}
	want := *d.cfg
	want.Tunnels = append(slices.Clone(d.cfg.Tunnels), t)
	byHand := &RefusedError{Path: d.path, Edit: "add this to its tunnels yourself:\n  - " + flowItem(t)}
	return d.splice(insertTunnel, t, &want, byHand)
}

// RemoveTunnel removes the tunnel called name, and the comments within its
// lines. Comments on lines of their own above it stay.
func (d *Document) RemoveTunnel(name string) error {
	i := slices.IndexFunc(d.cfg.Tunnels, func(t state.TunnelSpec) bool { return t.Name == name })
	if i < 0 {
		return fmt.Errorf("remove tunnel %q: %w", name, ErrNoTunnel)
	}
	want := *d.cfg
	want.Tunnels = slices.Delete(slices.Clone(d.cfg.Tunnels), i, i+1)
	byHand := &RefusedError{Path: d.path, Edit: fmt.Sprintf("delete the tunnel %q from it yourself", name)}
	return d.splice(removeTunnel(i), state.TunnelSpec{}, &want, byHand)
}

// SetTunnel makes the tunnel called name be t, which may have another name.
// Keys that stay the same are not touched.
func (d *Document) SetTunnel(name string, t state.TunnelSpec) error {
	i := slices.IndexFunc(d.cfg.Tunnels, func(t state.TunnelSpec) bool { return t.Name == name })
	if i < 0 {
		return fmt.Errorf("change tunnel %q: %w", name, ErrNoTunnel)
	}
	if t.Name != name {
		if _, there := d.cfg.Tunnel(t.Name); there {
			return fmt.Errorf("rename tunnel %q to %q: %w", name, t.Name, ErrTunnelExists)
		}
	}
	others := slices.Delete(slices.Clone(d.cfg.Tunnels), i, i+1)
	if err := d.checkTunnel(t, others); err != nil {
		return err
	}
	byHand := &RefusedError{Path: d.path, Edit: fmt.Sprintf("change the tunnel %q yourself to:\n  - %s", name, flowItem(t))}
	// One key at a time: each step is checked, and what follows is found anew.
	for _, key := range changedKeys(d.cfg.Tunnels[i], t) {
		step := d.cfg.Tunnels[i]
		key.copyTo(&step, t)
		want := *d.cfg
		want.Tunnels = slices.Clone(d.cfg.Tunnels)
		want.Tunnels[i] = step
		if err := d.splice(setKey(i, key), step, &want, byHand); err != nil {
			return err
		}
	}
	return nil
}

// checkTunnel returns what is wrong with t beside the others.
func (d *Document) checkTunnel(t state.TunnelSpec, others []state.TunnelSpec) error {
	for _, o := range others {
		if t.Port != 0 && o.Port == t.Port {
			return fmt.Errorf("tunnel %q: port %d is that of %q: %w", t.Name, t.Port, o.Name, ErrPortTaken)
		}
	}
	_, err := Parse(d.path, []byte("tunnels: ["+flowItem(t)+"]"))
	bad := (*Error)(nil)
	if !errors.As(err, &bad) {
		return err
	}
	invalid := &InvalidTunnelError{Name: t.Name}
	for _, m := range bad.Mistakes {
		path := strings.TrimPrefix(strings.TrimPrefix(m.Path, "tunnels[0]"), ".")
		invalid.Mistakes = append(invalid.Mistakes, Mistake{Path: path, Text: m.Text})
	}
	return invalid
}

// A change finds the splices that bring t into the text, or those that the
// change is about. It reports false where it does not know how.
type change func(s *source, top *yaml.Node, t state.TunnelSpec) ([]splice, bool)

// splice applies a change and makes sure that the text then says exactly want:
// what cannot be proven right is refused.
func (d *Document) splice(c change, t state.TunnelSpec, want *Config, byHand error) error {
	var ms mistakes
	top := parseYAML(d.text, &ms)
	s := newSource(d.text)
	splices, ok := c(s, top, t)
	if !ok {
		return byHand
	}
	out := s.apply(splices)
	got, err := Parse(d.path, out)
	if err != nil || !sameConfig(got, want) {
		return byHand
	}
	d.text, d.cfg = out, got
	return nil
}

// sameConfig compares configs; a list that is empty is one that is left out.
func sameConfig(a, b *Config) bool {
	x, y := *a, *b
	x.Tunnels, y.Tunnels = nil, nil
	return reflect.DeepEqual(x, y) && slices.EqualFunc(a.Tunnels, b.Tunnels, func(t, u state.TunnelSpec) bool {
		return slices.Equal(tunnelKeys(t), tunnelKeys(u))
	})
}

// tunnelKey is one key of a tunnel and its value as text; empty when the key
// is left out.
type tunnelKey struct {
	name  string
	token string
}

// tunnelKeys lists the keys of t, in the order in which they are written.
func tunnelKeys(t state.TunnelSpec) []tunnelKey {
	port, hold := "", ""
	if t.Port != 0 {
		port = strconv.Itoa(t.Port)
	}
	if t.Hold != nil {
		hold = t.Hold.String()
	}
	return []tunnelKey{
		{"name", needed(t.Name)}, {"kind", needed(string(t.Kind))}, {"cluster", needed(t.Cluster)},
		{"resource", needed(t.Resource)}, {"db_user", token(t.DBUser)}, {"db_name", token(t.DBName)},
		{"as", token(t.As)}, {"as_groups", tokens(t.AsGroups)},
		{"port", port}, {"hold", hold}, {"engine", token(string(t.Engine))}, {"guard", token(string(t.Guard))},
	}
}

// writtenKeys is tunnelKeys without those that are left out.
func writtenKeys(t state.TunnelSpec) []tunnelKey {
	return slices.DeleteFunc(tunnelKeys(t), func(k tunnelKey) bool { return k.token == "" })
}

// changedKeys lists what in to differs from from, keys to be removed first: a
// tunnel that becomes one of kind kube must lose its database first.
func changedKeys(from, to state.TunnelSpec) []tunnelKey {
	old := tunnelKeys(from)
	var gone, changed []tunnelKey
	for i, k := range tunnelKeys(to) {
		switch {
		case k == old[i]:
		case k.token == "":
			gone = append(gone, k)
		default:
			changed = append(changed, k)
		}
	}
	return append(gone, changed...)
}

// copyTo copies the key's value from one tunnel to another.
func (k tunnelKey) copyTo(to *state.TunnelSpec, from state.TunnelSpec) {
	switch k.name {
	case "name":
		to.Name = from.Name
	case "kind":
		to.Kind = from.Kind
	case "cluster":
		to.Cluster = from.Cluster
	case "resource":
		to.Resource = from.Resource
	case "db_user":
		to.DBUser = from.DBUser
	case "db_name":
		to.DBName = from.DBName
	case "as":
		to.As = from.As
	case "as_groups":
		to.AsGroups = from.AsGroups
	case "port":
		to.Port = from.Port
	case "hold":
		to.Hold = from.Hold
	case "engine":
		to.Engine = from.Engine
	case "guard":
		to.Guard = from.Guard
	}
}

// unquoted is text that needs no quotes anywhere in YAML, if it is not read as
// something else than text.
var unquoted = regexp.MustCompile(`^[A-Za-z0-9_./~][A-Za-z0-9_./@~+-]*$`)

// token is s as a YAML value; empty for an empty text.
func token(s string) string {
	if s == "" {
		return ""
	}
	if unquoted.MatchString(s) {
		n := yaml.Node{Kind: yaml.ScalarNode, Value: s}
		if n.ShortTag() == "!!str" {
			return s
		}
	}
	raw, err := json.Marshal(s) // a JSON string is a YAML one
	if err != nil {
		return strconv.Quote(s)
	}
	return string(raw)
}

// needed is token for a key that is never left out.
func needed(s string) string { return cmp.Or(token(s), `""`) }

// tokens is a list as a YAML value; empty for an empty list.
func tokens(list []string) string {
	if len(list) == 0 {
		return ""
	}
	parts := make([]string, len(list))
	for i, s := range list {
		parts[i] = needed(s)
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

// flowItem is a tunnel on one line.
func flowItem(t state.TunnelSpec) string {
	var parts []string
	for _, k := range writtenKeys(t) {
		parts = append(parts, k.name+": "+k.token)
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

// blockItem is a tunnel with a line for each key, each but the first after
// indent.
func blockItem(t state.TunnelSpec, indent, eol string) string {
	var parts []string
	for _, k := range writtenKeys(t) {
		parts = append(parts, k.name+": "+k.token)
	}
	return strings.Join(parts, eol+indent)
}
