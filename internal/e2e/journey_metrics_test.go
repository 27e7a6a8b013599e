//go:build e2e && linux

package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"syscall"
	"testing"
	"time"

	"berth/internal/testwait"
)

// TestReadyPages: with metrics on, the pages of a Postgres and of a Redis tunnel are
// green from true probes, which leave nothing in the audit log. They turn red within
// ten seconds when the proxy hangs, and green within ten when it goes on.
func TestReadyPages(t *testing.T) {
	startRedis(t, "re-ready")
	p := newPerson(t, roleDB)
	p.login()
	listen := fmt.Sprintf("127.0.0.1:%d", mustFreePort(t))
	p.startAgent("metrics: {listen: " + listen + "}")
	p.addTunnel("pg")
	p.addTunnel("re", "--resource", "re-ready", "--db-name", "0")
	names := []string{"pg", "re"}
	for _, name := range names {
		p.awaitReady(name)
	}
	// page returns what the page of a tunnel answers.
	page := func(name string) (int, string) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+listen+"/readyz/"+name, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(text)
	}
	// turns waits until both pages answer want, and reports how long that took.
	turns := func(want int) {
		t.Helper()
		began := time.Now()
		for _, name := range names {
			text := ""
			testwait.Eventually(t, fmt.Sprintf("%s to answer %d", name, want), func() bool {
				code, body := page(name)
				text = body
				return code == want
			})
			took := time.Since(began)
			t.Logf("%s answers %d after %v: %s", name, want, took.Round(10*time.Millisecond), text)
			if took > 10*time.Second {
				t.Errorf("%s answers %d after %v, want at most 10 s", name, want, took)
			}
		}
	}
	turns(http.StatusOK)
	before := len(auditLog(t, p))
	if before == 0 {
		t.Fatal("the audit log has not even the login")
	}
	// Each probe is made anew once the last is five seconds old.
	for range 3 {
		sleepUntil(t.Context(), time.Now().Add(5500*time.Millisecond))
		for _, name := range names {
			if code, text := page(name); code != http.StatusOK {
				t.Errorf("%s: %d %s", name, code, text)
			}
		}
	}
	sleepUntil(t.Context(), time.Now().Add(2*time.Second)) // the log may lag behind
	for _, e := range auditLog(t, p)[before:] {
		t.Errorf("the probes left %s of %q in the audit log", e.Event, e.User)
	}

	proxy := lab.teleport.proc.pid()
	t.Cleanup(func() { _ = syscall.Kill(proxy, syscall.SIGCONT) }) // it goes on already
	if err := syscall.Kill(proxy, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	turns(http.StatusServiceUnavailable)
	if err := syscall.Kill(proxy, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	turns(http.StatusOK)
}
