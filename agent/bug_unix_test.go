//go:build unix

package agent

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"berth/agent/ipc/client"
	"berth/agent/secrets"
	"berth/agent/state"
	"berth/internal/simcluster"
	"berth/internal/survive"
	"berth/internal/testneeds"
	"berth/internal/testwait"
)

// TestBugInARoom: a panic ends the piece of work that met it, which is logged and
// tried again. The agent and its tunnels go on.
func TestBugInARoom(t *testing.T) { // not parallel: every agent of the process meets the bug
	testneeds.Time(t, "each room has an agent of its own")
	login := func(e *env) error {
		return e.Client().Login(t.Context(), client.LoginStart{Proxy: e.Sim.ProxyAddr(), User: "alice", Renew: true},
			func(ev client.LoginEvent, answer func(string)) error {
				if ev.Kind == state.LoginPassword {
					answer("alice-password")
				}
				return nil
			})
	}
	locked := func(e *env) error {
		e.Sim.Lock("alice", "for a moment")
		defer e.Sim.Unlock("alice")
		if _, err := e.pg(t.Context(), e.spec("pg").Port); err == nil {
			return errors.New("served while locked")
		}
		return nil
	}
	approve := func(e *env) error { e.approved("dba"); return nil }
	for work, cause := range map[string]func(e *env) error{
		"resolve a tunnel":         nil, // it comes by itself
		"keep Kubernetes' files":   nil,
		"list access requests":     nil,
		"watch access requests":    nil,
		"decide about renewals":    nil,
		"publish a snapshot":       nil,
		"write statistics":         login,
		"ask how a session stands": locked,
		"examine a tunnel":         locked,
		"log in":                   login,
		"run a hook":               approve,
		"assume by a rule":         approve,
	} {
		t.Run(strings.ReplaceAll(work, " ", "_"), func(t *testing.T) {
			var met atomic.Bool
			trap := func(what string) {
				if what == work && met.CompareAndSwap(false, true) {
					panic("a bug in " + what)
				}
			}
			survive.Trap.Store(&trap)
			defer survive.Trap.Store(nil)
			e := newEnv(t, requestsConfig())
			e.withTSH()
			e.Login()
			item, port := e.pgTunnel("pg")
			e.config(item)
			e.appendConfig("access: {auto_assume: [{roles: [dba], tunnel: pg}], hooks: [{on: [approved], run: [cat]}]}",
				"telemetry: {mode: local}")
			e.start()
			if cause != nil {
				e.AwaitState("pg", state.TunnelReady)
				e.awaitWatch()
				if err := cause(e); (err != nil) != (work == "log in") {
					t.Errorf("%v", err)
				}
				_, _ = e.pg(t.Context(), port) // it may be refused
			}
			testwait.Eventually(t, "the bug to be met", met.Load)
			testwait.Eventually(t, "the bug to be logged", func() bool {
				return strings.Contains(e.Log.String(), "[unexpected] panic") && strings.Contains(e.Log.String(), work)
			})
			e.AwaitState("pg", state.TunnelReady)
			e.mustPG(port)
			if err := login(e); err != nil {
				t.Errorf("a login afterwards: %v", err)
			}
		})
	}
}

// TestBugInAnUnattendedLogin: a renewal that meets a bug is noted as failed, and the
// person can log in all the same.
func TestBugInAnUnattendedLogin(t *testing.T) { // not parallel, as above
	e, k := rememberEnv(t, simcluster.Config{}, "auto")
	if err := e.sit(t.Context(), client.LoginStart{Remember: true}, "alice-password").result(t); err != nil || !k.Has(secrets.Password) {
		t.Fatalf("login: %v, stored: %v", err, k.Has(secrets.Password))
	}
	seen := make(chan struct{})
	goOn := sync.OnceFunc(func() { close(seen) })
	defer goOn()
	trap := func(what string) {
		switch what {
		case "log in unattended":
			panic("a bug in the renewal")
		case "log in": // it goes on by itself, and its success would end the problem
			<-seen
		}
	}
	survive.Trap.Store(&trap)
	defer survive.Trap.Store(nil)
	e.Login(simcluster.WithTTL(time.Minute))
	e.Await("the bug to be told", func(s state.Snapshot) bool {
		r := s.Profiles[0].Renewal
		return r.Problem != nil && strings.Contains(r.Problem.Text, "a bug in the renewal")
	})
	survive.Trap.Store(nil)
	goOn()
	if err := e.sit(t.Context(), client.LoginStart{Renew: true}).result(t); err != nil { // the password is stored
		t.Errorf("a login afterwards: %v", err)
	}
	e.Await("a session for hours", func(s state.Snapshot) bool {
		return s.Profiles[0].ValidUntil != nil && time.Until(*s.Profiles[0].ValidUntil) > time.Hour && s.Profiles[0].Renewal.Problem == nil
	})
}
