package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"berth/agent/sessions"
	"berth/agent/state"
	"berth/certwatch"
	"berth/internal/when"
)

// draw draws a snapshot but for its notices. publish is its only caller.
func (a *Agent) draw(now time.Time) *state.Snapshot {
	s := &state.Snapshot{
		Agent: state.Agent{
			Version: a.opts.Version, PID: os.Getpid(), StartedAt: a.started, ConfigPath: a.opts.Paths.Config,
		},
		Profiles: []state.Profile{},
		Tunnels:  a.tunnels.States(),
		Requests: a.requests.Draw(now),
		Problems: a.problems(),
	}
	for _, p := range a.sessions.View().Profiles {
		ps := profileState(p, now)
		ps.Login = a.logins.State(p)
		ps.Renewal = a.renewals.State(p)
		ps.HeldRequests = append(ps.HeldRequests, a.requests.Held(p.ProxyAddr)...)
		ps.Stored = append(ps.Stored, a.memory.Stored(p.ProxyAddr, p.User)...)
		s.Profiles = append(s.Profiles, ps)
	}
	shareProblems(s)
	return s
}

// shareProblems makes one problem of what several tunnels have because of the
// proxy they share: it is among the snapshot's own problems, once, and each of
// these tunnels has that very problem.
func shareProblems(s *state.Snapshot) {
	type cause struct {
		proxy string
		code  state.Code
	}
	shared := make(map[cause]*state.Problem)
	var order []cause
	for i := range s.Tunnels {
		t := &s.Tunnels[i]
		if t.Problem == nil || (t.Problem.Code != state.CodeProxyUnreachable && t.Problem.Code != state.CodeProxyUntrusted) {
			continue
		}
		key := cause{t.Profile, t.Problem.Code}
		first := shared[key]
		if first == nil {
			first = new(*t.Problem)
			shared[key] = first
			order = append(order, key)
		}
		if t.Problem.Since.Before(first.Since) {
			first.Since = t.Problem.Since
		}
		t.Problem = first
	}
	for _, key := range order {
		s.Problems = append(s.Problems, *shared[key])
	}
}

func profileState(p *certwatch.Profile, now time.Time) state.Profile {
	ps := state.Profile{
		Proxy: p.ProxyAddr, Cluster: p.Cluster, User: p.User, Home: p.Home,
		Roles: []string{}, ActiveRequests: []string{}, Stored: []string{}, HeldRequests: []string{},
	}
	if sess := p.Session; sess != nil {
		ps.Roles = append(ps.Roles, sess.Identity.Roles...)
		ps.ActiveRequests = append(ps.ActiveRequests, sess.Identity.ActiveRequests...)
		ps.ValidUntil = state.Instant(sess.ValidUntil)
		if sess.SSH != nil {
			ps.SSHValidUntil = state.Instant(sess.SSH.ValidUntil)
		}
	}
	ps.State = state.ProfileStateAt(now, ps.ValidUntil)
	return ps
}

// problems are those that belong to no single tunnel.
func (a *Agent) problems() []state.Problem {
	list := slices.Clone(a.pub.atStart) // which nothing changes after the start
	if list == nil {
		list = []state.Problem{}
	}
	if loaded := a.config.Current(); loaded.Err != nil {
		list = append(list, state.Problem{
			Code: state.CodeConfigInvalid, Title: "Config has mistakes",
			Text:   fmt.Sprintf("The last good config goes on: %v.", strings.TrimSuffix(oneLine(loaded.Err), ".")),
			Action: "berth config check", Since: loaded.ErrSince.UTC(),
		})
	}
	for _, p := range a.current().Profiles {
		if p.Insecure {
			list = append(list, state.Problem{
				Code: state.CodeInsecureProxy, Title: "INSECURE proxy",
				Text:   fmt.Sprintf("insecure: true is set for %s: its web certificate is NOT verified, and anyone on the way can read your data.", p.Proxy),
				Action: "remove insecure: true, or name the CA with ca_file", Since: a.started,
			})
		}
	}
	list = append(list, skewProblems(a.sessions.Usable(time.Now()))...)
	list = append(list, a.kube.Problems()...)
	return a.pub.dated(append(list, homeProblems(a.sessions.View())...))
}

// skewToTell is how far two clocks may differ before berth speaks of it: a
// cert's beginning is dated back by one minute, so less does no harm.
const skewToTell = 2 * time.Minute

// skewProblems names the clocks that differ.
func skewProblems(live []sessions.Session) []state.Problem {
	var list []state.Problem
	for _, f := range live {
		skew := f.Cluster.Skew()
		if skew.Abs() < skewToTell {
			continue
		}
		way := "ahead of"
		if skew < 0 {
			way = "behind"
		}
		list = append(list, state.Problem{
			Code: state.CodeClockSkew, Title: "Clock is wrong",
			Text:   fmt.Sprintf("This machine's clock is %s %s that of %s.", when.Wait(skew.Abs()), way, f.Profile.RootCluster),
			Action: "set this machine's clock",
		})
	}
	return list
}

// dated dates problems that do not know since when they are: from the first
// snapshot they were in.
func (p *publisher) dated(list []state.Problem) []state.Problem {
	p.mu.Lock()
	defer p.mu.Unlock()
	seen := make(map[string]time.Time, len(list))
	for i := range list {
		one := &list[i]
		key := string(one.Code) + "\x00" + one.Text
		if since, ok := p.since[key]; ok && one.Since.IsZero() {
			one.Since = since
		} else if one.Since.IsZero() {
			one.Since = time.Now().UTC()
		}
		seen[key] = one.Since
	}
	p.since = seen
	return list
}

func homeProblems(view *certwatch.View) []state.Problem {
	var list []state.Problem
	for _, h := range view.HomeProblems {
		list = append(list, state.Problem{
			Code: state.CodeHomeUnreadable, Title: "Teleport home unreadable",
			Text:   fmt.Sprintf("The Teleport home %s cannot be read: %v.", h.Home, h.Err),
			Action: "berth config edit",
		})
	}
	for _, p := range view.Profiles {
		if p.Problem != nil {
			list = append(list, state.Problem{
				Code: state.CodeProfileBroken, Title: "Profile unusable",
				Text:   fmt.Sprintf("The profile of %s in %s makes no session: %v.", p.Name, filepath.Clean(p.Home), p.Problem),
				Action: sessions.LoginCommand(p.ProxyAddr, p.User),
			})
		}
	}
	return list
}

// oneLine makes a multi-line error fit a status line.
func oneLine(err error) string { return strings.Join(strings.Split(err.Error(), "\n"), "; ") }
