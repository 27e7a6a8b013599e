package tunnel

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"berth/agent/config"
	"berth/agent/memory"
	"berth/agent/sessions"
	"berth/agent/state"
	"berth/agent/tunnel/history"
	"berth/internal/wake"
	"berth/proxies"
)

// script is a resolving that returns what the test says.
type script struct {
	mu    sync.Mutex
	next  func(t *tunnel) resolution
	found error // what an examination finds
	blind bool  // none can find out anything
	count int
	slow  time.Duration // how long a resolution takes
	why   Reason        // of the newest one
}

func (s *script) resolve(ctx context.Context, t *tunnel, why Reason) resolution {
	wake.Sleep(ctx, s.slow)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count++
	s.why = why
	return s.next(t)
}

func (s *script) examinable(*tunnel) bool { return !s.blind }

func (s *script) examine(_ context.Context, _ *tunnel, err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.blind {
		return err
	}
	return s.found
}

func (*script) release(*tunnel) {}

func (*script) noCode(*tunnel) {}

func (*script) suggestForClients(context.Context, *tunnel) {}

func (s *script) say(next func(*tunnel) resolution) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next = next
}

func (s *script) resolutions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}

// port is a carrier without a socket: it is released some time after its end.
type port struct {
	slow     time.Duration
	released chan struct{}
	marked   bool
}

func (*port) Bind() error { return nil }

func (p *port) Run(ctx context.Context) error {
	<-ctx.Done()
	wake.Sleep(context.WithoutCancel(ctx), p.slow)
	close(p.released)
	return nil
}

func (p *port) Released() <-chan struct{}                         { return p.released }
func (*port) Status() proxies.Status                              { return proxies.Status{} }
func (*port) CloseConnections()                                   {}
func (p *port) MarkConnections()                                  { p.marked = true }
func (*port) CloseMarked()                                        {}
func (p *port) Leave(time.Duration, proxies.Move) <-chan struct{} { return p.released }

var errCluster = errors.New("the cluster fails")

func loggedOut(*tunnel) resolution {
	return resolution{state: state.TunnelWaitingForLogin, err: errCluster, next: time.Now().Add(time.Hour)}
}

func failing(*tunnel) resolution {
	return resolution{state: state.TunnelError, err: errCluster, next: time.Now().Add(time.Hour)}
}

func serving(*tunnel) resolution {
	until := time.Now().Add(time.Hour).Round(0)
	return resolution{state: state.TunnelReady, cred: &credential{validUntil: until}, next: until}
}

// inBubble runs test with a tunnel that does what the script says.
func inBubble(t *testing.T, first func(*tunnel) resolution, test func(*testing.T, *tunnel, *script)) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{next: first}
		tun := &tunnel{
			spec: state.TunnelSpec{Name: "db"}, resolver: s, px: &port{released: make(chan struct{})},
			log: slog.New(slog.DiscardHandler), onChange: func() {},
			lastProfile: func() memory.Profile { return memory.Profile{} },
			history:     history.NewBook(func() int { return 50 }).Of("db"), kick: make(chan Reason, 1), exam: exam{asked: wake.NewSignal()}, turns: new(turns).of(""),
			status: resolution{state: state.TunnelConnecting}, warm: proxies.NewWarm(nil, slog.New(slog.DiscardHandler)),
		}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { tun.run(ctx) })
		synctest.Wait()
		test(t, tun, s)
		cancel()
		running.Wait()
	})
}

func TestClientIsHeldUntilALogin(t *testing.T) {
	inBubble(t, loggedOut, func(t *testing.T, tun *tunnel, s *script) {
		released := make(chan error, 1)
		go func() {
			_, err := tun.credentialFor(t.Context())
			released <- err
		}()
		time.Sleep(5 * connectWait)
		synctest.Wait()
		select {
		case err := <-released:
			t.Fatalf("not held for a login: %v", err)
		default:
		}
		s.say(serving)
		began := time.Now()
		tun.wake(Changed)
		if err := <-released; err != nil || time.Since(began) != 0 {
			t.Errorf("released after %v with %v, want at once", time.Since(began), err)
		}
	})
}

// TestHeldClientWhoseLoginIsReadInTwo: a client that was held for long gets the cert of a
// login whose files are read while they are still written.
func TestHeldClientWhoseLoginIsReadInTwo(t *testing.T) {
	inBubble(t, loggedOut, func(t *testing.T, tun *tunnel, s *script) {
		released := make(chan error, 1)
		go func() {
			_, err := tun.credentialFor(t.Context())
			released <- err
		}()
		time.Sleep(5 * connectWait)
		s.say(func(*tunnel) resolution {
			return resolution{state: state.TunnelConnecting, err: sessions.ErrSettling, next: time.Now().Add(time.Hour)}
		})
		tun.wake(Changed)
		time.Sleep(time.Second)
		s.say(serving)
		tun.wake(Changed)
		if err := <-released; err != nil {
			t.Errorf("released with %v, want the cert", err)
		}
	})
}

