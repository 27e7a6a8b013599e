//go:build e2e && linux

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"berth/agent/state"
)

// TestLoginToQuery is the first hour with berth: log in, look what there is,
// add a tunnel, use it.
func TestLoginToQuery(t *testing.T) {
	p := newPerson(t, roleDB)
	p.login()
	p.startAgent()

	type resource struct {
		Name, Kind, Protocol, Cluster, Tunnel string
		Labels                                map[string]string
	}
	pg := func() resource {
		t.Helper()
		var resources []resource
		if err := json.Unmarshal([]byte(p.berth("resources", "db", "--json")), &resources); err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(resources, func(r resource) bool { return r.Name == "pg" })
		if i < 0 {
			t.Fatalf("berth resources db --json = %+v, want pg", resources)
		}
		return resources[i]
	}
	if r := pg(); r.Protocol != "postgres" || r.Cluster != "ref.test" || r.Labels["env"] != "e2e" || r.Tunnel != "" {
		t.Fatalf("berth resources db --json lists %+v", r)
	}

	begin := time.Now()
	addr := p.addTunnel("prod")
	p.awaitReady("prod")
	t.Logf("added and ready after %s at %s", time.Since(begin).Round(time.Millisecond), addr)
	if r := pg(); r.Tunnel != "prod" {
		t.Errorf("berth resources db does not name the tunnel: %+v", r)
	}

	link := p.berth("tunnel", "url", "prod")
	const who = "select current_user || '@' || current_database() || ' ' || (select ssl from pg_stat_ssl where pid = pg_backend_pid())"
	r := p.psql(link, who)
	if got, want := strings.TrimSpace(r.out), "app@appdb true"; r.code != 0 || got != want {
		t.Fatalf("psql %s prints %q (exit code %d), want %q\n%s", link, got, r.code, want, r.err)
	}
	r = p.tryBerth("exec", "prod", "--", filepath.Join(lab.postgres.bin, "psql"), "-XAtqc", "select current_user")
	if got := strings.TrimSpace(r.out); r.code != 0 || got != "app" {
		t.Errorf("berth exec prod -- psql prints %q (exit code %d)\n%s", got, r.code, r.err)
	}
	p.checkReadyStatus(t, "prod")
}

// checkReadyStatus compares the status of a ready tunnel with the truth.
func (p *person) checkReadyStatus(t *testing.T, name string) {
	t.Helper()
	s := p.snapshot()
	if len(s.Profiles) != 1 || len(s.Problems) != 0 {
		t.Fatalf("status has profiles %+v and problems %+v, want one profile and no problem", s.Profiles, s.Problems)
	}
	prof := s.Profiles[0]
	if prof.Proxy != lab.teleport.addr() || prof.User != p.name || prof.Cluster != "ref.test" ||
		prof.State != state.ProfileValid || prof.Home != p.tshHome || len(prof.Roles) != 1 || prof.Roles[0] != roleDB {
		t.Errorf("status shows the profile %+v", prof)
	}
	tun, _ := findTunnel(s, name)
	if tun.State != state.TunnelReady || tun.Problem != nil || tun.Engine != state.EngineNative ||
		tun.Protocol != "postgres" || tun.Profile != lab.teleport.addr() || tun.Resource != "pg" {
		t.Errorf("status shows the tunnel %+v", tun)
	}
	if tun.CertValidUntil == nil || prof.ValidUntil == nil || tun.CertValidUntil.After(*prof.ValidUntil) {
		t.Errorf("the tunnel's cert ends %v, the session %v: no cert outlives its session", tun.CertValidUntil, prof.ValidUntil)
	}
	if tun.TotalConnections < 2 || tun.BytesIn == 0 || tun.BytesOut == 0 {
		t.Errorf("nothing is counted: %+v", tun)
	}
}

// asUser is a connection link for another database user.
func asUser(link, user string) string {
	u, err := url.Parse(link)
	if err != nil {
		return err.Error()
	}
	u.User = url.User(user)
	return u.String()
}

// outcome is what became of a client that was sent off.
type outcome struct {
	answer string
	err    error
	at     time.Time
}

// sendOff runs a query in the background.
func sendOff(ctx context.Context, link, sql string) <-chan outcome {
	done := make(chan outcome, 1)
	go func() {
		answer, err := query(ctx, link, sql)
		done <- outcome{answer, err, time.Now()}
	}()
	return done
}

// mustHang checks that a client is held, and not answered.
func mustHang(t *testing.T, done <-chan outcome, d time.Duration) {
	t.Helper()
	select {
	case o := <-done:
		t.Fatalf("the client was not held: %q, %v", o.answer, o.err)
	case <-time.After(d):
	}
}

// arrive waits for a client that was sent off.
func arrive(t *testing.T, done <-chan outcome, limit time.Duration, want string) time.Time {
	t.Helper()
	select {
	case o := <-done:
		if o.err != nil || o.answer != want {
			t.Fatalf("the held client got %q, %v; want %q", o.answer, o.err, want)
		}
		return o.at
	case <-time.After(limit):
		t.Fatalf("the held client is still held after %s", limit)
		return time.Time{}
	}
}

// lastWritten is when the last file of a login was written.
func (p *person) lastWritten() time.Time {
	p.t.Helper()
	info, err := os.Stat(filepath.Join(p.tshHome, "current-profile"))
	if err != nil {
		p.t.Fatal(err)
	}
	return info.ModTime()
}

