//go:build unix

package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/internal/osevents"
	"berth/internal/simcluster"
	"berth/internal/testneeds"
	"berth/internal/testwait"
)

// TestManyHeldClientsOneLogin is the morning after: everything was left open
// overnight, every client reconnects at once, and one login serves them all.
func TestManyHeldClientsOneLogin(t *testing.T) {
	t.Parallel()
	e := newEnv(t, simcluster.Config{})
	e.withTSH()
	e.Login(simcluster.WithTTL(-time.Hour))
	const tunnels, clients = 10, 200
	var items []string
	var ports []int
	for i := range tunnels {
		item, port := e.pgTunnel(fmt.Sprintf("pg%d", i))
		items, ports = append(items, item), append(ports, port)
	}
	e.config(items...)
	e.start()
	var wg sync.WaitGroup
	var failed atomic.Int64
	for i := range clients {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 2*wait)
			defer cancel()
			conn, err := e.pg(ctx, ports[i%tunnels])
			if err == nil {
				_, err = servedBy(ctx, conn)
				err = errors.Join(err, conn.Close(ctx))
			}
			if err != nil {
				failed.Add(1)
				t.Log(err)
			}
		})
	}
	e.Await("all clients to wait", func(s state.Snapshot) bool {
		var held int64
		for _, tun := range s.Tunnels {
			held += tun.Waiting
		}
		return held == clients
	})
	before := e.Sim.Counters().Logins
	people := []*person{
		e.sit(t.Context(), client.LoginStart{}, "alice-password"), e.sit(t.Context(), client.LoginStart{}), e.sit(t.Context(), client.LoginStart{}),
	}
	for _, p := range people {
		if err := p.result(t); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
	if n := failed.Load(); n != 0 {
		t.Errorf("%d of %d clients failed", n, clients)
	}
	if n := e.Sim.Counters().Logins - before; n != 1 {
		t.Errorf("%d logins at the cluster, want one", n)
	}
}

// TestProxyAwayIsOneProblem: a proxy that is away is the cluster's trouble, not
// that of each of its tunnels, and it goes by itself.
func TestProxyAwayIsOneProblem(t *testing.T) {
	t.Parallel()
	e := newEnv(t, simcluster.Config{})
	e.Login()
	var items []string
	for i := range 5 {
		item, _ := e.pgTunnel(fmt.Sprintf("pg%d", i))
		items = append(items, item)
	}
	e.config(items...)
	e.Sim.Faults().Stop()
	e.start()
	s := e.Await("all tunnels to fail", func(s state.Snapshot) bool {
		for _, tun := range s.Tunnels {
			if tun.State != state.TunnelError {
				return false
			}
		}
		return len(s.Tunnels) == 5
	})
	if len(s.Problems) != 1 || s.Problems[0].Code != state.CodeProxyUnreachable {
		t.Fatalf("problems %+v, want one: the proxy's", s.Problems)
	}
	for _, tun := range s.Tunnels {
		if tun.Problem == nil || *tun.Problem != s.Problems[0] {
			t.Errorf("tunnel %s has %+v, want the cluster's own problem", tun.Name, tun.Problem)
		}
	}
	if err := e.Sim.Faults().Start(); err != nil {
		t.Fatal(err)
	}
	e.Await("everything to be well again", func(s state.Snapshot) bool {
		for _, tun := range s.Tunnels {
			if tun.State != state.TunnelReady {
				return false
			}
		}
		return len(s.Problems) == 0
	})
}

// TestConnectionsThatDiedInTheSleep: the cluster dropped everything while the
// machine slept, or the network is another one. The first client after it gets
// through.
func TestConnectionsThatDiedInTheSleep(t *testing.T) {
	for _, kind := range []osevents.Kind{osevents.Woke, osevents.NetworkChanged, osevents.ClockChanged} {
		t.Run(strings.ReplaceAll(kind.String(), " ", "_"), func(t *testing.T) {
			e := newEnv(t, simcluster.Config{})
			e.Login()
			item, port := e.pgTunnel("pg")
			e.config(item)
			a := e.startAgent()
			e.AwaitState("pg", state.TunnelReady)
			e.Sim.Faults().Drop()
			a.heardFromSystem(osevents.Event{Kind: kind, Source: "test"})
			begun := time.Now()
			conn := e.mustPG(port)
			if _, err := servedBy(t.Context(), conn); err != nil {
				t.Error(err)
			}
			testwait.Soon(t, "the first client", time.Since(begun), 3*time.Second)
		})
	}
}

