package agent

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"berth/agent/sessions"
	"berth/agent/state"
	"berth/certwatch"
	"berth/internal/when"
)

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
