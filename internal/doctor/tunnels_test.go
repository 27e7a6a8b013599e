package doctor

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"

	"berth/agent/state"
	"berth/certwatch"
)

// serve answers each connection with f until the test ends.
func serve(t *testing.T, f func(net.Conn)) (addr string) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			f(conn)
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-ended })
	return l.Addr().String()
}

// withAgent is a doctor whose agent says what the test wants.
func withAgent(info state.Agent, tunnels ...state.Tunnel) *doctor {
	d := newDoctor(context.Background(), Config{Logger: slog.New(slog.DiscardHandler), Version: "1.0.0"})
	d.agent = newLazy(func() agentFacts { return agentFacts{info: info, snapshot: state.Snapshot{Tunnels: tunnels}} })
	return d
}

// TestKnock: a tunnel that says it is ready is believed only when somebody
// answers.
func TestKnock(t *testing.T) {
	silent := func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }
	hangUp := func(net.Conn) {}
	echo := func(c net.Conn) {
		if b, err := bufio.NewReader(c).ReadByte(); err == nil {
			_, _ = c.Write([]byte{b})
		}
		silent(c)
	}
	declines := func(c net.Conn) { _, _ = io.WriteString(c, "NN"); silent(c) } // the tunnel's own answer, and the server's
	greet := func(c net.Conn) { _, _ = io.WriteString(c, "hello"); silent(c) }
	for name, c := range map[string]struct {
		protocol string
		server   func(net.Conn)
		status   Status
		text     string
	}{
		"postgres_answers":   {"postgres", declines, OK, "answers"},
		"postgres_hangs_up":  {"postgres", hangUp, Fail, "not served"},
		"postgres_own":       {"postgres", echo, Fail, "no answer within"},
		"postgres_silent":    {"postgres", silent, Fail, "no answer within"},
		"redis_answers":      {"redis", echo, OK, "answers"},
		"mysql_greets":       {"mysql", greet, OK, "answers"},
		"mysql_silent":       {"mysql", silent, Fail, "no answer within"},
		"mongodb_silent":     {"mongodb", silent, Fail, "no answer within"},
		"mongodb_hangs_up":   {"mongodb", hangUp, Fail, "not served"},
		"not_told_hangs_up":  {"", hangUp, Fail, "not served"},
		"not_told_and_waits": {"", silent, OK, "takes connections"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := withAgent(state.Agent{}, state.Tunnel{TunnelSpec: state.TunnelSpec{Name: "x", Kind: state.KindDB}, State: state.TunnelReady, Protocol: c.protocol, Address: serve(t, c.server)})
			found := d.checkTunnels(t.Context())
			if len(found) != 1 || found[0].Status != c.status || !strings.Contains(found[0].Text, c.text) {
				t.Errorf("found %+v, want %s, %q", found, c.status, c.text)
			}
		})
	}
}

// TestLogin: what is said to the tunnel's own user is reported.
func TestLogin(t *testing.T) {
	for name, c := range map[string]struct {
		answer string
		status Status
		text   string
	}{
		"in":       {"R\x00\x00\x00\x08\x00\x00\x00\x00", OK, "answers, and lets app in"},
		"by_berth": {"E\x00\x00\x00\x2fSFATAL\x00C08006\x00Mtunnel x: database hung up\x00\x00", Fail, "is not served: database hung up"},
		"refused":  {"E\x00\x00\x00\x19Mconnection refused\x00\x00", Fail, "refused by Teleport: connection refused"},
	} {
		t.Run(name, func(t *testing.T) {
			addr := serve(t, func(conn net.Conn) {
				_, _ = conn.Read(make([]byte, 1000))
				_, _ = io.WriteString(conn, c.answer)
			})
			d := withAgent(state.Agent{}, state.Tunnel{
				TunnelSpec: state.TunnelSpec{Name: "x", Kind: state.KindDB, DBUser: "app"}, State: state.TunnelReady, Protocol: "postgres", Address: addr,
			})
			found := d.checkTunnels(t.Context())
			if len(found) != 1 || found[0].Status != c.status || !strings.Contains(found[0].Text, c.text) {
				t.Errorf("found %+v, want %s, %q", found, c.status, c.text)
			}
		})
	}
}

