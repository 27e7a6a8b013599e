//go:build e2e && linux

package e2e

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gravitational/teleport/api/client"
	"github.com/gravitational/trace"

	"berth/agent/state"
	"berth/internal/simcluster"
)

const lockMessage = "incident 7"

// acts returns what an administrator does to a user, or to the CAs.
func (tp *teleport) acts(user string) func(ctx context.Context, what string) error {
	lock := "" // its name
	return func(ctx context.Context, what string) (err error) {
		switch what {
		case "lock":
			var out string
			out, err = tp.tctl(ctx, "", "lock", "--user="+user, "--message="+lockMessage)
			_, rest, _ := strings.Cut(out, `name "`)
			lock, _, _ = strings.Cut(rest, `"`)
		case "unlock":
			_, err = tp.tctl(ctx, "", "rm", "lock/"+lock)
		case "remove":
			_, err = tp.tctl(ctx, "", "users", "rm", user)
		case "rotate user":
			err = tp.rotate(ctx, "user")
		case "rotate host":
			err = tp.rotate(ctx, "host")
		default:
			err = fmt.Errorf("nobody knows how to %s", what)
		}
		sleepUntil(ctx, time.Now().Add(1500*time.Millisecond)) // until all services have heard
		return err
	}
}

// simActs is acts for a simulation.
func simActs(sim *simcluster.Cluster, user string) func(ctx context.Context, what string) error {
	return func(_ context.Context, what string) error {
		switch what {
		case "lock":
			sim.Lock(user, lockMessage)
		case "unlock":
			sim.Unlock(user)
		case "remove":
			sim.RemoveUser(user)
		case "rotate user":
			return sim.RotateUserCA()
		case "rotate host":
			return sim.RotateHostCA()
		default:
			return fmt.Errorf("nobody knows how to %s", what)
		}
		return nil
	}
}

// newClient tells how a client that connects now fares.
func newClient(ctx context.Context, w *world) string {
	clt, err := w.dialAuth(ctx, w.home)
	if err == nil {
		_, err = clt.Ping(ctx)
		err = errors.Join(err, clt.Close())
	}
	return kindOf(err)
}

// silentClient tells how the auth service ends a connection on which nothing is
// sent: gRPC often sees a hang-up instead. The client shows its cert whether the
// service knows the CA or not: whoever shows none is let in.
func silentClient(ctx context.Context, w *world) string {
	session, err := w.session(w.home)
	if err != nil {
		return err.Error()
	}
	cfg := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &session, nil }
	conn, err := (&tls.Dialer{Config: client.ConfigureALPN(cfg, w.cluster)}).DialContext(ctx, "tcp", w.proxyAddr)
	if err != nil {
		return kindOf(err)
	}
	defer conn.Close()
	if err = conn.SetDeadline(time.Now().Add(5 * time.Second)); err == nil {
		_, err = conn.Read(make([]byte, 1))
	}
	return kindOf(err)
}

// openClient tells how one that was connected before fares.
func openClient(ctx context.Context, w *world) string {
	_, err := w.clt.Ping(ctx)
	return kindOf(err)
}

// strangers tells how a client fares that shows no cert.
func strangers(ctx context.Context, w *world) string {
	clt, err := w.dialAs(ctx, w.home, nil)
	if err != nil {
		return kindOf(err)
	}
	defer clt.Close()
	_, err = clt.Ping(ctx)
	return kindOf(err)
}

// kindOf says what an error is about: the words around it are the client's. What
// is found or not is said of the type too.
func kindOf(err error) string {
	if err == nil {
		return "no error"
	}
	for _, kind := range []string{"tls: unknown certificate authority", "x509: certificate signed by unknown authority", "not found", "access denied"} {
		if strings.Contains(err.Error(), kind) {
			return fmt.Sprintf("%s (denied %t, not found %t)", kind, trace.IsAccessDenied(err), trace.IsNotFound(err))
		}
	}
	return endOf(err)
}

// fresh tells how a database answers a cert that the open client mints now.
func fresh(ctx context.Context, w *world) string {
	cert, err := w.mint(ctx, w.clt, w.request("pg"))
	if err != nil {
		return kindOf(err)
	}
	return w.talk(ctx, cert, nil, startup("app", "appdb"), 1)
}

