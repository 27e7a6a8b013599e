package history

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/agent/state"
	"berth/proxies"
	"berth/proxies/db"
)

// historyTest plays events into a history, a second apart unless it is told
// otherwise.
type historyTest struct {
	h   *History
	now time.Time
}

func newHistoryTest() *historyTest {
	lookup := func(client net.Addr, found func(proxies.Owner)) {
		go found(proxies.Owner{PID: client.(*net.TCPAddr).Port, Name: "psql"})
	}
	return &historyTest{
		h:   &History{lookup: lookup, most: func() int { return historyMax }, held: make(map[string]*entry), opened: make(map[string]*entry)},
		now: time.Date(2026, 5, 1, 14, 0, 0, 0, time.UTC),
	}
}

func (ht *historyTest) step(kind proxies.EventKind, port int, more ...func(*proxies.Event)) {
	ht.now = ht.now.Add(time.Second)
	ev := proxies.Event{At: ht.now, Kind: kind, Client: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}}
	for _, m := range more {
		m(&ev)
	}
	ht.h.Connection(ev, "a login", func(err error) string { return err.Error() })
}

func (ht *historyTest) state(s state.TunnelState, code state.Code, text string) {
	ht.now = ht.now.Add(time.Second)
	t := state.Tunnel{State: s}
	if code != "" {
		t.Problem = &state.Problem{Code: code, Text: text}
	}
	ht.h.TunnelState(&t, ht.now)
}

func failed(err error) func(*proxies.Event) { return func(ev *proxies.Event) { ev.Err = err } }

func waited(d time.Duration) func(*proxies.Event) { return func(ev *proxies.Event) { ev.Waited = d } }