func TestTunnelStates(t *testing.T) {
	problem := &state.Problem{Text: "It is so.", Action: "do this"}
	for name, c := range map[string]struct {
		tunnel    state.Tunnel
		status    Status
		text, fix string
	}{
		"stopped":     {state.Tunnel{TunnelSpec: state.TunnelSpec{Name: "x"}, State: state.TunnelStopped}, Skip, "stopped by you", "berth tunnel start x"},
		"connecting":  {state.Tunnel{TunnelSpec: state.TunnelSpec{Name: "x"}, State: state.TunnelConnecting}, Warn, "is connecting", "berth tunnel why x"},
		"waiting":     {state.Tunnel{TunnelSpec: state.TunnelSpec{Name: "x"}, State: state.TunnelWaitingForLogin, Problem: problem}, Warn, "waits for a login: It is so.", "do this"},
		"error":       {state.Tunnel{TunnelSpec: state.TunnelSpec{Name: "x"}, State: state.TunnelError, Problem: problem}, Fail, "does not work: It is so.", "do this"},
		"unexplained": {state.Tunnel{TunnelSpec: state.TunnelSpec{Name: "x"}, State: state.TunnelError}, Fail, "does not work", "berth tunnel why x"},
		"unheard_of":  {state.Tunnel{TunnelSpec: state.TunnelSpec{Name: "x"}, State: "odd"}, Fail, "is odd", "berth tunnel why x"},
	} {
		t.Run(name, func(t *testing.T) {
			found := withAgent(state.Agent{}, c.tunnel).checkTunnels(t.Context())
			if len(found) != 1 || found[0].Status != c.status || !strings.Contains(found[0].Text, c.text) || found[0].Fix != c.fix {
				t.Errorf("found %+v, want %s, %q, %q", found, c.status, c.text, c.fix)
			}
		})
	}
}

// TestOneLoginIsOneFinding: tunnels that wait for a login which the session's finding
// names are not counted once more.
func TestOneLoginIsOneFinding(t *testing.T) {
	waiting := func(name, profile string) state.Tunnel {
		return state.Tunnel{TunnelSpec: state.TunnelSpec{Name: name}, State: state.TunnelWaitingForLogin, Profile: profile}
	}
	d := withAgent(state.Agent{}, waiting("a", "p:443"), waiting("b", "p:443"), waiting("c", "elsewhere:443"))
	d.homes = newLazy(func() []homeFacts {
		return []homeFacts{{profiles: []*certwatch.Profile{{ProxyAddr: "p:443"}}}}
	})
	found := d.checkTunnels(t.Context())
	if len(found) != 2 || found[0].Status != Skip || !strings.HasSuffix(found[0].Text, "2 tunnels cannot be tried: a, b") ||
		found[1].Status != Warn || !strings.Contains(found[1].Text, "tunnel c waits for a login") {
		t.Errorf("found %+v", found)
	}
}

func TestGuardAndVersion(t *testing.T) {
	d := withAgent(state.Agent{Version: "0.9.0", PID: 7},
		state.Tunnel{TunnelSpec: state.TunnelSpec{Name: "off", Kind: state.KindDB}, Guard: state.GuardOff}, state.Tunnel{TunnelSpec: state.TunnelSpec{Name: "none", Kind: state.KindDB}, Guard: state.GuardNone},
		state.Tunnel{TunnelSpec: state.TunnelSpec{Name: "on", Kind: state.KindDB}, Guard: state.GuardOn}, state.Tunnel{TunnelSpec: state.TunnelSpec{Name: "k8s", Kind: state.KindKube}, Guard: state.GuardNone})
	found := d.checkGuard(t.Context())
	if len(found) != 2 || !strings.Contains(found[0].Text, "tunnel off") || !strings.Contains(found[1].Text, "tunnel none") ||
		found[0].Status != Warn || found[1].Status != Warn {
		t.Errorf("found %+v", found)
	}
	agent := d.checkAgent(t.Context())
	if len(agent) != 1 || agent[0].Check != "agent_version" || agent[0].Status != Warn || agent[0].Fix != "berth agent restart" {
		t.Errorf("found %+v", agent)
	}
}

func TestEveryKind(t *testing.T) {
	for _, info := range state.Kinds {
		if knocks[info.Kind] == nil {
			t.Errorf("nothing tries a tunnel of kind %s", info.Kind)
		}
	}
	d := withAgent(state.Agent{}, state.Tunnel{TunnelSpec: state.TunnelSpec{Name: "x", Kind: "app"}, State: state.TunnelReady})
	if found := d.checkTunnels(t.Context()); len(found) != 1 || found[0].Status != Skip {
		t.Errorf("of a kind that only a newer agent knows it found %+v", found)
	}
}
