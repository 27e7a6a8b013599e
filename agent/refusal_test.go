//go:build unix

package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/internal/simcluster"
	"berth/internal/simworld"
	"berth/internal/testwait"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// awaitProblem waits for one problem of the snapshot, and for all tunnels to have
// either none or that very one.
func (e *env) awaitProblem(code state.Code, words string) state.Problem {
	e.t.Helper()
	s := e.Await("the problem "+string(code)+": "+words, func(s state.Snapshot) bool {
		return len(s.Problems) == 1 && s.Problems[0].Code == code && strings.Contains(s.Problems[0].Text, words)
	})
	for _, tun := range s.Tunnels {
		if tun.Problem != nil && *tun.Problem != s.Problems[0] {
			e.t.Errorf("tunnel %s has a problem of its own: %+v", tun.Name, tun.Problem)
		}
	}
	return s.Problems[0]
}

func (e *env) awaitWell() {
	e.t.Helper()
	e.Await("all tunnels to be ready, without a problem", func(s state.Snapshot) bool {
		for _, tun := range s.Tunnels {
			if tun.State != state.TunnelReady || tun.Problem != nil {
				return false
			}
		}
		return len(s.Problems) == 0
	})
}

// twoTunnels starts an agent with tunnels pg and redis, which an open connection
// goes through.
func (e *env) twoTunnels() (pgPort int) {
	e.t.Helper()
	item, port := e.pgTunnel("pg")
	e.config(item, fmt.Sprintf("name: redis, kind: db, cluster: %s, resource: redis, db_user: alice, port: %d", e.Sim.Name(), simworld.FreePort(e.t)))
	e.start()
	e.awaitWell()
	return port
}

var twoDatabases = simcluster.Config{Databases: []simcluster.Database{
	{Name: "pg", Protocol: "postgres"}, {Name: "redis", Protocol: "redis"},
}}

// detail returns what a Postgres refusal says beside its title.
func detail(err error) string {
	if refused, ok := errors.AsType[*pgconn.PgError](err); ok {
		return refused.Detail
	}
	return ""
}

// examTime is how long a client waits for what the cluster has to say of its refusal.
const examTime = 2 * time.Second

// refusedFor has clients connect until one is refused for a reason that has the words:
// the first, unless the machine is so busy that the cluster could not answer in time.
func (e *env) refusedFor(port int, words string) {
	e.t.Helper()
	testwait.Eventually(e.t, "a refusal that says "+words, func() bool {
		began := time.Now()
		conn, err := e.pg(e.t.Context(), port)
		switch {
		case err == nil:
			e.t.Fatalf("a client is served, want it refused: %v", conn.Close(e.t.Context()))
		case strings.Contains(detail(err), words):
			return true
		case time.Since(began) < examTime:
			e.t.Fatalf("a client is refused with %v, %q, want %q", err, detail(err), words)
		}
		return false
	})
}

// TestLockedUser: a hang-up has the cluster asked. One problem says that it
// refuses the person, with the lock's message once a login was told it, and goes
// by itself.
func TestLockedUser(t *testing.T) {
	t.Parallel()
	e := newEnv(t, twoDatabases)
	e.withTSH()
	e.Login()
	port := e.twoTunnels()
	open := e.mustPG(port)
	e.serial(open)
	e.Sim.Lock("alice", "incident 7")
	if _, err := servedBy(t.Context(), open); err == nil {
		t.Error("a lock left an open connection alone")
	}
	e.refusedFor(port, "sim.test refuses alice")
	p := e.awaitProblem(state.CodeSessionRefused, "sim.test refuses alice: access denied; locked or deleted?")
	if !strings.Contains(p.Action, "berth login --renew "+e.Sim.ProxyAddr()) {
		t.Errorf("the way out is %q", p.Action)
	}
	err := e.sit(t.Context(), client.LoginStart{Proxy: e.Sim.ProxyAddr(), Renew: true}, "alice-password").result(t)
	if err == nil || !strings.Contains(err.Error(), "locked you out") || !strings.Contains(err.Error(), "incident 7") {
		t.Errorf("Login = %v, want the lock", err)
	}
	e.awaitProblem(state.CodeSessionRefused, `locked, "incident 7".`)
	e.Sim.Unlock("alice")
	began := time.Now()
	if err := e.sit(t.Context(), client.LoginStart{Proxy: e.Sim.ProxyAddr(), Renew: true}, "alice-password").result(t); err != nil {
		t.Fatal(err)
	}
	e.awaitWell()
	t.Logf("all is well %v after the login", time.Since(began))
	e.mustPG(port)
}

// TestLockEndsByItself: no login is needed, and the first client after it gets
// through.
func TestLockEndsByItself(t *testing.T) {
	t.Parallel()
	e := newEnv(t, twoDatabases)
	e.Login()
	port := e.twoTunnels()
	e.Sim.Lock("alice", "incident 7")
	if _, err := e.pg(t.Context(), port); err == nil {
		t.Error("served while locked")
	}
	e.awaitProblem(state.CodeSessionRefused, "refuses alice")
	e.Sim.Unlock("alice")
	testwait.Eventually(t, "a client after the lock", func() bool {
		began := time.Now()
		conn, err := e.pg(t.Context(), port)
		if err != nil && time.Since(began) < examTime { // else the cluster had no time to say that it is over
			t.Fatalf("the first client after the lock: %v, %q", err, detail(err))
		}
		return err == nil && conn.Close(t.Context()) == nil
	})
	e.awaitWell()
}

