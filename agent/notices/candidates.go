package notices

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"berth/agent/state"
	"berth/internal/when"
)

// How long a problem must last before it becomes a notice: most resolve
// themselves.
const (
	graceProxy  = 30 * time.Second
	graceTunnel = 20 * time.Second
	gracePort   = 5 * time.Second
)

const (
	// recoveredFor is how long the notice stays that a problem has ended.
	recoveredFor = 30 * time.Second
	// renewedFor is the same for a session that an unattended login renewed.
	renewedFor = time.Minute
	// deniedFor is how long a denial is news.
	deniedFor = time.Hour
	// userFor is how long it is news that another person's session is in use.
	userFor = 10 * time.Minute
	// foreignFor is how long another user's knocking is news.
	foreignFor = 10 * time.Minute
)

// candidates are the notices that a snapshot gives cause for.
func candidates(s *state.Snapshot, in Input) []candidate {
	var list []candidate
	for i := range s.Profiles {
		list = append(list, ofSession(&s.Profiles[i], s, in)...)
	}
	for i := range s.Problems {
		if c, ok := ofProblem(&s.Problems[i], s); ok {
			list = append(list, c)
		}
	}
	for i := range s.Tunnels {
		if c, ok := ofTunnel(&s.Tunnels[i], s); ok {
			list = append(list, c)
		}
		if c, ok := ofForeigner(&s.Tunnels[i], in.Now); ok {
			list = append(list, c)
		}
	}
	for i := range s.Requests {
		if r := &s.Requests[i]; in.Requests == nil || in.Requests(*r) {
			list = append(list, ofRequest(r, s, in)...)
		}
	}
	return list
}

