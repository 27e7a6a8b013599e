package state

import "testing"

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
	if got := Nameless(`Tunnel "pg" waits; tunnel "pg" is held.`, "pg", "each of 2 tunnels"); got != "Each of 2 tunnels waits; each of 2 tunnels is held." {
		t.Error(got)
	}
}
