package tray

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"berth/agent/state"
	"berth/internal/plain"
	"berth/internal/when"
)

// Env holds what the menu depends on besides the snapshot.
type Env struct {
	GOOS string
	// Away says that no agent answers; the snapshot is then ignored.
	Away bool
	// Starting says that one was started and has not answered yet.
	Starting bool
	// NoTSH says that there is no tsh, without which there is no login.
	NoTSH bool
	// Examining says that the doctor is looking.
	Examining bool
	// Window says that there is a window to open.
	Window bool
	// Settings are what a person may change in the menu.
	Settings []Setting
	Offers   Offers
	// Client returns the usual client's name and command line for a tunnel,
	// and false when there is none. nil means that no tunnel has one.
	Client func(state.Tunnel) (name, command string, ok bool)
}

// Offers lists the clusters' resources, for "Add tunnel".
type Offers struct {
	Known   bool // there is a list
	Failed  string
	Waiting bool // it is being fetched
	List    []Offer
}

// Offer is a resource that a tunnel can lead to.
type Offer struct {
	Kind     state.Kind
	Cluster  string
	Name     string
	Protocol string
	Users    []string // of a database: whom one may be there, "*" for any
}

// Layout decides what the menu says. It is a function of its arguments alone.
func Layout(s state.Snapshot, env Env, now time.Time) []Item {
	var items []Item
	if env.Away {
		items = awayItems(env)
	} else {
		items = slices.Concat(firstItems(s, env, now), profileItems(s, now), requestItems(s, now), askItem(s),
			noteItems(s), tunnelItems(s, env), addItem(s, env))
	}
	items = append(items, footItems(env)...)
	for i := range items {
		items[i].Label = finish(env.GOOS, items[i].Label)
		for k := range items[i].Children {
			items[i].Children[k].Label = finish(env.GOOS, items[i].Children[k].Label)
		}
	}
	return items
}

// finish makes a label safe to hand to the system: one line, short, escaped.
func finish(goos, label string) string { return escape(goos, plain.Short(label, maxLabel)) }

func awayItems(env Env) []Item {
	start := Item{Group: GroupFirst, Label: "Start agent", Action: Action{Do: doStartAgent}}
	if env.Starting {
		start = Item{Group: GroupFirst, Label: "Starting the agent…", Disabled: true}
	}
	return []Item{start, {Group: GroupNote, Label: "Tunnels are down: the agent is not running", Disabled: true}}
}

// noteItems say what holds although nothing fails: that a proxy is not
// verified, and that an upgrade waits for the agent to be restarted.
func noteItems(s state.Snapshot) []Item {
	var items []Item
	for _, p := range s.Problems {
		switch p.Code {
		case state.CodeInsecureProxy:
			items = append(items, Item{Group: GroupNote, Label: p.Title + ": " + p.Text, Action: problemAction(p)})
		case state.CodeProgramReplaced:
			items = append(items, Item{Group: GroupNote, Label: p.Title + ": " + p.Action, Disabled: true})
		default:
		}
	}
	return items[:min(len(items), maxNotes)]
}

// problemAction shows all about a problem of the agent's.
func problemAction(p state.Problem) Action {
	return Action{Do: doProblem, Title: p.Text, Text: string(p.Code)}
}

func footItems(env Env) []Item {
	settings := append(settingItems(env), Item{Label: "Open config", Action: Action{Do: doOpenConfig}})
	if env.Window && !env.Away {
		settings = append(settings, Item{Label: "All settings", Action: Action{Do: doOpenWindow, Text: PageSettings}})
	}
	help := []Item{
		{Label: "Documentation", Action: Action{Do: doDocs}},
		doctorItem(env),
		{Label: "Logs", Action: Action{Do: doOpenLogs}},
		{Label: "Copy diagnostics", Action: Action{Do: doDiagnostics}},
		{Label: "About berth", Action: Action{Do: doAbout}},
	}
	quit := "Quit tray (tunnels stay up)"
	if env.Away {
		quit = "Quit tray"
	}
	return []Item{
		{Group: GroupFoot, Label: "Settings", Children: settings},
		{Group: GroupFoot, Label: "Help", Children: help},
		{Group: GroupQuit, Label: quit, Action: Action{Do: doQuit}},
	}
}

