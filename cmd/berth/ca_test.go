package main

import (
	"slices"
	"strings"
	"testing"
)

// Each system reads its own folder of certificate authorities.
func TestTrustCommands(t *testing.T) {
	for name, tt := range map[string]struct {
		goos        string
		programs    []string
		trust, undo string
	}{
		"debian":   {"linux", []string{"update-ca-certificates", "trust"}, "/usr/local/share/ca-certificates/", "--fresh"},
		"opensuse": {"linux", []string{"update-ca-certificates", "trust", "zypper"}, "/etc/pki/trust/anchors/", "rm /etc/pki/trust/anchors/"},
		"fedora":   {"linux", []string{"trust"}, "sudo trust anchor --store '/x y/ca.pem'", "--remove"},
		"macos":    {"darwin", nil, "security add-trusted-cert", "remove-trusted-cert"},
		"windows":  {"windows", nil, `-addstore Root "/x y/ca.pem"`, "-delstore"},
	} {
		t.Run(name, func(t *testing.T) {
			first := trustCommands(tt.goos, "/x y/ca.pem", func(name string) bool { return slices.Contains(tt.programs, name) })[0]
			if !strings.Contains(first.Trust, tt.trust) || !strings.Contains(first.Undo, tt.undo) {
				t.Errorf("trusted by %q, undone by %q; want %q and %q", first.Trust, first.Undo, tt.trust, tt.undo)
			}
		})
	}
}