func TestHistoryWords(t *testing.T) {
	reset := &proxies.ConnError{Side: proxies.SideUpstream, Op: "read", Err: errors.New("connection reset")}
	gone := &proxies.ConnError{Side: proxies.SideClient, Op: "read", Err: errors.New("connection reset")}
	for name, tt := range map[string]struct {
		play func(*historyTest)
		want []string
	}{
		"nothing": {func(*historyTest) {}, nil},
		"one_connection": {func(h *historyTest) {
			h.step(proxies.EventAccepted, 812)
			h.step(proxies.EventConnected, 812)
			h.step(proxies.EventClosed, 812)
		}, []string{"1 connection opened"}},
		"many_connections": {func(h *historyTest) {
			for range 37 {
				h.step(proxies.EventConnected, 812)
			}
		}, []string{"37 connections opened …14:00:37"}},
		"connections_after_a_quiet_hour": {func(h *historyTest) {
			h.step(proxies.EventConnected, 812)
			h.now = h.now.Add(time.Hour)
			h.step(proxies.EventConnected, 812)
		}, []string{"1 connection opened", "1 connection opened"}},
		"waits": {func(h *historyTest) {
			h.step(proxies.EventWaiting, 812)
		}, []string{"psql (pid 812) waits for a login, for 1.0 s now"}},
		"waited": {func(h *historyTest) {
			h.step(proxies.EventWaiting, 812)
			h.step(proxies.EventConnected, 812, waited(21*time.Second))
			h.step(proxies.EventClosed, 812)
		}, []string{"psql (pid 812) waited 21 s for a login"}},
		"waited_in_vain": {func(h *historyTest) {
			h.step(proxies.EventWaiting, 812)
			h.step(proxies.EventRefused, 812, waited(time.Minute), failed(proxies.ErrHoldEnded))
		}, []string{"psql (pid 812) waited 60 s for a login and was refused"}},
		"waited_and_left": {func(h *historyTest) {
			h.step(proxies.EventWaiting, 812)
			h.step(proxies.EventClosed, 812, waited(3*time.Second), failed(proxies.ErrClientGone))
		}, []string{"psql (pid 812) waited 3.0 s for a login and hung up"}},
		"many_waited": {func(h *historyTest) {
			for port := 1; port <= 5; port++ {
				h.step(proxies.EventWaiting, port)
			}
			h.step(proxies.EventConnected, 1, waited(9*time.Minute))
			h.step(proxies.EventConnected, 2, waited(8*time.Minute))
			h.step(proxies.EventRefused, 3)
			h.step(proxies.EventClosed, 4)
		}, []string{"5 clients, the first of them psql (pid 1), waited up to 9 min for a login," +
			" 1 refused, 1 hung up, 1 still waiting …14:00:09"}},
		"refused": {func(h *historyTest) {
			h.step(proxies.EventRefused, 812, failed(errors.New("access denied")))
		}, []string{"psql (pid 812) was refused: access denied"}},
		"refused_for_two_reasons": {func(h *historyTest) {
			h.step(proxies.EventRefused, 812, failed(errors.New("access denied")))
			h.step(proxies.EventRefused, 813, failed(errors.New("proxy unreachable")))
			h.step(proxies.EventRefused, 814, failed(errors.New("access denied")))
		}, []string{
			"2 clients, the first of them psql (pid 812), were refused: access denied …14:00:03",
			"psql (pid 813) was refused: proxy unreachable",
		}},
		"refused_while_stopping": {func(h *historyTest) {
			h.step(proxies.EventRefused, 812, failed(proxies.ErrStopped))
		}, nil},
		"broken_by_the_other_side": {func(h *historyTest) {
			h.step(proxies.EventClosed, 812, failed(reset))
			h.step(proxies.EventClosed, 812, failed(proxies.ErrClosedEarly))
			h.step(proxies.EventClosed, 812, failed(gone))
		}, []string{"1 connection broke: connection reset", "1 connection broke: the other side hung up without an answer"}},
		"refused_without_a_reason": {func(h *historyTest) {
			early := errors.Join(proxies.ErrClosedEarly, &db.RefusedError{By: db.ByTeleport, Words: "access denied"})
			h.step(proxies.EventConnected, 812)
			h.step(proxies.EventClosed, 812, failed(early))
			h.step(proxies.EventConnected, 813)
			h.step(proxies.EventClosed, 813, failed(errors.Join(early, proxies.ErrProbe)))
		}, []string{"1 client was refused by Teleport: access denied [psql (pid 812)]", "1 connection opened"}},
		"refused_by_the_other_side": {func(h *historyTest) {
			denied := &db.RefusedError{By: db.ByTeleport, Words: "access to db denied."}
			for port := 1; port <= 3; port++ {
				h.step(proxies.EventConnected, port)
			}
			h.step(proxies.EventAnswered, 1)
			h.step(proxies.EventAnswered, 2, failed(denied))
			h.step(proxies.EventAnswered, 3, failed(denied))
			h.step(proxies.EventClosed, 2)
			h.step(proxies.EventConnected, 4)
			h.step(proxies.EventAnswered, 4, failed(&db.RefusedError{By: db.ByDatabase, Words: "no such database"}))
			h.step(proxies.EventAnswered, 5, failed(&db.RefusedError{By: db.ByTeleport, Words: "x", Probe: true}))
		}, []string{
			"1 connection opened",
			"2 clients were refused by Teleport: access to db denied. [the first was psql (pid 2)] …14:00:06",
			"1 client was refused by the database: no such database [psql (pid 4)]",
		}},
		"only_refused": {func(h *historyTest) {
			h.step(proxies.EventConnected, 1)
			h.step(proxies.EventAnswered, 1, failed(&db.RefusedError{By: db.ByTeleport, Words: "no"}))
		}, []string{"1 client was refused by Teleport: no [psql (pid 1)]"}},
		"strangers": {func(h *historyTest) {
			h.step(proxies.EventConnected, 812)
			h.step(proxies.EventClosed, 812, failed(&db.StrangerError{Language: "HTTP"}))
			h.step(proxies.EventClosed, 813, failed(&db.StrangerError{Language: "HTTP"}))
			h.step(proxies.EventClosed, 814, failed(&db.StrangerError{}))
		}, []string{
			"1 connection opened",
			"2 clients, the first of them psql (pid 812), spoke something else (HTTP) …14:00:03",
			"psql (pid 814) spoke something else",
		}},
		"states": {func(h *historyTest) {
			h.state(state.TunnelConnecting, "", "")
			h.state(state.TunnelReady, "", "")
			h.state(state.TunnelReady, "", "")
			h.state(state.TunnelConnecting, "", "")
			h.state(state.TunnelReady, "", "")
			h.state(state.TunnelError, state.CodeAccessDenied, "The cluster refused.")
			h.state(state.TunnelError, state.CodeProxyUnreachable, "The proxy is away.")
			h.state(state.TunnelStopped, "", "")
		}, []string{"ready", "The cluster refused", "The proxy is away", "stopped"}},
		"better_words": {func(h *historyTest) {
			h.state(state.TunnelPortInUse, state.CodePortInUse, "Taken by another program.")
			h.step(proxies.EventConnected, 1)
			h.state(state.TunnelPortInUse, state.CodePortInUse, "Taken by nc (pid 7).")
		}, []string{"Taken by nc (pid 7)", "1 connection opened"}},
		"order_tells_cause_from_effect": {func(h *historyTest) {
			h.step(proxies.EventConnected, 1)
			h.state(state.TunnelReady, "", "")
			h.step(proxies.EventConnected, 2)
		}, []string{"1 connection opened", "ready", "1 connection opened"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHistoryTest()
				tt.play(h)
				synctest.Wait() // the names are in
				var got []string
				for _, e := range h.h.Events(h.now.Add(time.Second)) {
					line := e.Text
					if e.Until != nil {
						line += " …" + e.Until.Format("15:04:05")
					}
					got = append(got, line)
				}
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
				if len(h.h.held) > h.h.waiting() {
					t.Errorf("%d clients are remembered as held", len(h.h.held))
				}
			})
		})
	}
}

