package state

import (
	"fmt"
	"slices"
	"strings"
)

// Cause names why a tunnel has its problem: the same for all tunnels of a profile whose
// problems differ in nothing but the tunnel's name, which one next step helps. It is
// empty without a problem.
func (t Tunnel) Cause() string {
	if t.Problem == nil {
		return ""
	}
	p := t.Problem
	return strings.Join([]string{t.Profile, string(p.Code), p.Title, Nameless(p.Text, t.Name, ""), p.Action}, "\x00")
}

// Causes groups the tunnels that have a problem by its cause, in the order in which they
// are in the snapshot. A problem that the snapshot lists by itself, such as that of a
// whole cluster, is in no group.
func (s Snapshot) Causes() [][]Tunnel {
	var groups [][]Tunnel
	at := make(map[string]int)
	for _, t := range s.Tunnels {
		if t.Problem == nil || slices.Contains(s.Problems, *t.Problem) {
			continue
		}
		i, ok := at[t.Cause()]
		if !ok {
			i = len(groups)
			at[t.Cause()] = i
			groups = append(groups, nil)
		}
		groups[i] = append(groups[i], t)
	}
	return groups
}

// Nameless puts other words in the place of a tunnel and its name.
func Nameless(text, name, words string) string {
	upper := words
	if words != "" {
		upper = strings.ToUpper(words[:1]) + words[1:]
	}
	quoted := fmt.Sprintf("%q", name)
	return strings.NewReplacer("tunnel "+quoted, words, "Tunnel "+quoted, upper).Replace(text)
}