// insistent tells how a database answers a client that shows its cert whether the
// proxy knows the CA or not, as berth does.
func insistent(ctx context.Context, w *world) string {
	cfg := &tls.Config{RootCAs: w.webCAs, ServerName: "127.0.0.1", NextProtos: []string{alpnPostgres}}
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return w.db, nil }
	conn, err := (&tls.Dialer{Config: cfg}).DialContext(ctx, "tcp", w.proxyAddr)
	if err != nil {
		return kindOf(err)
	}
	defer conn.Close()
	answer := make([]byte, 1)
	if _, err = conn.Write(startup("app", "appdb")); err == nil {
		_, err = io.ReadFull(conn, answer)
	}
	if err != nil {
		return kindOf(err)
	}
	return fmt.Sprintf("%q", answer)
}

// soon asks until the answer is the wanted one, for some seconds: services that
// restart within the cluster answer with an error meanwhile.
func soon(want string, ask func(context.Context, *world) string) func(context.Context, *world) string {
	return func(ctx context.Context, w *world) (got string) {
		_ = until(ctx, 15*time.Second, 200*time.Millisecond, func() error { // the probe judges the last answer
			if got = ask(ctx, w); !strings.Contains(got, want) {
				return errors.New(got)
			}
			return nil
		})
		return got
	}
}

func oldCert(ctx context.Context, w *world) string {
	return w.talk(ctx, w.db, nil, startup("app", "appdb"), 1)
}

// TestRefusalsAreLikeReality asks both worlds after a lock, a deletion and the
// rotation of CAs.
func TestRefusalsAreLikeReality(t *testing.T) {
	tp := startAnother(t)
	after := func(t *testing.T, worlds []*world, what string) {
		t.Helper()
		for _, w := range worlds {
			if err := w.act(t.Context(), what); err != nil {
				t.Fatalf("%s: %s: %v", w.name, what, err)
			}
		}
	}
	t.Run("lock", func(t *testing.T) {
		worlds := newWorldsAt(t, tp)
		routed, silent := make(map[*world]*tls.Conn), make(map[*world]*tls.Conn)
		for _, w := range worlds {
			for _, kept := range []map[*world]*tls.Conn{routed, silent} {
				conn, err := w.dial(t.Context(), w.db, nil, alpnPostgres)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = conn.Close() }) // it may be cut
				kept[w] = conn
			}
			if _, err := routed[w].Write(startup("app", "appdb")); err != nil {
				t.Fatal(err)
			}
			if _, err := routed[w].Read(make([]byte, 4096)); err != nil {
				t.Fatal(err)
			}
		}
		after(t, worlds, "lock")
		runProbes(t, worlds, []probe{
			{name: "what_was_routed_is_cut", want: "EOF", ask: func(_ context.Context, w *world) string {
				_, err := io.Copy(io.Discard, routed[w])
				if err == nil {
					err = io.EOF // which Copy does not return
				}
				return endOf(err)
			}},
			{name: "what_was_silent_is_answered", want: "access denied", ask: func(_ context.Context, w *world) string {
				answer := make([]byte, 200)
				_, err := silent[w].Write(startup("app", "appdb"))
				n := 0
				if err == nil {
					n, err = silent[w].Read(answer)
				}
				return fmt.Sprintf("%t access denied, %s", strings.Contains(string(answer[:n]), "access denied"), endOf(err))
			}},
			{name: "a_new_connection_is_hung_up_on", want: "EOF", ask: oldCert},
			{name: "an_open_client_is_denied", want: "access denied", ask: openClient},
			{name: "a_new_client_is_denied", want: "access denied", ask: newClient},
		})
		after(t, worlds, "unlock")
		runProbes(t, worlds, []probe{
			{name: "afterwards_a_connection_is_served", want: `"R"`, ask: oldCert},
			{name: "afterwards_an_open_client_is_served", want: "no error", ask: openClient},
		})
	})
	t.Run("deleted_user", func(t *testing.T) {
		worlds := newWorldsAt(t, tp)
		after(t, worlds, "remove")
		runProbes(t, worlds, []probe{
			{name: "a_connection_is_hung_up_on", want: "EOF", ask: oldCert},
			{name: "an_open_client_is_denied", want: "not found (denied false, not found true)", ask: openClient},
			{name: "a_new_client_is_denied", want: "not found", ask: newClient},
		})
	})
	t.Run("user_ca", func(t *testing.T) {
		worlds := newWorldsAt(t, tp)
		runProbes(t, worlds, []probe{{name: "who_shows_no_cert_is_let_in", want: "no error", ask: strangers}})
		after(t, worlds, "rotate user")
		runProbes(t, worlds, []probe{
			{name: "an_open_client_is_served", want: "no error", ask: openClient},
			{name: "a_new_connection_is_refused", want: "unknown certificate authority", ask: silentClient},
			{name: "a_database_cert_is_refused", ask: insistent},
			{name: "an_open_client_mints_a_cert_that_serves", want: `"R"`, ask: fresh},
		})
	})
	t.Run("host_ca", func(t *testing.T) {
		worlds := newWorldsAt(t, tp)
		after(t, worlds, "rotate host")
		runProbes(t, worlds, []probe{
			{name: "a_database_cert_serves", want: `"R"`, ask: soon(`"R"`, oldCert)},
			{name: "an_open_client_has_lost_its_connection", want: "unknown authority", ask: openClient},
			{name: "a_new_client_does_not_trust", want: "unknown authority", ask: newClient},
		})
	})
}

