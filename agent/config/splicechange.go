package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"berth/agent/state"
)

// ChangeTunnel makes the tunnel called name what to says, another name included:
// only the keys that differ are written, in their places. Rules that name the
// tunnel follow it to its new name.
func (d *Document) ChangeTunnel(name string, to state.TunnelSpec) error {
	i := slices.IndexFunc(d.cfg.Tunnels, func(t state.TunnelSpec) bool { return t.Name == name })
	if i < 0 {
		return fmt.Errorf("change tunnel %q: %w", name, errNoTunnel)
	}
	others := slices.Delete(slices.Clone(d.cfg.Tunnels), i, i+1)
	if err := nameTaken(to.Name, others); err != nil {
		return fmt.Errorf("change tunnel %q to %q: %w", name, to.Name, err)
	}
	if err := d.checkTunnel(to, others); err != nil {
		return err
	}
	want := *d.cfg
	want.Tunnels = slices.Clone(d.cfg.Tunnels)
	want.Tunnels[i] = to
	want.Access.AutoAssume = slices.Clone(d.cfg.Access.AutoAssume)
	for n := range want.Access.AutoAssume {
		if want.Access.AutoAssume[n].Tunnel == name {
			want.Access.AutoAssume[n].Tunnel = to.Name
		}
	}
	byHand := &RefusedError{Path: d.path, Edit: fmt.Sprintf("make its tunnel %q this yourself:\n  - %s", name, flowItem(to))}
	return d.splice(changeTunnel(i, d.cfg.Tunnels[i], to), &want, byHand)
}

// changeTunnel writes the keys in which the i-th tunnel and to differ.
func changeTunnel(i int, from, to state.TunnelSpec) change {
	return func(s *source, top *yaml.Node) ([]splice, bool) {
		_, list := tunnelsOf(top)
		if list == nil || list.Kind != yaml.SequenceNode || i >= len(list.Content) || list.Content[i].Kind != yaml.MappingNode {
			return nil, false
		}
		var splices []splice
		var missing []string
		for _, k := range TunnelKeys {
			token := k.token(to)
			if token == k.token(from) {
				continue
			}
			sp, ok := s.changeKey(list.Content[i], k.Name, token)
			switch {
			case !ok:
				return nil, false
			case sp == nil:
				missing = append(missing, k.Name+": "+token)
			default:
				splices = append(splices, *sp)
			}
		}
		if len(missing) > 0 {
			sp, ok := s.addPairs(list.Content[i], missing)
			if !ok {
				return nil, false
			}
			splices = append(splices, sp)
		}
		rules, ok := s.renameRules(top, from.Name, to.Name)
		splices = append(splices, rules...)
		return splices, ok && apart(splices)
	}
}

// apart reports whether no two splices overlap, as those of two neighbours that
// are both taken out may.
func apart(splices []splice) bool {
	sorted := slices.SortedFunc(slices.Values(splices), func(a, b splice) int { return cmp.Compare(a.from, b.from) })
	for i := 1; i < len(sorted); i++ {
		if sorted[i].from < sorted[i-1].to {
			return false
		}
	}
	return true
}

// changeKey gives a key of a mapping another value, or takes the key out when
// there is none. It returns nil for a key that is not there.
func (s *source) changeKey(mapping *yaml.Node, name, token string) (*splice, bool) {
	key, val := lookup(mapping, name)
	switch {
	case key == nil:
		return nil, true
	case token == "":
		return s.cutPair(mapping, key, val)
	case val.Kind == yaml.SequenceNode && isFlow(val):
		end, ok := s.end(val)
		return &splice{s.offset(val), end, token}, ok
	}
	made, ok := s.replaceValue(key, val, token)
	if !ok || len(made) != 1 {
		return nil, false
	}
	return &made[0], true
}

// cutPair takes a key and its value out of a mapping. The first key of a block
// stands beside the dash, and stays.
func (s *source) cutPair(mapping, key, val *yaml.Node) (*splice, bool) {
	from := s.offset(key)
	end, ok := s.end(val)
	if empty(val) {
		end, ok = s.colon(key)
		end++
	}
	if !ok {
		return nil, false
	}
	if !isFlow(mapping) {
		alone := s.lineStart(from)+s.indent(from) == from && s.ends(end) && s.line(from) == s.line(end)
		return &splice{s.lineStart(from), s.lineEnd(end), ""}, alone
	}
	after := s.skipSpaces(end)
	if after < len(s.text) && s.text[after] == ',' {
		return &splice{from, s.skipSpaces(after + 1), ""}, true
	}
	before := from
	for before > 0 && (s.text[before-1] == ' ' || s.text[before-1] == '\t') {
		before--
	}
	if before > 0 && s.text[before-1] == ',' {
		return &splice{before - 1, end, ""}, true
	}
	return &splice{from, end, ""}, true
}

// addPairs adds keys after those that a mapping has: on its line, or each on a
// line of its own.
func (s *source) addPairs(mapping *yaml.Node, pairs []string) (splice, bool) {
	if isFlow(mapping) {
		at, ok := s.lastEnd(mapping, s.skipProperties(s.offset(mapping))+1)
		return splice{at, at, ", " + strings.Join(pairs, ", ")}, ok
	}
	end, ok := s.end(mapping)
	if !ok || !s.ends(end) {
		return splice{}, false
	}
	at, eol := s.lineEnd(end), s.eol()
	// A key's column is where it stands, also in the line of the dash.
	pad := strings.Repeat(" ", mapping.Content[0].Column-1)
	return splice{at, at, s.open(at) + pad + strings.Join(pairs, eol+pad) + eol}, true
}

// renameRules has the rules about one tunnel alone name it as it is now.
func (s *source) renameRules(top *yaml.Node, from, to string) ([]splice, bool) {
	_, access := lookup(top, "access")
	if from == to || access == nil || access.Kind != yaml.MappingNode {
		return nil, true
	}
	_, rules := lookup(access, "auto_assume")
	if rules == nil || rules.Kind != yaml.SequenceNode {
		return nil, true
	}
	var splices []splice
	for _, rule := range rules.Content {
		if rule.Kind != yaml.MappingNode {
			continue
		}
		key, val := lookup(rule, "tunnel")
		if key == nil || val.Value != from {
			continue
		}
		sp, ok := s.replaceValue(key, val, token(to))
		if !ok {
			return nil, false
		}
		splices = append(splices, sp...)
	}
	return splices, true
}