// doctorItem is there while the agent is away too: above all then.
func doctorItem(env Env) Item {
	if env.Examining {
		return Item{Label: "Doctor is looking…", Disabled: true}
	}
	return Item{Label: "Doctor", Action: Action{Do: doDoctor}}
}

func profileItems(s state.Snapshot, now time.Time) []Item {
	var items []Item
	for _, p := range s.Profiles {
		items = append(items, Item{Group: GroupProfiles, Label: profileLabel(p, now), Children: profileActions(p)})
	}
	return cutList(items, maxProfiles, func(it Item) Item { return Item{Label: it.Label, Disabled: true} })
}

// profileLabel names the user, the cluster and the time left.
func profileLabel(p state.Profile, now time.Time) string {
	who := plain.Short(hostOf(p.Proxy), maxName)
	if p.User != "" {
		who = fmt.Sprintf("%s @ %s", plain.Short(p.User, maxName), plain.Short(cmp.Or(p.Cluster, hostOf(p.Proxy)), maxName))
	}
	switch {
	case p.Login.InProgress:
		return who + " · logging in…"
	case p.ValidUntil == nil || p.State == state.ProfileLoggedOut:
		return who + " · logged out"
	case !now.Before(*p.ValidUntil):
		return who + " · session ended"
	case p.ValidUntil.Sub(now) < state.ExpiringWithin:
		return who + " · ends in " + when.Span(p.ValidUntil.Sub(now)) + reminder(p, now)
	default:
		return who + " · " + when.Span(p.ValidUntil.Sub(now)) + " left"
	}
}

// reminder says when berth speaks of a session's end next, if it does not now:
// the reminder may have been snoozed.
func reminder(p state.Profile, now time.Time) string {
	switch r := p.Renewal; {
	case r.Mode != state.RenewAsk || r.Warning != state.WarnNot:
		return ""
	case r.At == nil:
		return " · no more reminders"
	default:
		return " · next reminder at " + when.Clock(*r.At, now)
	}
}

func profileActions(p state.Profile) []Item {
	var items []Item
	add := func(label string, do Do) {
		items = append(items, Item{Label: label, Action: Action{Do: do, Proxy: p.Proxy, User: p.User}})
	}
	switch {
	case p.Login.InProgress:
		if p.Login.URL != "" {
			add("Open the login page", doOpenLogin)
		} else {
			add("Take part in the login", doLogin)
		}
		add("Cancel the login", doCancelLogin)
	case loggedIn(p):
		add("Renew now", doRenew)
	default:
		add("Log in", doLogin)
	}
	if p.Renewal.Warning != state.WarnNot && !p.Login.InProgress {
		add("Remind me later", doSnooze)
	}
	if loggedIn(p) {
		add("Log out", doLogout)
	}
	if len(p.Roles) > 0 {
		items = append(items, Item{Label: "Copy roles", Action: Action{Do: doCopy, Text: joined(p.Roles)}})
	}
	return items
}

// joined is a list of names as it is pasted.
func joined(names []string) string {
	cleaned := make([]string, len(names))
	for i, n := range names {
		cleaned[i] = plain.Words(n)
	}
	return strings.Join(cleaned, ",")
}

// cutList keeps limit items and puts the next of the rest, in a short form,
// under "More…".
func cutList(items []Item, limit int, short func(Item) Item) []Item {
	if len(items) <= limit {
		return items
	}
	rest := items[limit:]
	more := Item{Group: items[0].Group, Label: fmt.Sprintf("More… (%d)", len(rest))}
	for i, it := range rest {
		if i == maxMore {
			more.Children = append(more.Children, Item{
				Label:    fmt.Sprintf("and %d more: see berth status", len(rest)-maxMore),
				Disabled: true,
			})
			break
		}
		more.Children = append(more.Children, short(it))
	}
	return append(items[:limit:limit], more)
}