// waiting counts the clients the lines say still wait.
func (h *History) waiting() int {
	n := 0
	for _, e := range h.entries {
		n += e.waiting
	}
	return n
}

// historyMax is how many events the histories here have.
const historyMax = 50

func TestHistoryIsBounded(t *testing.T) {
	h := newHistoryTest()
	for i := range 3 * historyMax {
		h.h.Note(h.now, state.EventConfig, fmt.Sprint(i))
	}
	got := h.h.Events(h.now)
	if len(got) != historyMax || got[0].Text != "100" || got[historyMax-1].Text != "149" {
		t.Errorf("%d events from %q to %q, want the last 50 of 150", len(got), got[0].Text, got[len(got)-1].Text)
	}
}

func TestHistoryOfCerts(t *testing.T) {
	h := newHistoryTest()
	end := h.now.Add(time.Hour)
	h.h.TunnelState(&state.Tunnel{State: state.TunnelConnecting, CertValidUntil: &end}, h.now)
	h.h.TunnelState(&state.Tunnel{State: state.TunnelConnecting, CertValidUntil: &end}, h.now)
	later := end.Add(time.Hour)
	h.h.TunnelState(&state.Tunnel{State: state.TunnelConnecting, CertValidUntil: &later}, h.now)
	want := []state.Event{
		{At: h.now, Kind: state.EventCert, Text: "first cert fetched", Until: &end},
		{At: h.now, Kind: state.EventCert, Text: "cert renewed", Until: &later},
	}
	if diff := cmp.Diff(want, h.h.Events(h.now)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestClientNamesGathersQuestions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var looks atomic.Int64
		n := newClientNames()
		n.scan = func(context.Context) (map[netip.AddrPort]int32, error) {
			looks.Add(1)
			return map[netip.AddrPort]int32{netip.MustParseAddrPort("127.0.0.1:1"): 7}, nil
		}
		n.name = func(context.Context, int32) string { return "psql" }
		answers := make(chan proxies.Owner, 200)
		for range 200 { // more than the queue holds
			n.lookup(&net.TCPAddr{IP: net.ParseIP("::ffff:127.0.0.1"), Port: 1}, func(o proxies.Owner) { answers <- o })
		}
		n.lookup(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 2}, func(o proxies.Owner) { t.Errorf("an unknown client is %v", o) })
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			n.run(ctx)
		}()
		synctest.Wait()
		if looks.Load() != 1 || len(answers) != namesQueue {
			t.Errorf("%d looks answered %d questions, want 1 and %d", looks.Load(), len(answers), namesQueue)
		}
		owner := <-answers
		if got, want := owner.String(), "psql (pid 7)"; got != want {
			t.Errorf("named %q, want %q", got, want)
		}
		n.lookup(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}, func(proxies.Owner) {})
		synctest.Wait()
		if looks.Load() != 1 {
			t.Error("the second look came without a pause")
		}
		time.Sleep(namesPause)
		synctest.Wait()
		if n := looks.Load(); n != 2 {
			t.Errorf("%d looks after the pause, want 2", n)
		}
		cancel()
		<-done
	})
}