// ofSession returns the notices of a session's end and of its renewal.
func ofSession(p *state.Profile, s *state.Snapshot, in Input) []candidate {
	where := at(p)
	id := func(what string) string {
		return fmt.Sprintf("session/%s/%s/%s/%d", p.Proxy, p.User, what, unix(p.ValidUntil))
	}
	var list []candidate
	r := p.Renewal
	if r.RenewedAt != nil && in.Now.Sub(*r.RenewedAt) < renewedFor && p.ValidUntil != nil {
		list = append(list, candidate{onlyFresh: true, Notice: state.Notice{
			ID: id("renewed"), Kind: state.NoticeRenewed, Urgency: state.UrgencyLow,
			Title: "Session renewed", Body: fmt.Sprintf("You are logged in to %s until %s.", where, when.Clock(*p.ValidUntil, in.Now)),
		}})
	}
	if at := p.UserChangedAt; at != nil && in.Now.Sub(*at) < userFor {
		list = append(list, candidate{Notice: state.Notice{
			ID: fmt.Sprintf("session/%s/%s/user/%d", p.Proxy, p.User, at.Unix()), Kind: state.NoticeUserChanged, Urgency: state.UrgencyNormal,
			Title: "Tunnels run as " + p.User, Body: fmt.Sprintf("Tunnels of %s now run as %s, before: %s.", where, p.User, p.PreviousUser),
			Actions: []state.NoticeAction{{Verb: state.VerbDetails, Label: "Details", Proxy: p.Proxy, User: p.User}, {Verb: state.VerbDismiss, Label: "Dismiss"}},
		}})
	}
	if p.Login.Asks == state.LoginTap {
		// A snapshot does not say which login it is, but between two there is none.
		list = append(list, candidate{occasion: &occasion{at: in.Now}, Notice: state.Notice{
			ID: id("tap"), Kind: state.NoticeTap, Urgency: state.UrgencyCritical,
			Title: "Touch your security key", Body: fmt.Sprintf("The login to %s waits for it.", where),
		}})
	}
	if p.Login.InProgress && p.Renewal.Warning == state.WarnNot {
		return list // a login is under way, and does not take long
	}
	for i := range s.Tunnels {
		if t := &s.Tunnels[i]; wantsLogin(t, p) && t.Waiting > 0 && t.Problem != nil && t.Problem.Code == state.CodePINNeeded {
			list = append(list, candidate{Notice: state.Notice{
				ID: id(fmt.Sprintf("pin/%s/%d", t.Name, t.Problem.Since.Unix())), Kind: state.NoticeLoginNeeded, Urgency: state.UrgencyCritical,
				Title: "PIN of your security key for " + where, Body: fmt.Sprintf("%s waits for tunnel %s.", client(t), t.Name),
				Actions: []state.NoticeAction{{Verb: state.VerbLogin, Label: "Enter the PIN", Proxy: p.Proxy, User: p.User}},
			}})
		}
	}
	clients := strings.TrimSpace(waiting(p, s) + " " + held(p, s))
	code, _ := longest(s, func(t *state.Tunnel) bool { return waits(t, p) && wantsCode(t) })
	renewing := []state.NoticeAction{
		{Verb: state.VerbRenew, Label: "Renew now", Proxy: p.Proxy, User: p.User}, {Verb: state.VerbSnooze, Label: "Snooze", Proxy: p.Proxy, User: p.User},
	}
	logIn := []state.NoticeAction{
		{Verb: state.VerbLogin, Label: "Log in", Proxy: p.Proxy, User: p.User}, {Verb: state.VerbSnooze, Label: "Not now", Proxy: p.Proxy, User: p.User},
	}
	switch {
	case code != nil:
		list = append(list, candidate{occasion: &occasion{tunnel: code.Name, at: code.Problem.Since}, Notice: state.Notice{
			ID: id("code"), Kind: state.NoticeLoginNeeded, Urgency: state.UrgencyCritical,
			Title: "One-time code for " + where, Body: clients,
			Actions: []state.NoticeAction{{Verb: state.VerbLogin, Label: "Enter the code", Proxy: p.Proxy, User: p.User}},
		}})
	case clients != "":
		list = append(list, candidate{Notice: state.Notice{
			ID: id("waiting"), Kind: state.NoticeLoginNeeded, Urgency: state.UrgencyCritical,
			Title: "Log in to " + where, Body: clients, Actions: logIn,
		}})
	case r.Warning == state.WarnEnded:
		list = append(list, candidate{Notice: state.Notice{
			ID: id("ended"), Kind: state.NoticeLoginNeeded, Urgency: state.UrgencyNormal,
			Title: "Session ended", Body: because(r, fmt.Sprintf("Your session at %s has ended. Tunnels keep their ports and wait for a login.", where)), Actions: logIn,
		}})
	case r.Warning != state.WarnNot && p.ValidUntil != nil:
		urgency := state.UrgencyNormal
		if r.Warning == state.WarnLast {
			urgency = state.UrgencyCritical
		}
		list = append(list, candidate{Notice: state.Notice{
			ID: id(string(r.Warning)), Kind: state.NoticeSessionEnding, Urgency: urgency,
			Title: "Session ends at " + when.Clock(*p.ValidUntil, in.Now),
			Body:  because(r, fmt.Sprintf("Your session at %s ends soon. A new one takes its place without breaking a connection.", where)), Actions: renewing,
		}})
	case r.Problem != nil && p.State != state.ProfileLoggedOut:
		list = append(list, candidate{onlyFresh: true, Notice: state.Notice{
			ID: id("not-renewed"), Kind: state.NoticeRenewFailed, Urgency: state.UrgencyNormal,
			Title: r.Problem.Title, Body: r.Problem.Text, Actions: renewing,
		}})
	}
	return list
}

// because puts why an unattended login failed before what to do about it.
func because(r state.Renewal, text string) string {
	if r.Problem == nil {
		return text
	}
	return r.Problem.Text + " " + text
}

// waits reports whether clients of a tunnel wait for a login at the profile's
// proxy, or for a one-time code.
func waits(t *state.Tunnel, p *state.Profile) bool {
	return wantsLogin(t, p) && t.Waiting > 0 && !wantsKey(t)
}

// wantsKey reports whether a tunnel's tsh wants a security key, or its PIN, or will
// when it has started: no login helps.
func wantsKey(t *state.Tunnel) bool {
	if t.Problem == nil {
		return false
	}
	switch t.Problem.Code {
	case state.CodeTapNeeded, state.CodePINNeeded:
		return true
	case state.CodeMFARequired:
		return t.Engine == state.EngineTSH
	default:
		return false
	}
}

// wantsLogin reports whether a tunnel waits for a login of the profile's user.
func wantsLogin(t *state.Tunnel, p *state.Profile) bool {
	other := t.User != "" && t.User != p.User // it is another's login
	return t.Profile == p.Proxy && t.State == state.TunnelWaitingForLogin && !other
}

// wantsCode reports whether a tunnel waits for a one-time code while the session is
// valid.
func wantsCode(t *state.Tunnel) bool {
	return t.Problem != nil && t.Problem.Code == state.CodeMFARequired
}

