package config

import (
	"fmt"
	"slices"
	"strings"
)

// TrustProxy has the config file at path name the certificate authorities of a
// proxy's web certificate. A file that has profiles already is left as it is: the
// error says what to add.
func TrustProxy(path, proxy, caFile string) error {
	return Edit(path, func(d *Document) error { return d.trustProxy(proxy, caFile) })
}

func (d *Document) trustProxy(proxy, caFile string) error {
	entry := fmt.Sprintf("  - {proxy: %q, ca_file: %q}\n", proxy, caFile)
	byHand := &RefusedError{Path: d.path, Edit: "add this to its profiles yourself:\n" + strings.TrimSuffix(entry, "\n")}
	if len(d.cfg.Profiles) > 0 {
		if slices.ContainsFunc(d.cfg.Profiles, func(p Profile) bool { return p.Proxy == proxy && p.CAFile == caFile }) {
			return nil
		}
		return byHand
	}
	text := string(d.text)
	if !d.there {
		text = header
	}
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	text += "profiles:\n" + entry
	cfg, err := parseText(d.path, []byte(text))
	if err != nil || len(cfg.Profiles) != 1 || len(cfg.Tunnels) != len(d.cfg.Tunnels) {
		return byHand
	}
	d.text, d.cfg = []byte(text), cfg
	return nil
}