// TestLockEndsUnnoticed: no client connects, and the error does not outlive the lock.
func TestLockEndsUnnoticed(t *testing.T) {
	t.Parallel()
	e := newEnv(t, twoDatabases)
	e.Login()
	port := e.twoTunnels()
	e.Sim.Lock("alice", "incident 7")
	_, _ = e.pg(t.Context(), port) // it is refused, as TestLockEndsByItself has it
	e.awaitProblem(state.CodeSessionRefused, "refuses alice")
	e.Sim.Unlock("alice")
	began := time.Now()
	e.awaitWell()
	t.Logf("it is over %v after the lock", time.Since(began))
}

func TestDeletedUser(t *testing.T) {
	t.Parallel()
	e := newEnv(t, twoDatabases)
	e.Login()
	port := e.twoTunnels()
	e.Sim.RemoveUser("alice")
	e.refusedFor(port, "the user is deleted")
	e.awaitProblem(state.CodeSessionRefused, "sim.test refuses alice: access denied; the user is deleted.")
}

// TestUserCARotated: the session's problem has the way out; what can go on does.
func TestUserCARotated(t *testing.T) {
	t.Parallel()
	e := newEnv(t, twoDatabases)
	e.withTSH()
	e.Login()
	port := e.twoTunnels()
	must(t, e.Sim.RotateUserCA())
	if conn, err := e.pg(t.Context(), port); err == nil {
		t.Error("served with a cert of the CA that was rotated")
		must(t, conn.Close(t.Context()))
	}
	p := e.awaitProblem(state.CodeSessionOutdated, "user CA was rotated")
	if p.Action != "berth login --renew "+e.Sim.ProxyAddr() {
		t.Errorf("the way out is %q", p.Action)
	}
	// The connection that was open before the rotation mints certs of the new CA.
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	for {
		conn, err := e.pg(ctx, port)
		if err == nil {
			must(t, conn.Close(ctx))
			break
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
	}
	// A login that does not ask for a new session gets one all the same.
	if err := e.sit(t.Context(), client.LoginStart{Proxy: e.Sim.ProxyAddr()}, "alice-password").result(t); err != nil {
		t.Fatal(err)
	}
	e.awaitWell()
	e.mustPG(port)
}

// TestHostCARotated: tunnels serve on, and the problem says why nothing can be
// listed.
func TestHostCARotated(t *testing.T) {
	t.Parallel()
	e := newEnv(t, twoDatabases)
	e.withTSH()
	e.Login()
	port := e.twoTunnels()
	must(t, e.Sim.RotateHostCA())
	if _, _, err := e.Client().Resources(t.Context(), client.ResourceQuery{}); err == nil || !strings.Contains(err.Error(), "no longer fits") {
		t.Errorf("Resources = %v, want the CA named", err)
	}
	e.awaitProblem(state.CodeSessionOutdated, "it was rotated")
	e.mustPG(port)
	for _, tun := range e.Snapshot().Tunnels {
		if tun.State != state.TunnelReady {
			t.Errorf("tunnel %s is %s", tun.Name, tun.State)
		}
	}
	if err := e.sit(t.Context(), client.LoginStart{Proxy: e.Sim.ProxyAddr()}, "alice-password").result(t); err != nil {
		t.Fatal(err)
	}
	e.awaitWell()
}

// TestErrorEndsWithItsCause: a database that was away is tried again.
func TestErrorEndsWithItsCause(t *testing.T) {
	t.Parallel() // it waits for the next look
	e := newEnv(t, twoDatabases)
	e.Login()
	port := e.twoTunnels()
	e.Sim.Faults().Database("pg", simcluster.Refusing)
	if _, err := e.pg(t.Context(), port); err == nil || !strings.Contains(err.Error(), "database hung up") {
		t.Errorf("a client of a database that is away is refused with %v", err)
	}
	e.AwaitState("pg", state.TunnelError)
	e.Sim.Faults().Database("pg", simcluster.Healthy)
	began := time.Now()
	e.awaitWell()
	t.Logf("it is over after %v", time.Since(began))
}

// TestStoppedTunnelSaysSo: a client that is held when its tunnel stops reads of that,
// and of no hold that is over.
func TestStoppedTunnelSaysSo(t *testing.T) {
	e := newEnv(t, simcluster.Config{})
	item, port := e.pgTunnel("pg", "hold: 5m")
	e.config(item)
	e.startOptions(func(o *Options) { o.Grace = wait }, func(*Agent) {})
	e.AwaitState("pg", state.TunnelWaitingForLogin)
	held := e.connecting(port)
	e.Await("a held client", func(s state.Snapshot) bool { return s.Tunnels[0].Waiting == 1 })
	if err := e.Client().StopTunnel(t.Context(), "pg"); err != nil {
		t.Fatal(err)
	}
	if err := <-held; err == nil || !strings.Contains(err.Error(), "tunnel pg: stopping") || strings.Contains(err.Error(), "No login") {
		t.Errorf("the held client reads %v", err)
	}
}
