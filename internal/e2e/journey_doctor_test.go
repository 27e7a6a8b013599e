//go:build e2e && linux

package e2e

import (
	"strings"
	"testing"
)

// TestDoctor: a healthy berth is found healthy, step by step up to the real
// proxy and through a tunnel, and a logout is named.
func TestDoctor(t *testing.T) {
	p := newPerson(t, roleDB)
	p.login()
	p.startAgent()
	p.addTunnel("pg")
	p.awaitReady("pg")
	r := p.tryBerth("doctor")
	for _, want := range []string{" is reached and trusted, and the clocks agree", "ok    tsh 16.", "ok    tunnel pg: ", " answers\n"} {
		if !strings.Contains(string(r.out), want) {
			t.Errorf("no %q", want)
		}
	}
	if r.code != 0 {
		t.Errorf("exit code %d", r.code)
	}
	p.logout()
	after := p.tryBerth("doctor")
	if !strings.Contains(string(after.out), "berth login ") {
		t.Errorf("the logout is not named:\n%s", after.out)
	}
	if t.Failed() {
		t.Logf("%s%s", r.out, r.err)
	}
}