func TestClockDiffers(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		server time.Duration // how far its clock is ahead of ours
		want   string
	}{
		{"behind", 5 * time.Minute, "behind that of sim.test"},
		{"ahead", -5 * time.Minute, "ahead of that of sim.test"},
		{"a_little", time.Minute, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := newEnv(t, simcluster.Config{})
			if test.server > 0 {
				e.Login() // while it was right: a session of the future is another trouble
			}
			e.Sim.Faults().ClockOffset(test.server)
			if test.server < 0 {
				e.Login()
			}
			item, port := e.pgTunnel("pg")
			e.config(item)
			e.start()
			e.AwaitState("pg", state.TunnelReady)
			s := e.Snapshot()
			switch {
			case test.want == "" && len(s.Problems) == 0:
			case test.want != "" && len(s.Problems) == 1 && s.Problems[0].Code == state.CodeClockSkew && strings.Contains(s.Problems[0].Text, test.want):
			default:
				t.Errorf("problems %+v, want %q", s.Problems, test.want)
			}
			e.mustPG(port)
		})
	}
}

// TestClockDiffersInTwoHomes: a cluster that two sessions lead to is named once.
func TestClockDiffersInTwoHomes(t *testing.T) {
	t.Parallel()
	e := newEnv(t, aliceAndBob)
	e.Sim.Faults().ClockOffset(-5 * time.Minute)
	e.Login()
	second := filepath.Join(t.TempDir(), "tsh")
	must(t, e.Sim.Login(second, "bob"))
	alices, _ := e.pgTunnel("alices", "user: alice")
	bobs, _ := e.pgTunnel("bobs", "user: bob")
	e.config(alices, bobs)
	text, err := os.ReadFile(e.Paths.Config)
	must(t, err)
	must(t, os.WriteFile(e.Paths.Config, []byte(strings.Replace(string(text), "]", ", '"+second+"']", 1)), 0o600))
	e.start()
	e.AwaitState("alices", state.TunnelReady)
	e.AwaitState("bobs", state.TunnelReady)
	if list := e.Snapshot().Problems; len(list) != 1 || list[0].Text != "This machine's clock is 5 min ahead of that of sim.test." {
		t.Errorf("problems %+v, want one", list)
	}
}

// TestClockDiffersFromTwoClusters: this machine's clock is one problem.
func TestClockDiffersFromTwoClusters(t *testing.T) {
	for name, test := range map[string]struct {
		skews map[string]time.Duration
		want  string
	}{
		"one": {map[string]time.Duration{"a.test": -5 * time.Minute}, "This machine's clock is 5 min behind that of a.test."},
		"two": {
			map[string]time.Duration{"b.test": 3 * time.Minute, "a.test": 5 * time.Minute},
			"This machine's clock is 5 min ahead of that of a.test and 3 min ahead of that of b.test.",
		},
	} {
		if got := clockProblems(test.skews); len(got) != 1 || got[0].Text != test.want {
			t.Errorf("%s: %+v, want %q", name, got, test.want)
		}
	}
}

// TestLoginWithAClockBehind: the session that a login brings begins in the
// future, and both the login and the tunnel say which clock is wrong.
func TestLoginWithAClockBehind(t *testing.T) {
	testneeds.Time(t, "a clock that is behind is waited for")
	t.Parallel()
	e, start := loginEnv(t, simcluster.Config{})
	e.Sim.Faults().ClockOffset(5 * time.Minute)
	err := e.sit(t.Context(), start, "alice-password").result(t)
	if err == nil || !strings.Contains(err.Error(), "clock is behind") {
		t.Errorf("Login = %v, want the clock named", err)
	}
	e.Await("the tunnel to name the clock", func(s state.Snapshot) bool {
		return s.Tunnels[0].Problem != nil && s.Tunnels[0].Problem.Code == state.CodeClockSkew
	})
}