// client names the client that has waited for longest.
func client(t *state.Tunnel) string { return cmp.Or(t.WaitingClient, "A client") }

// longest returns, of some tunnels, the one whose client has waited for longest, and how
// many clients wait at all of them; nil: at none.
func longest(s *state.Snapshot, of func(*state.Tunnel) bool) (first *state.Tunnel, clients int64) {
	for i := range s.Tunnels {
		t := &s.Tunnels[i]
		if !of(t) {
			continue
		}
		clients += t.Waiting
		if first == nil || t.WaitingSince != nil && (first.WaitingSince == nil || t.WaitingSince.Before(*first.WaitingSince)) {
			first = t
		}
	}
	return first, clients
}

// waiting says which clients wait for a login at the profile's proxy.
func waiting(p *state.Profile, s *state.Snapshot) string {
	first, n := longest(s, func(t *state.Tunnel) bool { return waits(t, p) })
	if n == 0 {
		return ""
	}
	who := client(first)
	switch n {
	case 1:
		return fmt.Sprintf("%s waits for tunnel %s.", who, first.Name)
	case 2:
		return fmt.Sprintf("%s waits for tunnel %s, and so does another client.", who, first.Name)
	default:
		return fmt.Sprintf("%s waits for tunnel %s, and so do %d others.", who, first.Name, n-1)
	}
}

// held says which access requests wait for a login to be assumed.
func held(p *state.Profile, s *state.Snapshot) string {
	if len(p.HeldRequests) == 0 {
		return ""
	}
	what := "an access request"
	for i := range s.Requests {
		if r := &s.Requests[i]; r.Profile == p.Proxy && r.ID == p.HeldRequests[0] {
			what = wanted(r)
		}
	}
	if n := len(p.HeldRequests) - 1; n > 0 {
		what += fmt.Sprintf(" and %d more", n)
	}
	return fmt.Sprintf("You wanted to assume %s.", what)
}

// ofProblem returns the notice of a problem of a cluster or of berth itself.
func ofProblem(p *state.Problem, s *state.Snapshot) (candidate, bool) {
	c := candidate{Notice: state.Notice{
		Kind: state.NoticeTunnelBroken, Urgency: state.UrgencyNormal, Title: p.Title, Body: p.Text,
		Actions: []state.NoticeAction{{Verb: state.VerbDetails, Label: "Details"}},
	}}
	switch p.Code {
	case state.CodeProxyUnreachable, state.CodeProxyUntrusted:
		proxy := proxyOf(p, s)
		c.grace = graceProxy
		c.ID = fmt.Sprintf("problem/%s/%s", p.Code, proxy)
		c.Actions[0].Proxy = proxy
		c.recovered = &recovery{Tunnels: with(p, s), Notice: state.Notice{
			ID: fmt.Sprintf("proxy/%s/over", proxy), Kind: state.NoticeTunnelRecovered, Urgency: state.UrgencyLow,
			Title: "Proxy is back", Body: fmt.Sprintf("Tunnels through %s work again.", proxy),
		}}
	case state.CodeSessionRefused, state.CodeSessionOutdated, state.CodeLeafAway:
		c.grace = graceTunnel
		c.Actions[0].Proxy = proxyOf(p, s)
		// A proxy may lead to several clusters, and have sessions of two users.
		c.ID = fmt.Sprintf("problem/%s/%s/%s", p.Code, c.Actions[0].Proxy, p.Subject())
		c.recovered = over(p, c.ID, s)
	case state.CodeClockSkew, state.CodeConfigInvalid, state.CodeHomeUnreadable, state.CodeStateUnreadable,
		state.CodeStateUnwritable, state.CodeFilesExhausted:
		c.ID = "problem/" + string(p.Code)
		if p.Code == state.CodeHomeUnreadable { // there may be several
			c.ID += "/" + p.Text
		}
		c.grace = gracePort
	case state.CodeCrashLoop: // it may be over before it could be said
		c.ID = "problem/" + string(p.Code)
	case state.CodeProgramReplaced: // most upgrades restart the agent at once
		c.ID = "problem/" + string(p.Code)
		c.grace = graceTunnel
	default:
		return candidate{}, false
	}
	return c, true
}

