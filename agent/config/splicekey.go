package config

import (
	"strings"

	"berth/agent/state"

	"go.yaml.in/yaml/v3"
)

// setKey brings one key of the i-th tunnel to the value it shall have: changes
// it, adds it, or removes it.
func setKey(i int, key tunnelKey) change {
	return func(s *source, top *yaml.Node, _ state.TunnelSpec) ([]splice, bool) {
		_, list := tunnelsOf(top)
		if list == nil || list.Kind != yaml.SequenceNode || i >= len(list.Content) {
			return nil, false
		}
		item := list.Content[i]
		if item.Kind != yaml.MappingNode {
			return nil, false
		}
		for k := 0; k+1 < len(item.Content); k += 2 {
			if item.Content[k].Value != key.name {
				continue
			}
			if key.token == "" {
				return s.cutKey(item, k)
			}
			return s.replaceValue(item.Content[k], item.Content[k+1], key.token)
		}
		return s.addKey(item, key)
	}
}

// replaceValue puts token in the place of a single value.
func (s *source) replaceValue(key, val *yaml.Node, token string) ([]splice, bool) {
	if empty(val) {
		colon, ok := s.colon(key)
		return []splice{{colon + 1, colon + 1, " " + token}}, ok
	}
	if val.Kind != yaml.ScalarNode && val.Kind != yaml.AliasNode {
		return nil, false
	}
	end, ok := s.end(val)
	return []splice{{s.offset(val), end, token}}, ok
}

// addKey adds a key after the last one.
func (s *source) addKey(item *yaml.Node, key tunnelKey) ([]splice, bool) {
	if len(item.Content) == 0 {
		return nil, false
	}
	end, ok := s.pairEnd(item.Content[len(item.Content)-2:])
	if !ok {
		return nil, false
	}
	if isFlow(item) {
		return []splice{{end, end, ", " + key.name + ": " + key.token}}, true
	}
	at := s.lineEnd(end)
	pad := strings.Repeat(" ", item.Column-1)
	return []splice{{at, at, s.open(at) + pad + key.name + ": " + key.token + s.eol()}}, true
}

// cutKey removes the key at k and its value.
func (s *source) cutKey(item *yaml.Node, k int) ([]splice, bool) {
	if isFlow(item) {
		return s.cutFlow(item.Content, k, 2)
	}
	from := s.offset(item.Content[k])
	end, ok := s.pairEnd(item.Content[k : k+2])
	if !ok || !s.ends(end) {
		return nil, false
	}
	if s.lineStart(from)+s.indent(from) == from {
		return []splice{{s.lineStart(from), s.lineEnd(end), ""}}, true
	}
	// The key is on the line of the dash: the next one takes its place, if
	// only spaces lie between.
	if k+2 >= len(item.Content) {
		return nil, false
	}
	next := s.offset(item.Content[k+2])
	if strings.TrimSpace(string(s.text[end:next])) != "" {
		return nil, false
	}
	return []splice{{from, next, ""}}, true
}
