package config

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"berth/agent/state"
	"berth/internal/plain"
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
	cfg, err := parseText(path, data)
	if err != nil {
		return nil, err
	}
	rest := bytes.TrimPrefix(data, []byte(byteOrderMark))
	return &Document{path: path, mark: data[:len(data)-len(rest)], text: rest, cfg: cfg}, nil
}

// begin gives a file that is not there its first lines.
func (d *Document) begin() {
	if !d.there && len(d.text) == 0 {
		d.text = []byte(header)
	}
}

func (d *Document) bytes() []byte { return slices.Concat(d.mark, d.text) }

// Config returns the document's content, the edits so far included.
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
	if err := nameTaken(t.Name, d.cfg.Tunnels); err != nil {
		return fmt.Errorf("add tunnel %q: %w", t.Name, err)
	}
	if err := d.checkTunnel(t, d.cfg.Tunnels); err != nil {
		return err
	}
	want := *d.cfg
	want.Tunnels = append(slices.Clone(d.cfg.Tunnels), t)
	byHand := &RefusedError{Path: d.path, Edit: "add this to its tunnels yourself:\n  - " + flowItem(t)}
	return d.splice(insertTunnel(t), &want, byHand)
}

// nameTaken refuses a name that one of the tunnels has, or one that looks the same.
func nameTaken(name string, tunnels []state.TunnelSpec) error {
	for _, t := range tunnels {
		switch {
		case t.Name == name:
			return ErrTunnelExists
		case plain.SameName(t.Name) == plain.SameName(name):
			return fmt.Errorf("%w, or one that looks the same: %q", ErrTunnelExists, t.Name)
		}
	}
	return nil
}

// NamedByRuleError says that a tunnel cannot go because a rule names it.
type NamedByRuleError struct{ Name, Rule string } // Rule as in access.auto_assume[0]

func (e *NamedByRuleError) Error() string {
	return fmt.Sprintf("the tunnel %q is named by %s in your config", e.Name, e.Rule)
}

// NextStep is what a person can do.
func (e *NamedByRuleError) NextStep() string {
	return `delete that rule first, or have it name another tunnel: "berth config edit"`
}

// RemoveTunnel removes the tunnel called name, and the comments within its
// lines. Comments on lines of their own above it stay.
func (d *Document) RemoveTunnel(name string) error {
	i := slices.IndexFunc(d.cfg.Tunnels, func(t state.TunnelSpec) bool { return t.Name == name })
	if i < 0 {
		return fmt.Errorf("remove tunnel %q: %w", name, errNoTunnel)
	}
	rule := slices.IndexFunc(d.cfg.Access.AutoAssume, func(r autoAssume) bool { return r.Tunnel == name })
	if rule >= 0 {
		return &NamedByRuleError{Name: name, Rule: fmt.Sprintf("access.auto_assume[%d]", rule)}
	}
	want := *d.cfg
	want.Tunnels = slices.Delete(slices.Clone(d.cfg.Tunnels), i, i+1)
	byHand := &RefusedError{Path: d.path, Edit: fmt.Sprintf("delete the tunnel %q from it yourself", name)}
	return d.splice(removeTunnel(i), &want, byHand)
}

// checkTunnel returns what is wrong with t beside the others.
func (d *Document) checkTunnel(t state.TunnelSpec, others []state.TunnelSpec) error {
	for _, o := range others {
		if t.Port != 0 && o.Port == t.Port {
			return fmt.Errorf("tunnel %q: port %d is that of %q: %w", t.Name, t.Port, o.Name, ErrPortTaken)
		}
	}
	if owner := d.portOwner(t.Port); owner != "" {
		text := fmt.Sprintf("%d is the one of %s: choose another", t.Port, owner)
		return &InvalidTunnelError{Name: t.Name, Mistakes: []Mistake{{Path: "port", Text: text}}}
	}
	_, err := parseText(d.path, []byte("tunnels: ["+flowItem(t)+"]"))
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

// portOwner is what else than a tunnel has a port; empty: nothing.
func (d *Document) portOwner(port int) string {
	if port == 0 {
		return ""
	}
	if port == d.cfg.Kube.Port {
		return "kube.port in your config"
	}
	if port == d.cfg.Metrics.Port() {
		return "metrics.listen in your config"
	}
	for _, p := range d.cfg.Profiles {
		if ownPort(p.Proxy) == strconv.Itoa(port) {
			return "the proxy " + p.Proxy
		}
	}
	return ""
}

// A change finds the splices that make it. It reports false where it does not
// know how.
type change func(s *source, top *yaml.Node) ([]splice, bool)

// splice applies a change and makes sure that the text then says exactly want:
// what cannot be proven right is refused.
func (d *Document) splice(c change, want *Config, byHand error) error {
	var ms mistakes
	top := parseYAML(d.text, &ms)
	s := newSource(d.text)
	splices, ok := c(s, top)
	if !ok {
		return byHand
	}
	out := s.apply(splices)
	got, err := parseText(d.path, out)
	if err != nil || !sameConfig(got, want) {
		return byHand
	}
	d.text, d.cfg = out, got
	return nil
}

// sameConfig compares configs; an empty list equals a list that is left out.
func sameConfig(a, b *Config) bool {
	x, y := *a, *b
	x.Tunnels, y.Tunnels, x.said, y.said, x.path, y.path = nil, nil, nil, nil, "", ""
	return reflect.DeepEqual(x, y) && slices.EqualFunc(a.Tunnels, b.Tunnels, func(t, u state.TunnelSpec) bool {
		return flowItem(t) == flowItem(u)
	})
}