// over tells that what was wrong with a session or a leaf cluster is over; nil
// where a login has ended it, which the person knows.
func over(p *state.Problem, id string, s *state.Snapshot) *recovery {
	r := &recovery{Tunnels: with(p, s), Notice: state.Notice{ID: id + "/over", Kind: state.NoticeTunnelRecovered, Urgency: state.UrgencyLow}}
	switch n := &r.Notice; p.Code {
	case state.CodeSessionRefused:
		n.Title, n.Body = "You are let in again", "The cluster accepts your session, and tunnels work again."
	case state.CodeLeafAway:
		n.Title, n.Body = "Leaf cluster is back", "Its tunnels work again."
	default:
		return nil
	}
	return r
}

// with names the tunnels that a shared problem is the problem of.
func with(p *state.Problem, s *state.Snapshot) []string {
	var names []string
	for i := range s.Tunnels {
		if t := &s.Tunnels[i]; t.Problem != nil && *t.Problem == *p {
			names = append(names, t.Name)
		}
	}
	return names
}

// proxyOf is the proxy that a shared problem is about.
func proxyOf(p *state.Problem, s *state.Snapshot) string {
	for i := range s.Tunnels {
		if t := &s.Tunnels[i]; t.Problem != nil && *t.Problem == *p {
			return t.Profile
		}
	}
	return ""
}

// ofTunnel returns the notice of a problem that one tunnel has for itself.
func ofTunnel(t *state.Tunnel, s *state.Snapshot) (candidate, bool) {
	if t.Problem != nil && t.Problem.Code == state.CodeTapNeeded {
		return candidate{Notice: state.Notice{
			ID: fmt.Sprintf("tunnel/%s/tap/%d", t.Name, t.Problem.Since.Unix()), Kind: state.NoticeTap, Urgency: state.UrgencyCritical,
			Title: "Touch your security key", Body: fmt.Sprintf("Tunnel %s waits for it.", t.Name),
		}}, true
	}
	if t.Problem == nil || (t.State != state.TunnelError && t.State != state.TunnelPortInUse) || slices.Contains(s.Problems, *t.Problem) {
		return candidate{}, false
	}
	if t.Problem.Code == state.CodeProxyForbidden { // it is meant so, and nothing here mends it
		return candidate{}, false
	}
	c := candidate{grace: graceTunnel, Notice: state.Notice{
		ID: fmt.Sprintf("tunnel/%s/%s", t.Name, t.Problem.Code), Kind: state.NoticeTunnelBroken, Urgency: state.UrgencyNormal,
		Title: t.Name + ": " + state.LowerFirst(t.Problem.Title),
		Body:  t.Problem.Text,
		Actions: []state.NoticeAction{
			{Verb: state.VerbDetails, Label: "Why?", Tunnel: t.Name}, {Verb: state.VerbRestart, Label: "Restart", Tunnel: t.Name},
		},
	}}
	c.recovered = &recovery{Tunnels: []string{t.Name}, Notice: state.Notice{
		ID: fmt.Sprintf("tunnel/%s/over", t.Name), Kind: state.NoticeTunnelRecovered, Urgency: state.UrgencyLow,
		Title: t.Name + " works again", Body: fmt.Sprintf("New connections to tunnel %s get through.", t.Name),
	}}
	if t.State == state.TunnelPortInUse {
		c.Kind, c.grace = state.NoticePortTaken, gracePort
		c.Actions = c.Actions[:1]
	}
	return c, true
}

// ofForeigner returns the notice of another user's program that the guard
// turned away.
func ofForeigner(t *state.Tunnel, now time.Time) (candidate, bool) {
	if t.ForeignAt == nil || now.Sub(*t.ForeignAt) > foreignFor {
		return candidate{}, false
	}
	return candidate{Notice: state.Notice{
		ID: fmt.Sprintf("foreign/%s/%s", t.Name, t.ForeignUser), Kind: state.NoticeForeign, Urgency: state.UrgencyNormal,
		Title:   "Another user's program was turned away",
		Body:    fmt.Sprintf("A program of %s tried to use your tunnel %s.", t.ForeignUser, t.Name),
		Actions: []state.NoticeAction{{Verb: state.VerbDetails, Label: "Details", Tunnel: t.Name}, {Verb: state.VerbDismiss, Label: "Dismiss"}},
	}}, true
}

// at names where a profile leads.
func at(p *state.Profile) string {
	if p.Cluster != "" {
		return p.Cluster
	}
	return p.Proxy
}

func unix(t *time.Time) int64 {
	if t == nil {
		return 0
	}
	return t.Unix()
}
