package config

import (
	"path/filepath"
	"strings"
	"testing"

	"berth/agent/state"
)

// TestPortOwner: a tunnel is refused the port of something else in the config by the
// name of that.
func TestPortOwner(t *testing.T) {
	for text, want := range map[string]string{
		"metrics: {listen: \"127.0.0.1:19473\"}":   "19473 is the one of metrics.listen in your config: choose another",
		"kube: {port: 19473}":                      "19473 is the one of kube.port in your config: choose another",
		"profiles: [{proxy: \"localhost:19473\"}]": "19473 is the one of the proxy localhost:19473: choose another",
	} {
		path := filepath.Join(t.TempDir(), "config.yaml")
		writeFile(t, path, text+"\n")
		err := Edit(path, func(d *Document) error {
			return d.AddTunnel(state.TunnelSpec{Name: "a", Kind: state.KindDB, Resource: "orders", Port: 19473})
		})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