// TestExpiryInTheMiddle: what becomes of an open connection when its session
// ends is the cluster's to say, and berth adds nothing to it.
func TestExpiryInTheMiddle(t *testing.T) {
	testneeds.Time(t, "it waits for the end of sessions")
	t.Parallel()
	for _, cut := range []bool{false, true} {
		t.Run(fmt.Sprintf("disconnect_expired_cert_%v", cut), func(t *testing.T) {
			t.Parallel()
			e := newEnv(t, simcluster.Config{DisconnectExpiredCert: cut})
			e.Login()
			item, port := e.pgTunnel("pg")
			e.config(item)
			e.start()
			e.AwaitState("pg", state.TunnelReady)
			end := e.shortSession(20 * time.Second)
			conn := e.mustPG(port)
			_, err := conn.Exec(t.Context(), fmt.Sprintf("select pg_sleep(%d)", int(time.Until(end).Seconds())+3))
			if (err != nil) != cut {
				t.Errorf("a query over the session's end: %v", err)
			}
			e.AwaitState("pg", state.TunnelWaitingForLogin)
			e.Login()
			e.AwaitState("pg", state.TunnelReady)
			e.mustPG(port)
		})
	}
}

// TestLoginsThatCannotBe walks what stands in a login's way. Each is told, the
// home stays as it was, and the next login succeeds.
func TestLoginsThatCannotBe(t *testing.T) {
	for _, test := range []struct {
		name  string
		spoil func(t *testing.T, e *env) (mend func())
		want  string
	}{
		{"proxy_down", func(t *testing.T, e *env) func() {
			e.Sim.Faults().Stop()
			return func() {
				if err := e.Sim.Faults().Start(); err != nil {
					t.Fatal(err)
				}
			}
		}, "does not answer"},
		{"home_read_only", func(t *testing.T, e *env) func() {
			if os.Getuid() == 0 {
				// root writes everywhere: a file stands in the way instead.
				if err := os.RemoveAll(e.Home); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(e.Home, nil, 0o400); err != nil {
					t.Fatal(err)
				}
				return func() {
					if err := os.Remove(e.Home); err != nil {
						t.Fatal(err)
					}
				}
			}
			if err := os.Chmod(e.Home, 0o500); err != nil {
				t.Fatal(err)
			}
			return func() {
				if err := os.Chmod(e.Home, 0o700); err != nil {
					t.Fatal(err)
				}
			}
		}, "cannot log in"},
		{"tsh_hangs_up", func(_ *testing.T, e *env) func() {
			return e.script("exit 3")
		}, "failed"},
		{"tsh_prints_rubbish", func(_ *testing.T, e *env) func() {
			return e.script(`head -c 100000 /dev/urandom; head -c 100000 /dev/urandom >&2; exit 1`)
		}, "failed"},
		{"tsh_is_killed", func(_ *testing.T, e *env) func() {
			return e.script("kill -9 $$")
		}, "failed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			e := newEnv(t, simcluster.Config{})
			e.withTSH()
			e.Login(simcluster.WithTTL(-time.Hour))
			item, _ := e.pgTunnel("pg")
			e.config(item)
			e.start()
			e.AwaitState("pg", state.TunnelWaitingForLogin)
			mend := test.spoil(t, e)
			start := client.LoginStart{Proxy: e.Sim.ProxyAddr(), User: "alice"}
			var told *client.Error
			if err := e.sit(t.Context(), start, "alice-password").result(t); !errors.As(err, &told) || !strings.Contains(told.Message, test.want) {
				t.Errorf("Login = %v, want %q in it", err, test.want)
			}
			mend()
			if err := e.sit(t.Context(), start, "alice-password").result(t); err != nil {
				t.Errorf("after it is mended: %v", err)
			}
			e.AwaitState("pg", state.TunnelReady)
			e.nothingStaged()
		})
	}
}

