package config

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// TrustProxy has the config file at path name the certificate authorities of a
// proxy's web certificate, or with insecure that it is not verified. The other of the
// two is taken out. The error is a *LostError if the file is lost, and the copy at
// lastGood is left.
func TrustProxy(path, lastGood, proxy, caFile string, insecure bool) error {
	return editKept(path, lastGood, func(d *Document) error { return d.trustProxy(proxy, caFile, insecure) })
}

func (d *Document) trustProxy(proxy, caFile string, insecure bool) error {
	set, gone, value := "ca_file", "insecure", token(caFile)
	if insecure {
		set, gone, value, caFile = "insecure", "ca_file", "true", ""
	}
	entry := "{proxy: " + token(proxy) + ", " + set + ": " + value + "}"
	want := *d.cfg
	want.Profiles = slices.Clone(d.cfg.Profiles)
	i := want.profileAt(proxy)
	edit := inProfile(i, both(setOwn(set, value), setOwn(gone, "")))
	if i < 0 {
		edit = func(s *source, top *yaml.Node) ([]splice, bool) { return s.appendProfile(top, entry) }
		want.Profiles = append(want.Profiles, Profile{Proxy: proxy, CAFile: caFile, Insecure: insecure})
	} else {
		want.Profiles[i].CAFile, want.Profiles[i].Insecure = caFile, insecure
	}
	byHand := &RefusedError{Path: d.path, Edit: "add this to its profiles yourself:\n  - " + entry}
	d.begin()
	return d.splice(edit, &want, byHand)
}

// both makes two changes.
func both(one, other change) change {
	return func(s *source, node *yaml.Node) ([]splice, bool) {
		first, ok := one(s, node)
		second, alsoOK := other(s, node)
		all := slices.Concat(first, second)
		return all, ok && alsoOK && apart(all)
	}
}

// appendProfile adds an entry to the profiles, which may not be there.
func (s *source) appendProfile(top *yaml.Node, entry string) ([]splice, bool) {
	key, list := lookup(top, "profiles")
	switch {
	case key == nil && top != nil && isFlow(top):
		return s.addTop(top, "profiles: ["+entry+"]")
	case key == nil:
		pad := ""
		if top != nil && !empty(top) {
			pad = strings.Repeat(" ", top.Column-1)
		}
		return s.addTop(top, "profiles:"+s.eol()+pad+"  - "+entry)
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

// RememberTSH has the config file at path name the tsh to run. The error is a *LostError
// if the file is lost, and the copy at lastGood is left.
func RememberTSH(path, lastGood, program string) error {
	return editKept(path, lastGood, func(d *Document) error {
		if err := d.SetTSH(program); err != nil {
			return fmt.Errorf("remember tsh: %w", err)
		}
		return nil
	})
}
