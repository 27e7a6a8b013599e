package config

import (
	"fmt"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// SetKubePort says at which port the tunnels to Kubernetes listen together.
func (d *Document) SetKubePort(port int) error {
	want := *d.cfg
	want.Kube.Port = port
	byHand := &RefusedError{Path: d.path, Edit: fmt.Sprintf("add this to it yourself:\nkube: {port: %d}", port)}
	return d.splice(setUnder(setTop, "kube", "port", strconv.Itoa(port)), &want, byHand)
}

// SetTSH says which tsh to run.
func (d *Document) SetTSH(path string) error {
	want := *d.cfg
	want.TSH.Path = path
	byHand := &RefusedError{Path: d.path, Edit: fmt.Sprintf("add this to it yourself:\ntsh: {path: %s}", token(path))}
	return d.splice(setUnder(setTop, "tsh", "path", token(path)), &want, byHand)
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
