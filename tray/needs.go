package tray

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"berth/agent/state"
	"berth/internal/plain"
)

// need is one thing that waits for the person: a cause, however many things it
// stops.
type need struct {
	label   string
	action  Action
	tunnels int // that it stops; zero where it is not about tunnels
	login   bool
	good    bool // good news that waits to be used
	asks    bool // another person waits for an answer
}

// needsOf lists what needs the person, the most urgent first: logins, failures,
// then questions, then good news.
func needsOf(s state.Snapshot, now time.Time) []need {
	var logins, broken, people []need
	for _, p := range s.Profiles {
		if n, ok := loginNeed(s, p); ok {
			logins = append(logins, n)
		}
	}
	byCause := make(map[string]int) // in broken
	for _, t := range s.Tunnels {
		cause := causeOf(s, t)
		if cause == "" {
			continue
		}
		at, there := byCause[cause]
		if !there {
			at = len(broken)
			byCause[cause] = at
			broken = append(broken, tunnelNeed(t))
		}
		broken[at].tunnels++
	}
	for i := range broken {
		if n := broken[i].tunnels; n > 1 {
			broken[i].label += fmt.Sprintf(" · %d tunnels", n)
		}
	}
	for _, p := range s.Problems {
		if p.Code != state.CodeInsecureProxy { // the config asks for it
			broken = append(broken, need{
				label:  plain.Short(p.Title, maxName) + ": " + plain.Short(p.Text, maxReason),
				action: problemAction(p),
			})
		}
	}
	for _, r := range shownRequests(s) {
		switch requestRank(r) {
		case 1:
			people = append(people, need{label: requestLabel(r, now), action: Action{Do: doRequest, Request: r.ID}, asks: true})
		case 2:
			people = append(people, need{
				label:  "Assume " + plain.Short(asked(r), maxName) + until(r.AccessUntil, now),
				action: Action{Do: doAssume, Request: r.ID}, good: true,
			})
		}
	}
	return slices.Concat(logins, broken, people)
}

// loginNeed is a login that something waits for: tunnels of the profile, or
// everything when no profile has a session.
func loginNeed(s state.Snapshot, p state.Profile) (need, bool) {
	if loggedIn(p) || p.Login.InProgress && p.Login.Asks == state.LoginTap {
		return need{}, false
	}
	n := need{login: true, action: Action{Do: doLogin, Proxy: p.Proxy, User: p.User}, label: "Log in to " + placeOf(p)}
	if p.Login.InProgress {
		n.label = "Finish the login to " + placeOf(p)
		if p.Login.URL != "" {
			n.action.Do = doOpenLogin
		}
	}
	client := ""
	for _, t := range s.Tunnels {
		if t.Profile == p.Proxy && t.State == state.TunnelWaitingForLogin {
			n.tunnels++
			client = cmp.Or(client, t.WaitingClient)
		}
	}
	switch {
	case client != "":
		n.label += " · " + plain.Short(client, maxName) + " waits"
	case n.tunnels > 0:
		n.label += " · " + plural(int64(n.tunnels), "tunnel waits", "tunnels wait")
	case slices.ContainsFunc(s.Profiles, loggedIn):
		return need{}, false
	}
	return n, true
}

// causeOf names why a tunnel needs the person, the same for all tunnels that
// one act helps; empty when it does not, or when a login helps that is
// mentioned already.
func causeOf(s state.Snapshot, t state.Tunnel) string {
	if !wantsAction(t) {
		return ""
	}
	if t.State == state.TunnelWaitingForLogin && waitsFor(t) == "login" &&
		slices.ContainsFunc(s.Profiles, func(p state.Profile) bool { return p.Proxy == t.Profile && !loggedIn(p) }) {
		return ""
	}
	return cmp.Or(t.Cause(), "tunnel "+t.Name)
}

func tunnelNeed(t state.Tunnel) need {
	n := need{label: plain.Short(t.Name, maxName) + ": " + trouble(t), action: Action{Do: doWhy, Tunnel: t.Name}}
	switch {
	case t.State == state.TunnelPortInUse:
		n.action.Do = doPort
	case t.State == state.TunnelWaitingForLogin && t.Profile != "" && slices.Contains([]string{"login", "code", wantsPIN}, waitsFor(t)):
		n.action = Action{Do: doLogin, Proxy: t.Profile, User: t.User}
	}
	return n
}

// placeOf is what people call the place that a profile is at.
func placeOf(p state.Profile) string { return plain.Short(cmp.Or(p.Cluster, hostOf(p.Proxy)), maxName) }

func loggedIn(p state.Profile) bool {
	return p.State == state.ProfileValid || p.State == state.ProfileExpiring
}

// firstItems are the lines at the top: the one sensible act, all else that
// needs the person, and the window.
func firstItems(s state.Snapshot, env Env, now time.Time) []Item {
	var items []Item
	needs := needsOf(s, now)
	switch {
	case env.NoTSH && !slices.ContainsFunc(s.Profiles, loggedIn):
		items = append(items, Item{Group: GroupFirst, Label: "Get tsh, which logs you in", Action: Action{Do: doGetTSH}})
	case len(s.Profiles) == 0:
		items = append(items, Item{Group: GroupFirst, Label: "Log in…", Action: Action{Do: doLoginAt}})
	case len(needs) > 0 && needs[0].login:
		items = append(items, Item{Group: GroupFirst, Label: needs[0].label, Action: needs[0].action})
		needs = needs[1:]
	}
	if len(needs) > 0 {
		items = append(items, needsItem(needs, len(items) > 0))
	}
	if env.Window {
		items = append(items,
			Item{Group: GroupWindow, Label: "Open berth", Action: Action{Do: doOpenWindow}},
			Item{Group: GroupWindow, Label: "Recordings…", Action: Action{Do: doOpenWindow, Text: PageRecordings}})
	}
	return items
}

func needsItem(needs []need, more bool) Item {
	count := plural(int64(len(needs)), "needs you", "need you")
	if more {
		count = plural(int64(len(needs)), "more needs you", "more need you")
	}
	item := Item{Group: GroupNeeds, Label: count}
	for i, n := range needs {
		if i == maxNeeds {
			item.Children = append(item.Children, Item{
				Label: fmt.Sprintf("and %d more: see berth status", len(needs)-maxNeeds), Disabled: true,
			})
			break
		}
		item.Children = append(item.Children, Item{Label: n.label, Action: n.action})
	}
	return item
}
