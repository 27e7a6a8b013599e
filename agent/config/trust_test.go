package config

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestTrustProxy(t *testing.T) {
	for name, tt := range map[string]struct {
		before string // empty: there is no file
		want   int    // profiles; 0: it is refused
	}{
		"no_file":      {"", 1},
		"with_tunnels": {"version: 1 # mine\ntunnels:\n  - {name: a, kind: db, cluster: c, resource: r}", 1},
		"profiles":     {"version: 1\nprofiles:\n  - {proxy: other.example.com}\n", 0},
		"flow":         {"{version: 1}\n", 0},
		"there":        {"version: 1\nprofiles:\n  - {proxy: \"p.example.com:443\", ca_file: \"/etc/ca.pem\"}\n", 1},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "config.yaml")
			if tt.before != "" {
				if err := os.WriteFile(path, []byte(tt.before), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			err := TrustProxy(path, "p.example.com:443", "/etc/ca.pem")
			refused := (*RefusedError)(nil)
			if tt.want == 0 {
				raw, _ := os.ReadFile(path)
				if !errors.As(err, &refused) || string(raw) != tt.before {
					t.Errorf("TrustProxy: %v, and the file is\n%s", err, raw)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			cfg, err := Load(path)
			if err != nil || len(cfg.Profiles) != tt.want || cfg.Profiles[0].CAFile != "/etc/ca.pem" {
				t.Errorf("the file has %+v, %v", cfg, err)
			}
		})
	}
}
