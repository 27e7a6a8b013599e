package config

import (
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// SetKubePort says at which port the tunnels to Kubernetes listen together.
func (d *Document) SetKubePort(port int) error {
	want := *d.cfg
	want.Kube.Port = port
	byHand := &RefusedError{Path: d.path, Edit: fmt.Sprintf("add this to it yourself:\nkube: {port: %d}", port)}
	return d.splice(setIn("kube", "port", strconv.Itoa(port)), &want, byHand)
}

// SetTSH says which tsh to run.
func (d *Document) SetTSH(path string) error {
	want := *d.cfg
	want.TSH.Path = path
	byHand := &RefusedError{Path: d.path, Edit: fmt.Sprintf("add this to it yourself:\ntsh: {path: %s}", token(path))}
	return d.splice(setIn("tsh", "path", token(path)), &want, byHand)
}

// setIn gives a key of one of the groups at the top of the file a value, at the end
// of the file where the group is not there.
func setIn(group, name, value string) change {
	return func(s *source, top *yaml.Node) ([]splice, bool) {
		pair := group + ": {" + name + ": " + value + "}"
		if top == nil || empty(top) {
			end := len(s.text)
			return []splice{{end, end, s.open(end) + pair + s.eol()}}, true
		}
		if top.Kind != yaml.MappingNode || len(top.Content) == 0 {
			return nil, false
		}
		key, val := lookup(top, group)
		switch {
		case key == nil && isFlow(top):
			at, ok := s.lastEnd(top, 0) // it is not empty
			return []splice{{at, at, ", " + pair}}, ok
		case key == nil:
			end := len(s.text)
			return []splice{{end, end, s.open(end) + strings.Repeat(" ", top.Column-1) + pair + s.eol()}}, true
		case val.Kind == yaml.ScalarNode: // null: anything else would not have been read
			return s.replaceValue(key, val, "{"+name+": "+value+"}")
		case val.Kind != yaml.MappingNode:
			return nil, false
		}
		if old, oldVal := lookup(val, name); old != nil {
			return s.replaceValue(old, oldVal, value)
		}
		if isFlow(val) && len(val.Content) == 0 {
			open := s.skipProperties(s.offset(val)) + 1
			return []splice{{open, open, name + ": " + value}}, true
		}
		sp, ok := s.addPairs(val, []string{name + ": " + value})
		return []splice{sp}, ok
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