// TestForbiddenProxyHoldsNoClient: where the policy forbids the proxy no login can
// help, so clients that wait are refused at once, and so are those that come.
func TestForbiddenProxyHoldsNoClient(t *testing.T) {
	inBubble(t, loggedOut, func(t *testing.T, tun *tunnel, s *script) {
		forbidden := &config.PolicyError{What: "the proxy p is not allowed here", Why: "the policy it.yaml says proxies: [q]"}
		held := make(chan error, 1)
		go func() {
			_, err := tun.credentialFor(t.Context())
			held <- err
		}()
		synctest.Wait()
		s.say(func(tun *tunnel) resolution { return (&resolver{}).waiting(tun, resolution{}, forbidden) })
		began := time.Now()
		tun.wake(Changed)
		if err := <-held; !errors.Is(err, forbidden) || time.Since(began) != 0 {
			t.Errorf("the held client is refused after %v with %v", time.Since(began), err)
		}
		_, err := tun.credentialFor(t.Context())
		if !errors.Is(err, forbidden) || time.Since(began) > clientRetry {
			t.Errorf("the next one is refused after %v with %v", time.Since(began), err)
		}
		said := tun.refusal(err, tun.status)
		if !strings.Contains(said.Text, "the policy it.yaml says") || said.Hint != forbidden.NextStep() || strings.Contains(said.Text, "No login") {
			t.Errorf("it says %+v", said)
		}
	})
}

func TestHoldEnds(t *testing.T) {
	inBubble(t, loggedOut, func(t *testing.T, tun *tunnel, _ *script) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := tun.credentialFor(ctx); !errors.Is(err, errHoldEnded) || !errors.Is(err, errCluster) {
			t.Errorf("refused with %v", err)
		}
		tun.spec.Hold = new(state.Duration)
		began := time.Now()
		if _, err := tun.credentialFor(t.Context()); !errors.Is(err, errCluster) || time.Since(began) != 0 {
			t.Errorf("hold 0: refused after %v with %v, want at once", time.Since(began), err)
		}
	})
}

// TestSlowClusterEndsTheWait: a resolution that does not come holds a client for
// connectWait only.
func TestSlowClusterEndsTheWait(t *testing.T) {
	inBubble(t, failing, func(t *testing.T, tun *tunnel, s *script) {
		s.say(func(*tunnel) resolution {
			time.Sleep(time.Minute)
			return resolution{state: state.TunnelReady, cred: &credential{validUntil: time.Now().Add(time.Hour)}}
		})
		began := time.Now()
		if _, err := tun.credentialFor(t.Context()); !errors.Is(err, errConnectSlow) || time.Since(began) != connectWait {
			t.Errorf("refused after %v with %v, want after %v", time.Since(began), err, connectWait)
		}
	})
}

// TestRolesDroppedDuringAResolution: a credential that was under way with roles
// that were dropped meanwhile serves no one.
func TestRolesDroppedDuringAResolution(t *testing.T) {
	inBubble(t, serving, func(t *testing.T, tun *tunnel, s *script) {
		identity := "with the roles"
		s.say(func(tun *tunnel) resolution {
			res := serving(tun)
			res.cred.identity, identity = identity, "without them"
			time.Sleep(time.Second)
			return res
		})
		tun.wake(Changed)
		time.Sleep(time.Second / 2)
		tun.makeStale(false)
		if cred, err := tun.credentialFor(t.Context()); err != nil || cred.identity != "without them" {
			t.Errorf("a client is served with %+v, %v", cred, err)
		}
	})
}

func TestClientsResolveOnceASecond(t *testing.T) {
	inBubble(t, failing, func(t *testing.T, tun *tunnel, s *script) {
		before, began := s.resolutions(), time.Now()
		for range 5 {
			if _, err := tun.credentialFor(t.Context()); !errors.Is(err, errCluster) {
				t.Fatal(err)
			}
		}
		if n, took := s.resolutions()-before, time.Since(began); n != 5 || took != 5*clientRetry {
			t.Errorf("five clients caused %d resolutions in %v, want one each %v", n, took, clientRetry)
		}
	})
}