// script puts a shell script in the fake tsh's place until mend is called.
func (e *env) script(body string) (mend func()) {
	e.t.Helper()
	text := "#!/bin/sh\nif [ \"$1\" = version ]; then echo 'Teleport v16.0.0 git: go1.22'; exit 0; fi\n" + body + "\n"
	if err := os.Rename(e.tsh, e.tsh+".real"); err != nil {
		e.t.Fatal(err)
	}
	if err := os.WriteFile(e.tsh, []byte(text), 0o700); err != nil {
		e.t.Fatal(err)
	}
	return func() {
		if err := os.Rename(e.tsh+".real", e.tsh); err != nil {
			e.t.Error(err)
		}
	}
}

// TestUnaskedBrowserFails: an unasked login whose page cannot be opened is left
// to the person.
func TestUnaskedBrowserFails(t *testing.T) {
	t.Parallel()
	e := newEnv(t, simcluster.Config{Connectors: okta})
	e.withTSH()
	e.Login(simcluster.WithTTL(40*time.Second), viaOkta)
	e.profileConfig("browser: [/nonexistent/browser], renew: {mode: auto}")
	e.startSession()
	s := e.Await("the failure", func(s state.Snapshot) bool {
		return s.Profiles[0].Renewal.Problem != nil && s.Profiles[0].Renewal.Warning != state.WarnNot && !s.Profiles[0].Login.InProgress
	})
	if p := s.Profiles[0].Renewal.Problem; p.Code != state.CodeRenewFailed || p.Action == "" {
		t.Errorf("problem %+v", p)
	}
}

// TestCallbackPortsTaken: tsh takes a free port for its callback, so a crowded
// loopback is no trouble of a login's.
func TestCallbackPortsTaken(t *testing.T) {
	t.Parallel()
	e := newEnv(t, simcluster.Config{Connectors: okta})
	e.withTSH()
	for range 200 {
		ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
	}
	e.Login(simcluster.WithTTL(-time.Hour), viaOkta)
	e.config()
	e.start()
	e.profile()
	p := e.sit(t.Context(), client.LoginStart{})
	e.browse(p.next(t).URL, "user=alice")
	if err := p.result(t); err != nil {
		t.Error(err)
	}
}

// TestClientsOfTheFirstMoment: clients that come while the agent, just started,
// is not yet sure of what it read in the homes are not turned away.
func TestClientsOfTheFirstMoment(t *testing.T) {
	t.Parallel()
	e := newEnv(t, simcluster.Config{})
	item, port := e.pgTunnel("pg")
	e.config(item)
	e.Login() // written just now: the first reading does not believe it yet
	e.start()
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), wait)
			defer cancel()
			conn, err := e.pg(ctx, port)
			if err == nil {
				err = conn.Close(ctx)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// A session that another takes the place of while a client waits for its cert costs
// that client nothing: the new one serves it.
func TestSessionReplacedUnderAClient(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"GetAuthPreference", "ListResources", "GenerateUserCerts"} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			e := newEnv(t, simcluster.Config{Databases: []simcluster.Database{{Name: "pg", Protocol: "postgres"}}})
			e.Login()
			pg, port := e.pgTunnel("pg", "hold: 2m") // without one a client has five seconds for all this
			e.config(pg)
			e.Sim.Faults().RPCDelay(method, 8*time.Second)
			e.start()
			testwait.Eventually(t, "the call to wait", func() bool { return e.Sim.Counters().RPCs[method] > 0 })
			conn := e.connecting(port)
			e.Await("the client to wait", func(s state.Snapshot) bool { return s.Tunnels[0].Waiting == 1 })
			before := e.Sim.Counters().RPCs[method]
			e.Login()
			testwait.Eventually(t, "the new session to be asked", func() bool { return e.Sim.Counters().RPCs[method] > before })
			e.Sim.Faults().RPCDelay(method, 0)
			if err := <-conn; err != nil {
				t.Error(err)
			}
			for line := range strings.SplitSeq(e.Log.String(), "\n") {
				if strings.Contains(line, `msg="tunnel state"`) && !strings.Contains(line, "state=connecting") && !strings.Contains(line, "state=ready") {
					t.Errorf("without the hold it would have been refused: %s", line)
				}
			}
		})
	}
}
