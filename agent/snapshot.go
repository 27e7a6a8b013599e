package agent

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"berth/agent/sessions"
	"berth/agent/state"
	"berth/certwatch"
	"berth/internal/when"
)

// cause is what several tunnels may have a problem with: their proxy, the session
// there, or a leaf cluster behind it.
type cause struct {
	proxy string
	code  state.Code
	which string // of several at the proxy: a leaf cluster, or what is said of a session
}

// causeOf returns the cause of a problem with a session, or with a proxy.
func causeOf(p *state.Problem, proxy string) cause {
	of := cause{proxy: proxy, code: p.Code}
	if p.Code == state.CodeSessionRefused || p.Code == state.CodeSessionOutdated {
		of.which = p.Subject()
	}
	return of
}

// share puts a problem among the snapshot's own, unless the cause has one there,
// and returns the one that is.
func share(s *state.Snapshot, shared map[cause]*state.Problem, of cause, p *state.Problem) *state.Problem {
	if first := shared[of]; first != nil {
		return first
	}
	shared[of] = p
	s.Problems = append(s.Problems, *p)
	return p
}

// shareProblems makes one problem of what several tunnels have by the same cause:
// it is among the snapshot's own problems, once, and each of these tunnels has
// that very problem.
func shareProblems(s *state.Snapshot, shared map[cause]*state.Problem) {
	since := make(map[cause]time.Time)
	sharedBy := func(t *state.Tunnel) (of cause, ok bool) {
		if t.Problem == nil {
			return cause{}, false
		}
		of = causeOf(t.Problem, t.Profile)
		switch of.code {
		case state.CodeLeafAway:
			of.which = t.Cluster
			return of, true
		case state.CodeProxyUnreachable, state.CodeProxyUntrusted, state.CodeSessionRefused, state.CodeSessionOutdated:
			return of, true
		default:
			return cause{}, false
		}
	}
	for i := range s.Tunnels {
		if of, ok := sharedBy(&s.Tunnels[i]); ok && shared[of] == nil {
			if at := s.Tunnels[i].Problem.Since; since[of].IsZero() || at.Before(since[of]) {
				since[of] = at
			}
		}
	}
	for i := range s.Tunnels {
		t := &s.Tunnels[i]
		of, ok := sharedBy(t)
		if !ok {
			continue
		}
		p := new(*t.Problem)
		p.Since = since[of]
		t.Problem = share(s, shared, of, p)
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

// skewProblems names the clusters whose clocks differ from this machine's.
func skewProblems(live []sessions.Session) []state.Problem {
	skews := make(map[string]time.Duration)
	for _, f := range live {
		name, skew := f.Profile.RootCluster, f.Cluster.Skew()
		if skew.Abs() >= max(skewToTell, skews[name].Abs()) {
			skews[name] = skew
		}
	}
	return clockProblems(skews)
}

// clockProblems is one problem at most, however many clusters there are: the clock that
// is to be set is one.
func clockProblems(skews map[string]time.Duration) []state.Problem {
	if len(skews) == 0 {
		return nil
	}
	var differs []string
	for _, name := range slices.Sorted(maps.Keys(skews)) {
		way := "ahead of"
		if skews[name] < 0 {
			way = "behind"
		}
		differs = append(differs, fmt.Sprintf("%s %s that of %s", when.Wait(skews[name].Abs()), way, name))
	}
	return []state.Problem{{
		Code: state.CodeClockSkew, Title: "Clock is wrong",
		Text:   fmt.Sprintf("This machine's clock is %s.", strings.Join(differs, " and ")),
		Action: "set this machine's clock",
	}}
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