// TestClientHasTheClusterAsked: whatever has the tunnel resolved as a client comes, no
// client is refused for what the cluster said before, which may be over.
func TestClientHasTheClusterAsked(t *testing.T) {
	for _, tt := range []struct {
		name string
		meet func(*tunnel) // a resolution that asks nothing
	}{
		{"under_way", func(tun *tunnel) { tun.wake(Changed); synctest.Wait() }},
		{"due", func(tun *tunnel) { tun.wake(client); synctest.Wait(); tun.wake(Changed) }},
		{"none", func(*tunnel) {}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, failing, func(t *testing.T, tun *tunnel, s *script) {
				time.Sleep(clientRetry)
				s.slow = 100 * time.Millisecond
				s.say(func(tun *tunnel) resolution {
					if s.why == client {
						return serving(tun)
					}
					res := failing(tun)
					res.unasked = true
					return res
				})
				tt.meet(tun)
				if _, err := tun.credentialFor(t.Context()); err != nil {
					t.Errorf("refused with %v", err)
				}
			})
		})
	}
}

func TestFailedRefreshKeepsTheCredential(t *testing.T) {
	inBubble(t, serving, func(t *testing.T, tun *tunnel, s *script) {
		s.say(func(tun *tunnel) resolution {
			return (&resolver{}).failed(tun, resolution{next: time.Now().Add(time.Hour)}, errCluster)
		})
		tun.wake(Changed)
		synctest.Wait()
		if n := s.resolutions(); n != 2 {
			t.Fatalf("%d resolutions, want 2", n)
		}
		if _, err := tun.credentialFor(t.Context()); err != nil || tun.status.state != state.TunnelReady {
			t.Errorf("after a failed refresh the tunnel is %v: %v", tun.status.state, err)
		}
		tun.makeStale(false)
		if _, err := tun.credentialFor(t.Context()); !errors.Is(err, errCluster) || !tun.px.(*port).marked {
			t.Errorf("served with roles that were dropped: %v", err)
		}
	})
}

// TestDyingChildDelaysItsTunnelAlone: a tsh that takes its time to end holds up
// no other tunnel.
func TestDyingChildDelaysItsTunnelAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set, done := newSet(t, 0)
		defer done()
		one, two := set.tunnel("one"), set.tunnel("two")
		ctx, cancel := context.WithCancel(t.Context())
		c := &child{cancel: cancel, done: make(chan struct{})}
		go func() {
			<-ctx.Done()
			time.Sleep(2 * time.Second)
			close(c.done)
		}()
		one.takeChild(c)
		before := two.attempts
		began := time.Now()
		restarted := make(chan time.Duration, 1)
		go func() {
			if err := set.Restart(t.Context(), "one"); err != nil {
				t.Error(err)
			}
			restarted <- time.Since(began)
		}()
		synctest.Wait()
		set.Kick(Changed)
		synctest.Wait()
		if got := two.attempts; got != before+1 || len(set.States()) != 2 || time.Since(began) != 0 {
			t.Errorf("beside a dying child: %d resolutions after %v, want one at once", got-before, time.Since(began))
		}
		if took := <-restarted; took != 2*time.Second {
			t.Errorf("the tunnel itself waited %v, want 2 s", took)
		}
	})
}

// TestSlowPortDelaysNoSnapshot: while a port is released, snapshots are drawn
// and the other tunnels are woken.
func TestSlowPortDelaysNoSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set, done := newSet(t, 5*time.Second)
		defer done()
		began := time.Now()
		stopped := make(chan time.Duration, 1)
		go func() {
			if err := set.Stop(t.Context(), "one"); err != nil {
				t.Error(err)
			}
			stopped <- time.Since(began)
		}()
		synctest.Wait()
		two := set.tunnel("two")
		before := two.attempts
		set.Kick(Changed)
		synctest.Wait()
		if got := set.States(); got[0].State != state.TunnelStopped || two.attempts != before+1 || time.Since(began) != 0 {
			t.Errorf("after %v: %v, and %d resolutions of the other tunnel", time.Since(began), got[0].State, two.attempts-before)
		}
		if took := <-stopped; took != 5*time.Second {
			t.Errorf("the port was free after %v, want 5 s", took)
		}
	})
}

// TestFailureThatNothingCanExamine: it is believed until a client is served, and not found
// again by itself.
func TestFailureThatNothingCanExamine(t *testing.T) {
	inBubble(t, serving, func(t *testing.T, tun *tunnel, s *script) {
		s.blind = true
		believed := func(what string, want bool) {
			t.Helper()
			time.Sleep(2 * examEvery)
			synctest.Wait()
			if got := tun.dialFailure() != nil; got != want {
				t.Errorf("%s: the failure is believed: %v", what, got)
			}
		}
		tell := func(kind proxies.EventKind, in int64, err error) {
			tun.observe(proxies.Event{At: time.Now(), Kind: kind, Client: &net.TCPAddr{}, Err: err, BytesIn: in})
		}
		tell(proxies.EventClosed, 0, proxies.ErrClosedEarly)
		believed("hung up on", true)
		tell(proxies.EventClosed, 1, &proxies.ConnError{Err: errCluster})
		believed("another one was cut", true)
		tell(proxies.EventAnswered, 0, nil)
		believed("another one was answered", false)
		tell(proxies.EventClosed, 0, proxies.ErrClosedEarly)
		believed("hung up on again", true)
		tell(proxies.EventClosed, 1, nil)
		believed("another one was served", false)
	})
}

