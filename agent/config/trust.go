package config

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// TrustProxy has the config file at path name the certificate authorities of a
// proxy's web certificate, or with insecure that it is not verified. The other of the
// two is taken out.
func TrustProxy(path, proxy, caFile string, insecure bool) error {
	return Edit(path, func(d *Document) error { return d.trustProxy(proxy, caFile, insecure) })
}

func (d *Document) trustProxy(proxy, caFile string, insecure bool) error {
	set, gone, value := "ca_file", "insecure", token(caFile)
	if insecure {
		set, gone, value, caFile = "insecure", "ca_file", "true", ""
	}
	entry := "{proxy: " + token(proxy) + ", " + set + ": " + value + "}"
	want := *d.cfg
	want.Profiles = slices.Clone(d.cfg.Profiles)
	i := slices.IndexFunc(want.Profiles, func(p Profile) bool { return normalProxy(p.Proxy) == normalProxy(proxy) })
	if i < 0 {
		want.Profiles = append(want.Profiles, Profile{Proxy: proxy, CAFile: caFile, Insecure: insecure})
	} else {
		want.Profiles[i].CAFile, want.Profiles[i].Insecure = caFile, insecure
	}
	byHand := &RefusedError{Path: d.path, Edit: "add this to its profiles yourself:\n  - " + entry}
	if !d.there && len(d.text) == 0 {
		d.text = []byte(header)
	}
	return d.splice(func(s *source, top *yaml.Node) ([]splice, bool) {
		if i >= 0 {
			_, list := lookup(top, "profiles")
			return s.setProfile(list, i, set, value, gone)
		}
		return s.appendProfile(top, entry)
	}, &want, byHand)
}

// setProfile gives a key of the i-th profile a value and takes another one out.
func (s *source) setProfile(list *yaml.Node, i int, name, value, gone string) ([]splice, bool) {
	if list == nil || list.Kind != yaml.SequenceNode || i >= len(list.Content) || list.Content[i].Kind != yaml.MappingNode {
		return nil, false
	}
	var splices []splice
	profile := list.Content[i]
	for _, change := range [][2]string{{name, value}, {gone, ""}} {
		sp, ok := s.changeKey(profile, change[0], change[1])
		if sp == nil && ok && change[1] != "" {
			var made splice
			made, ok = s.addPairs(profile, []string{change[0] + ": " + change[1]})
			sp = &made
		}
		if !ok {
			return nil, false
		}
		if sp != nil {
			splices = append(splices, *sp)
		}
	}
	return splices, apart(splices)
}

// appendProfile adds an entry to the profiles, which may not be there.
func (s *source) appendProfile(top *yaml.Node, entry string) ([]splice, bool) {
	end := len(s.text)
	if top == nil || empty(top) {
		return []splice{{end, end, s.open(end) + "profiles:" + s.eol() + "  - " + entry + s.eol()}}, true
	}
	if top.Kind != yaml.MappingNode || len(top.Content) == 0 {
		return nil, false
	}
	key, list := lookup(top, "profiles")
	switch {
	case key == nil && isFlow(top):
		at, ok := s.lastEnd(top, 0) // it is not empty
		return []splice{{at, at, ", profiles: [" + entry + "]"}}, ok
	case key == nil:
		pad := strings.Repeat(" ", top.Column-1)
		return []splice{{end, end, s.open(end) + pad + "profiles:" + s.eol() + pad + "  - " + entry + s.eol()}}, true
	case list.Kind == yaml.ScalarNode: // null
		return s.replaceValue(key, list, "["+entry+"]")
	case list.Kind != yaml.SequenceNode:
		return nil, false
	case len(list.Content) == 0:
		open := s.skipProperties(s.offset(list)) + 1
		return []splice{{open, open, entry}}, true
	}
	last := list.Content[len(list.Content)-1]
	to, ok := s.end(last)
	if !ok {
		return nil, false
	}
	if isFlow(list) {
		return []splice{{to, to, ", " + entry}}, true
	}
	dash, ok := s.dash(last)
	if !ok {
		return nil, false
	}
	at := s.itemEnd(dash, to)
	return []splice{{at, at, s.open(at) + strings.Repeat(" ", s.indent(dash)) + "- " + entry + s.eol()}}, true
}

// RememberTSH has the config file at path name the tsh to run.
func RememberTSH(path, program string) error {
	return Edit(path, func(d *Document) error {
		if err := d.SetTSH(program); err != nil {
			return fmt.Errorf("remember tsh: %w", err)
		}
		return nil
	})
}
