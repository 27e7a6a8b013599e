package state

import (
	"fmt"
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

// Nameless puts other words in the place of a tunnel and its name.
func Nameless(text, name, words string) string {
	upper := words
	if words != "" {
		upper = strings.ToUpper(words[:1]) + words[1:]
	}
	quoted := fmt.Sprintf("%q", name)
	return strings.NewReplacer("tunnel "+quoted, words, "Tunnel "+quoted, upper).Replace(text)
}
