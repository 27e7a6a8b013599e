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
	return d.splice(setKubePort(strconv.Itoa(port)), &want, byHand)
}

// setKubePort writes the port where "kube" says it, or at the end of the file.
func setKubePort(port string) change {
	return func(s *source, top *yaml.Node) ([]splice, bool) {
		if top == nil || top.Kind != yaml.MappingNode || len(top.Content) == 0 {
			return nil, false
		}
		key, val := lookup(top, "kube")
		pair := "kube: {port: " + port + "}"
		switch {
		case key == nil && isFlow(top):
			at, ok := s.lastEnd(top, 0) // it is not empty
			return []splice{{at, at, ", " + pair}}, ok
		case key == nil:
			end := len(s.text)
			return []splice{{end, end, s.open(end) + strings.Repeat(" ", top.Column-1) + pair + s.eol()}}, true
		case val.Kind == yaml.ScalarNode: // null: anything else would not have been read
			return s.replaceValue(key, val, "{port: "+port+"}")
		case val.Kind != yaml.MappingNode:
			return nil, false
		}
		if portKey, portVal := lookup(val, "port"); portKey != nil {
			return s.replaceValue(portKey, portVal, port)
		}
		open := s.skipProperties(s.offset(val)) + 1
		return []splice{{open, open, "port: " + port}}, isFlow(val) && len(val.Content) == 0
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