// TestFailureSoonAfterAnother: the newest failure is believed, however soon it follows one
// that a served client, or a restart, has done away with.
func TestFailureSoonAfterAnother(t *testing.T) {
	inBubble(t, serving, func(t *testing.T, tun *tunnel, s *script) {
		s.blind, s.found = true, errCluster
		step := func(what string, want bool, do func()) {
			t.Helper()
			do()
			synctest.Wait()
			if got := tun.dialFailure() != nil; got != want {
				t.Errorf("%s: a failure is believed: %v", what, got)
			}
		}
		tell := func(kind proxies.EventKind, err error) func() {
			return func() {
				tun.observe(proxies.Event{At: time.Now(), Kind: kind, Client: &net.TCPAddr{}, Err: err})
			}
		}
		step("hung up on", true, tell(proxies.EventClosed, proxies.ErrClosedEarly))
		step("another one was answered", false, tell(proxies.EventAnswered, nil))
		step("hung up on again", true, tell(proxies.EventClosed, proxies.ErrClosedEarly))
		s.blind = false
		step("restarted", false, tun.restart)
		step("hung up on after that", true, tell(proxies.EventClosed, proxies.ErrClosedEarly))
	})
}

// TestProbersLeave: whoever waits while another probe hangs may leave, and so may
// whoever waits for what an examination finds.
func TestProbersLeave(t *testing.T) {
	inBubble(t, serving, func(t *testing.T, tun *tunnel, _ *script) {
		tun.mu.Lock()
		tun.cur.probe = func(ctx context.Context) error {
			<-ctx.Done()
			return context.Cause(ctx)
		}
		tun.mu.Unlock()
		var hanging sync.WaitGroup
		defer hanging.Wait()
		var none away
		hanging.Go(func() {
			if _, err := tun.probe.try(t.Context(), tun, &none, 0); !errors.Is(err, errProbeSlow) {
				t.Errorf("the probe that hangs: %v", err)
			}
		})
		tun.exam.turn.Take(t.Context())
		defer tun.exam.turn.Give()
		synctest.Wait()
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := tun.probe.try(ctx, tun, &none, 0); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a probe that waits for its turn: %v", err)
		}
		if err := tun.exam.find(ctx, tun, errCluster); !errors.Is(err, errCluster) {
			t.Errorf("an examination that waits for its turn: %v", err)
		}
		if took := time.Since(began); took != time.Second {
			t.Errorf("they left after %v, want a second", took)
		}
	})
}

// TestClientsWaitForATSHThatStarts: longer than a dial may take, and as long as they are
// held.
func TestClientsWaitForATSHThatStarts(t *testing.T) {
	inBubble(t, failing, func(t *testing.T, tun *tunnel, s *script) {
		var started atomic.Bool
		cred := &credential{validUntil: time.Now().Add(time.Hour), starting: func() bool { return !started.Load() }}
		s.say(func(*tunnel) resolution { return resolution{state: state.TunnelConnecting, cred: cred} })
		tun.wake(Changed)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if _, err := tun.credentialFor(ctx); !errors.Is(err, errStartSlow) {
			t.Errorf("a client whose hold has ended: %v, want errStartSlow", err)
		}
		got := make(chan *credential, 1)
		go func() {
			c, err := tun.credentialFor(t.Context())
			if err != nil {
				t.Error(err)
			}
			got <- c
		}()
		time.Sleep(2 * proxies.MaxDialTimeout)
		synctest.Wait()
		if len(got) > 0 {
			t.Fatal("the client did not wait")
		}
		tun.wake(Changed)
		synctest.Wait()
		tun.takeChild(&child{cancel: func() {}, done: make(chan struct{})})
		close(tun.currentChild().done)
		tun.stopChild()
		if tun.mu.Lock(); tun.cur != nil {
			t.Error("a credential outlives the tsh that carried it")
		}
		tun.mu.Unlock()
		synctest.Wait() // the client waits for the next one
		started.Store(true)
		tun.wake(Changed)
		if c := <-got; c != cred {
			t.Errorf("the client has %+v, want the credential that tsh carries", c)
		}
	})
}
