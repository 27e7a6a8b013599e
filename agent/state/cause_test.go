package state

import (
	"slices"
	"testing"
)

func TestCause(t *testing.T) {
	lost := func(name, profile string) Tunnel {
		return Tunnel{
			TunnelSpec: TunnelSpec{Name: name}, Profile: profile,
			Problem: &Problem{Code: CodeLoginNeeded, Title: "Login needed", Text: "Tunnel \"" + name + "\" waits.", Action: "berth login"},
		}
	}
	pg := lost("pg", "a:443")
	if my := lost("my", "a:443"); pg.Cause() != my.Cause() {
		t.Errorf("one lost session is two causes: %q, %q", pg.Cause(), my.Cause())
	}
	if other := lost("pg", "b:443"); pg.Cause() == other.Cause() {
		t.Error("two sessions are one cause")
	}
	port := lost("my", "a:443")
	port.Problem.Text = "Port 5432 is taken."
	if pg.Cause() == port.Cause() {
		t.Error("another text is the same cause")
	}
	if none := (Tunnel{}).Cause(); none != "" {
		t.Errorf("no problem has the cause %q", none)
	}
	cluster := Problem{Code: CodeLoginNeeded, Title: "Cluster is away"}
	down := Tunnel{TunnelSpec: TunnelSpec{Name: "down"}, Problem: &cluster}
	snapshot := Snapshot{
		Problems: []Problem{cluster},
		Tunnels:  []Tunnel{port, down, lost("pg", "a:443"), {TunnelSpec: TunnelSpec{Name: "well"}}, lost("kube", "a:443")},
	}
	var groups [][]string
	for _, tunnels := range snapshot.Causes() {
		var names []string
		for _, t := range tunnels {
			names = append(names, t.Name)
		}
		groups = append(groups, names)
	}
	if want := [][]string{{"my"}, {"pg", "kube"}}; !slices.EqualFunc(groups, want, slices.Equal[[]string]) {
		t.Errorf("the groups are %q, not %q", groups, want)
	}
	if got := Nameless(`Tunnel "pg" waits; tunnel "pg" is held.`, "pg", "each of 2 tunnels"); got != "Each of 2 tunnels waits; each of 2 tunnels is held." {
		t.Error(got)
	}
}