// secondLogin is a machine with a tunnel in use, before a second login that
// will allow the user reporter, which the first does not.
type secondLogin struct {
	*person
	link  string
	open  *session
	knock *knocker
	watch *statusWatch
}

func beforeSecondLogin(t *testing.T, loginArgs ...string) *secondLogin {
	t.Helper()
	s := &secondLogin{person: newPerson(t, roleApp)}
	s.login(loginArgs...)
	s.startAgent()
	addr := s.addTunnel("prod")
	s.awaitReady("prod")
	s.link = s.berth("tunnel", "url", "prod")
	s.watch = s.person.watch()
	s.open = openSession(t, s.link)
	s.knock = knock(t, addr)
	if _, err := query(t.Context(), asUser(s.link, "reporter"), "select 'in'"); err == nil {
		t.Fatal("reporter is let in before the second login: the test can show nothing")
	}
	if err := lab.teleport.setRoles(t.Context(), s.name, roleDB); err != nil {
		t.Fatal(err)
	}
	return s
}

// after checks what must be true after the second login.
func (s *secondLogin) after(t *testing.T) {
	t.Helper()
	s.open.mustLive(t, "over the second login")
	s.knock.check(t)
	if got, err := query(t.Context(), asUser(s.link, "reporter"), "select current_user::text"); err != nil || got != "reporter" {
		t.Errorf("a new connection does not have the new login's roles: %q, %v", got, err)
	}
	s.open.mustLive(t, "after a new connection was made")
}

// TestSecondLogin logs in a second time in each way it can happen, while the
// tunnel is in use.
func TestSecondLogin(t *testing.T) {
	t.Run("logout_and_login", func(t *testing.T) {
		s := beforeSecondLogin(t)
		begin := time.Now()
		s.logout()
		out := s.watch.await(begin, 5*time.Second, "prod", "waiting for a login", waitsForLogin)
		t.Logf("logout noticed after %s (with tsh's own time)", out.Sub(begin).Round(time.Millisecond))
		held := sendOff(t.Context(), asUser(s.link, "reporter"), "select current_user::text")
		mustHang(t, held, time.Second)
		s.open.mustLive(t, "while logged out")
		s.login()
		written := s.lastWritten()
		through := arrive(t, held, 10*time.Second, "reporter")
		t.Logf("login written -> the held client's query answered: %s", through.Sub(written).Round(time.Millisecond))
		s.after(t)
	})
	t.Run("over_an_expired_session", func(t *testing.T) {
		s := beforeSecondLogin(t, "--ttl=1")
		expires := s.tunnel("prod").CertValidUntil
		if expires == nil || time.Until(*expires) > 61*time.Second {
			t.Fatalf("the cert of a session of one minute ends %v", expires)
		}
		noticed := s.watch.await(time.Now(), 90*time.Second, "prod", "waiting for a login", waitsForLogin)
		t.Logf("expiry noticed %s after the second it is due", noticed.Sub(*expires).Round(time.Millisecond))
		held := sendOff(t.Context(), asUser(s.link, "reporter"), "select current_user::text")
		mustHang(t, held, time.Second)
		s.open.mustLive(t, "after the session ended")
		s.login()
		written := s.lastWritten()
		through := arrive(t, held, 10*time.Second, "reporter")
		t.Logf("login written -> the held client's query answered: %s", through.Sub(written).Round(time.Millisecond))
		s.after(t)
	})
	t.Run("staged_and_moved_into_place", func(t *testing.T) {
		s := beforeSecondLogin(t, "--ttl=60")
		before := s.tunnel("prod").CertValidUntil
		installed := s.stagedLogin("--ttl=120")
		inUse := installed
		err := until(t.Context(), 10*time.Second, 5*time.Millisecond, func() error {
			_, err := query(t.Context(), asUser(s.link, "reporter"), "select 'in'")
			inUse = time.Now()
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("files moved -> first query with the new cert answered: %s", inUse.Sub(installed).Round(time.Millisecond))
		shown := s.watch.await(installed, 5*time.Second, "prod", "ready with a later cert", func(tun state.Tunnel) bool {
			return ready(tun) && tun.CertValidUntil != nil && tun.CertValidUntil.After(before.Add(30*time.Minute))
		})
		t.Logf("files moved -> status shows the new cert: %s", shown.Sub(installed).Round(time.Millisecond))
		s.neverUnready(t)
		s.after(t)
	})
}

// neverUnready checks that a renewal was not felt: with a valid session all
// the time, the tunnel never asked for a login nor reported a problem.
func (s *secondLogin) neverUnready(t *testing.T) {
	t.Helper()
	s.watch.mu.Lock()
	defer s.watch.mu.Unlock()
	for _, seen := range s.watch.seen {
		tun, ok := findTunnel(seen.Snapshot, "prod")
		if ok && (tun.State != state.TunnelReady || tun.Problem != nil) {
			t.Errorf("at %s the tunnel was %s, problem %s", seen.at.Format("15:04:05.000"), tun.State, problemText(tun.Problem))
		}
	}
}

func problemText(p *state.Problem) string {
	if p == nil {
		return "none"
	}
	return fmt.Sprintf("%s: %s", p.Code, p.Text)
}