// awaitProblem waits for one problem of the person's, and for no other with any
// tunnel.
func (w *statusWatch) awaitProblem(since time.Time, limit time.Duration, code state.Code, words string) state.Problem {
	w.p.t.Helper()
	var got state.Problem
	w.await(since, limit, "pg", fmt.Sprintf("with the problem %s %q", code, words), func(tun state.Tunnel) bool {
		s := w.p.snapshot()
		for _, p := range s.Problems {
			if p.Code == code && strings.Contains(p.Text, words) {
				got = p
			}
		}
		return got.Code != "" && len(s.Problems) == 1 && (tun.Problem == nil || *tun.Problem == got)
	})
	return got
}

// standingAt starts an agent with a tunnel pg, for a person of a cluster.
func standingAt(t *testing.T, tp *teleport) (p *person, w *statusWatch, link string) {
	t.Helper()
	p = newPersonAt(t, tp, roleDB)
	p.login()
	p.startAgent()
	p.addTunnel("pg")
	p.awaitReady("pg")
	return p, p.watch(), p.berth("tunnel", "url", "pg")
}

// TestLockedUser: the cluster's refusal is one problem of the person's, with the
// lock's message once a login was told it, and goes with the lock.
func TestLockedUser(t *testing.T) {
	p, w, link := standingAt(t, lab.teleport)
	act := lab.teleport.acts(p.name)
	if err := act(t.Context(), "lock"); err != nil {
		t.Fatal(err)
	}
	locked := time.Now()
	r := p.psql(link, "select 1")
	t.Logf("psql: %s", strings.TrimSpace(r.err))
	if r.code != 2 || !strings.Contains(r.err, "ref.test refuses "+p.name) {
		t.Errorf("psql exits %d: %s", r.code, r.err)
	}
	w.awaitProblem(locked, 15*time.Second, state.CodeSessionRefused, "locked or deleted?")
	t.Logf("status: %s", p.berth("status"))
	screen, code := p.tryLogin("--renew")
	if code == 0 || !strings.Contains(screen, lockMessage) {
		t.Errorf("a login exits %d: %s", code, screen)
	}
	w.awaitProblem(locked, 15*time.Second, state.CodeSessionRefused, lockMessage)
	p.tryBerth("doctor")   // its dials change nothing
	unlocked := time.Now() // which tctl reports later than it is felt
	if err := act(t.Context(), "unlock"); err != nil {
		t.Fatal(err)
	}
	w.await(unlocked, 20*time.Second, "pg", "ready", func(tun state.Tunnel) bool { return ready(tun) && tun.Problem == nil })
	t.Logf("ready %s after the lock was deleted", time.Since(unlocked).Round(time.Millisecond))
	if r := p.psql(link, "select 1"); r.code != 0 {
		t.Errorf("after the lock psql exits %d: %s", r.code, r.err)
	}
	if err := act(t.Context(), "remove"); err != nil {
		t.Fatal(err)
	}
	// The service of databases may know of it before the auth service does.
	err := until(t.Context(), 5*time.Second, 500*time.Millisecond, func() error {
		if r := p.psql(link, "select 1"); !strings.Contains(r.err, "the user is deleted") {
			return fmt.Errorf("of a deleted user psql prints: %s", r.err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestRotatedCAs: the session's problem says what was rotated and the way out; what
// can go on does.
func TestRotatedCAs(t *testing.T) {
	tp := startAnother(t)
	for _, c := range []struct{ kind, words string }{
		{"user", "user CA was rotated"}, {"host", "no longer fits"},
	} {
		t.Run(c.kind, func(t *testing.T) {
			p, w, link := standingAt(t, tp)
			if err := tp.rotate(t.Context(), c.kind); err != nil {
				t.Fatal(err)
			}
			rotated := time.Now()
			served := until(t.Context(), 5*time.Second, 100*time.Millisecond, func() error {
				if r := p.psql(link, "select 1"); r.code != 0 {
					return errors.New(r.err)
				}
				return nil
			})
			if served != nil {
				t.Errorf("no query gets through: %v", served)
			}
			p.tryBerth("resources")
			problem := w.awaitProblem(time.Time{}, 40*time.Second, state.CodeSessionOutdated, c.words)
			t.Logf("%s after the rotation: %s → %s", time.Since(rotated).Round(time.Millisecond), problem.Text, problem.Action)
			if problem.Action != "berth login --renew "+tp.addr() {
				t.Errorf("the way out is %q", problem.Action)
			}
			p.berthLogin() // without --renew: the session that is there is of no use
			again := time.Now()
			w.await(again, 20*time.Second, "pg", "ready", func(tun state.Tunnel) bool { return ready(tun) && tun.Problem == nil })
			if r := p.psql(link, "select 1"); r.code != 0 {
				t.Errorf("after the login psql exits %d: %s", r.code, r.err)
			}
			if s := p.snapshot(); len(s.Problems) != 0 {
				t.Errorf("after the login there are problems: %+v", s.Problems)
			}
		})
	}
}

// TestOutages stops the whole cluster by a signal, for so long, and has it go on:
// everything is served within a second, and who came meanwhile was held.
func TestOutages(t *testing.T) {
	for _, length := range []time.Duration{time.Second, 25 * time.Second, 2 * time.Minute} {
		t.Run(length.String(), func(t *testing.T) {
			p, w, link := standingAt(t, lab.teleport)
			began := time.Now()
			if err := lab.teleport.proc.signal(syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			held := sendOff(t.Context(), link, "select current_user::text")
			if length > 10*time.Second {
				problem := w.awaitProblem(began, 20*time.Second, state.CodeProxyUnreachable, "no answer in time")
				if off := problem.Since.Sub(began); off > 8*time.Second {
					t.Errorf("the problem is said to be there since %s after its beginning", off)
				}
			}
			if length > time.Minute { // that client is held no longer
				sleepUntil(t.Context(), began.Add(length-30*time.Second))
				held = sendOff(t.Context(), link, "select current_user::text")
			}
			sleepUntil(t.Context(), began.Add(length))
			if err := lab.teleport.proc.signal(syscall.SIGCONT); err != nil {
				t.Fatal(err)
			}
			back := time.Now()
			through := arrive(t, held, 10*time.Second, "app")
			t.Logf("the held client's query was answered %s later", through.Sub(back).Round(time.Millisecond))
			err := until(t.Context(), 10*time.Second, 20*time.Millisecond, func() error {
				if r := p.tryBerth("resources", "db"); r.code != 0 {
					return errors.New(r.err)
				}
				return nil
			})
			t.Logf("berth resources: %s later, %v", time.Since(back).Round(time.Millisecond), err)
			if took := time.Since(back); err != nil || took > 2*time.Second { // a second, and what the program's start takes
				t.Errorf("berth resources lists %s after the cluster is back: %v", took, err)
			}
			if r := p.tryBerth("doctor"); !strings.Contains(r.out, "ok    tunnel pg: ") {
				t.Errorf("berth doctor, %s after the cluster is back:\n%s", time.Since(back), r.out)
			}
		})
	}
}
