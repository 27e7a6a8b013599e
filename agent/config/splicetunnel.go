package config

import (
	"strings"

	"go.yaml.in/yaml/v3"

	"berth/agent/state"
)

// tunnelsOf returns the key "tunnels" of a file and its value.
func tunnelsOf(top *yaml.Node) (key, val *yaml.Node) {
	return lookup(top, "tunnels")
}

func lookup(mapping *yaml.Node, name string) (key, val *yaml.Node) {
	if mapping == nil {
		return nil, nil
	}
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Kind == yaml.ScalarNode && mapping.Content[i].Value == name {
			return mapping.Content[i], mapping.Content[i+1]
		}
	}
	return nil, nil
}

func isFlow(n *yaml.Node) bool { return n.Style&yaml.FlowStyle != 0 }

// insertTunnel adds t after the tunnels that are there.
func insertTunnel(t state.TunnelSpec) change {
	return func(s *source, top *yaml.Node) ([]splice, bool) { return s.insertTunnel(top, t) }
}

func (s *source) insertTunnel(top *yaml.Node, t state.TunnelSpec) ([]splice, bool) {
	eol := s.eol()
	end := len(s.text)
	section := "tunnels:" + eol + "  - " + flowItem(t) + eol
	if top == nil || empty(top) {
		if strings.TrimSpace(string(s.text)) == "" {
			return []splice{{0, end, header + "\n" + section}}, true
		}
		return []splice{{end, end, s.open(end) + section}}, true
	}
	if top.Kind != yaml.MappingNode {
		return nil, false
	}
	key, val := tunnelsOf(top)
	switch {
	case key == nil && isFlow(top):
		at, ok := s.lastEnd(top, s.skipProperties(s.offset(top))+1)
		with := "tunnels: [" + flowItem(t) + "]"
		if len(top.Content) > 0 {
			with = ", " + with
		}
		return []splice{{at, at, with}}, ok
	case key == nil:
		pad := strings.Repeat(" ", top.Column-1)
		return []splice{{end, end, s.open(end) + pad + "tunnels:" + eol + pad + "  - " + flowItem(t) + eol}}, true
	case val.Kind == yaml.ScalarNode:
		return s.fillNull(top, key, val, t)
	case val.Kind != yaml.SequenceNode:
		return nil, false
	case !isFlow(val):
		return s.appendBlock(val, t)
	case len(val.Content) == 0:
		return s.fillEmpty(top, key, val, t)
	}
	return s.appendFlow(val, t)
}

// fillNull makes "tunnels:", with nothing or null after it, a list of t.
func (s *source) fillNull(top, key, val *yaml.Node, t state.TunnelSpec) ([]splice, bool) {
	colon, ok := s.colon(key)
	if !ok {
		return nil, false
	}
	gone := splice{colon + 1, colon + 1, ""}
	if !empty(val) {
		if gone.to, ok = s.end(val); !ok {
			return nil, false
		}
	}
	if isFlow(top) {
		gone.with = " [" + flowItem(t) + "]"
		return []splice{gone}, true
	}
	return s.startBlock(key, gone, t)
}

// fillEmpty makes "tunnels: []" a list of t: a block of lines, unless the
// brackets are part of something larger or hold comments.
func (s *source) fillEmpty(top, key, val *yaml.Node, t state.TunnelSpec) ([]splice, bool) {
	open := s.skipProperties(s.offset(val))
	end, ok := s.end(val)
	if !ok {
		return nil, false
	}
	colon, ok := s.colon(key)
	if !ok {
		return nil, false
	}
	inner := strings.TrimSpace(string(s.text[open+1 : end-1]))
	between := strings.TrimSpace(string(s.text[colon+1 : open]))
	if isFlow(top) || inner != "" || between != "" || s.line(colon) != s.line(end) {
		return []splice{{open + 1, open + 1, flowItem(t)}}, true
	}
	return s.startBlock(key, splice{colon + 1, end, ""}, t)
}

// startBlock begins a list below key, whose value so far is taken away.
func (s *source) startBlock(key *yaml.Node, gone splice, t state.TunnelSpec) ([]splice, bool) {
	if s.line(gone.from) != s.line(gone.to) || !s.ends(gone.to) {
		return nil, false
	}
	at := s.lineEnd(gone.from)
	item := strings.Repeat(" ", key.Column-1) + "  - " + flowItem(t) + s.eol()
	return []splice{gone, {at, at, s.open(at) + item}}, true
}

// appendFlow adds t to a list in brackets, on a line of its own if the last
// one is.
func (s *source) appendFlow(list *yaml.Node, t state.TunnelSpec) ([]splice, bool) {
	last := list.Content[len(list.Content)-1]
	end, ok := s.end(last)
	if !ok {
		return nil, false
	}
	start := s.offset(last)
	if s.line(start) == s.line(s.offset(list)) {
		return []splice{{end, end, ", " + flowItem(t)}}, true
	}
	pad := strings.Repeat(" ", s.indent(start))
	comma := s.skipSpaces(end)
	if comma < len(s.text) && s.text[comma] == ',' {
		if !s.ends(comma + 1) {
			return []splice{{end, end, ", " + flowItem(t)}}, true
		}
		at := s.lineEnd(comma)
		return []splice{{at, at, pad + flowItem(t) + "," + s.eol()}}, true
	}
	if !s.ends(end) { // the bracket closes on the same line
		return []splice{{end, end, "," + s.eol() + pad + flowItem(t)}}, true
	}
	at := s.lineEnd(end)
	return []splice{{end, end, ","}, {at, at, pad + flowItem(t) + s.eol()}}, true
}

// appendBlock adds t to a list of lines, written as the last one is.
func (s *source) appendBlock(list *yaml.Node, t state.TunnelSpec) ([]splice, bool) {
	last := list.Content[len(list.Content)-1]
	end, ok := s.end(last)
	if !ok {
		return nil, false
	}
	dash, ok := s.dash(last)
	if !ok {
		return nil, false
	}
	eol, at := s.eol(), s.itemEnd(dash, end)
	pad := strings.Repeat(" ", s.indent(dash))
	item := flowItem(t)
	if last.Kind == yaml.MappingNode && !isFlow(last) {
		deep := 2
		if s.line(dash) == s.line(s.offset(last)) {
			deep = last.Column - 1 - s.indent(dash)
		}
		item = strings.Repeat(" ", deep-2) + blockItem(t, pad+strings.Repeat(" ", deep), eol)
	}
	blank := ""
	if len(list.Content) > 1 && s.blankAbove(dash) {
		blank = eol
	}
	return []splice{{at, at, s.open(at) + blank + pad + "- " + item + eol}}, true
}

// dash is the place of the dash before an item of a list of lines, if it is
// the first thing on its line.
func (s *source) dash(item *yaml.Node) (int, bool) {
	for line := s.line(s.offset(item)); line >= 0; line-- {
		at := s.starts[line] + s.indent(s.starts[line])
		if at < len(s.text) && s.text[at] == '-' && s.indent(at) < item.Column-1 {
			return at, true
		}
	}
	return 0, false
}

// itemEnd is where the lines of an item end whose last value ends at end:
// comments that are indented more than its dash belong to it.
func (s *source) itemEnd(dash, end int) int {
	at := s.lineEnd(end)
	for at < len(s.text) && strings.HasPrefix(s.lineText(at), "#") && s.indent(at) > s.indent(dash) {
		at = s.lineEnd(at)
	}
	return at
}

// blankAbove reports whether a blank line comes before the line of off and the
// comments directly above it.
func (s *source) blankAbove(off int) bool {
	for line := s.line(off) - 1; line >= 0; line-- {
		if text := s.lineText(s.starts[line]); !strings.HasPrefix(text, "#") {
			return text == ""
		}
	}
	return false
}

// removeTunnel removes the i-th tunnel.
func removeTunnel(i int) change {
	return func(s *source, top *yaml.Node) ([]splice, bool) {
		_, list := tunnelsOf(top)
		if list == nil || list.Kind != yaml.SequenceNode || i >= len(list.Content) {
			return nil, false
		}
		if isFlow(list) {
			return s.cutFlow(list.Content, i)
		}
		return s.cutLines(list, i)
	}
}

// cutLines removes the lines of an item, and one of two blank lines that would
// then meet.
func (s *source) cutLines(list *yaml.Node, i int) ([]splice, bool) {
	item := list.Content[i]
	dash, ok := s.dash(item)
	if !ok {
		return nil, false
	}
	end, ok := s.end(item)
	if !ok || !s.ends(end) {
		return nil, false
	}
	from, to := s.lineStart(dash), s.itemEnd(dash, end)
	if line := s.line(from); line > 0 && s.lineText(s.starts[line-1]) == "" &&
		(to == len(s.text) || s.lineText(to) == "") {
		from = s.starts[line-1]
	}
	return []splice{{from, to, ""}}, true
}

// cutFlow removes the i-th item of a list in brackets.
func (s *source) cutFlow(items []*yaml.Node, i int) ([]splice, bool) {
	from := s.offset(items[i])
	to, ok := s.end(items[i])
	if !ok {
		return nil, false
	}
	after := s.skipSpaces(to)
	comma := after < len(s.text) && s.text[after] == ','
	if comma {
		after++
	}
	switch alone := s.lineStart(from)+s.indent(from) == from && s.ends(after); {
	case alone:
		return []splice{{s.lineStart(from), s.lineEnd(after), ""}}, true
	case comma:
		return []splice{{from, s.skipSpaces(after), ""}}, true
	case i == 0:
		return []splice{{from, to, ""}}, true
	}
	prev, ok := s.end(items[i-1])
	if !ok {
		return nil, false
	}
	if s.line(prev) != s.line(from) {
		prev = from // a comma at the end is allowed, and a comment may follow it
	}
	return []splice{{prev, to, ""}}, true
}
