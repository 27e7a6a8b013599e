package tray

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"berth/agent/state"
	"berth/internal/link"
	"berth/internal/plain"
	"berth/internal/when"
)

// requestItems lists the open requests: first those that the user may review,
// then the user's own.
func requestItems(s state.Snapshot, now time.Time) []Item {
	shown := shownRequests(s)
	items := make([]Item, 0, len(shown))
	for _, r := range shown {
		items = append(items, Item{Group: GroupRequests, Label: requestLabel(r, now), Children: requestActions(s, r)})
	}
	return cutList(items, maxRequests, func(it Item) Item {
		return Item{Label: it.Label, Action: it.Children[len(it.Children)-1].Action} // Details
	})
}

// shownRequests are the open requests in the order of requestItems.
func shownRequests(s state.Snapshot) []state.Request {
	shown := make([]state.Request, 0, len(s.Requests))
	for _, r := range s.Requests {
		if requestRank(r) > 0 {
			shown = append(shown, r)
		}
	}
	slices.SortStableFunc(shown, func(a, b state.Request) int {
		return cmp.Or(cmp.Compare(requestRank(a), requestRank(b)), b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	return shown
}

// askItem offers to ask for access, which takes a session.
func askItem(s state.Snapshot) []Item {
	if !slices.ContainsFunc(s.Profiles, loggedIn) {
		return nil
	}
	return []Item{{Group: GroupAsk, Label: "Request access…", Action: Action{Do: doAskAccess}}}
}

// requestRank orders requests by how much they want doing; zero is not shown.
func requestRank(r state.Request) int {
	switch {
	case r.Reviewable && r.State == state.RequestPending:
		return 1
	case r.Assumable && !r.Assumed && len(r.Tunnels) == 0:
		return 2
	case r.Assumed || len(r.Tunnels) > 0:
		return 3
	case r.Mine && r.State == state.RequestPending:
		return 4
	case r.Mine && r.State == state.RequestApproved:
		return 5 // its time has not come
	default:
		return 0
	}
}

// requestLabel says who, what and why.
func requestLabel(r state.Request, now time.Time) string {
	what := plain.Short(asked(r), maxName)
	switch requestRank(r) {
	case 1:
		return fmt.Sprintf("%s asks for %s%s", plain.Short(r.User, maxName), what, because(r.Reason))
	case 2:
		return what + " approved" + until(r.AccessUntil, now)
	case 3:
		if !r.Assumed {
			return fmt.Sprintf("%s assumed for %s%s", what, plain.Short(strings.Join(r.Tunnels, ", "), maxName), until(r.AccessUntil, now))
		}
		return what + " assumed" + until(r.AccessUntil, now)
	case 4:
		return what + " asked for" + progress(r)
	default:
		label := what + " approved"
		if r.AssumeFrom != nil {
			label += ", from " + when.Clock(*r.AssumeFrom, now)
		}
		return label
	}
}

// asked names what a request asks for, roles before resources.
func asked(r state.Request) string {
	names := slices.Clone(r.Roles)
	for _, res := range r.Resources {
		names = append(names, res[strings.LastIndexByte(res, '/')+1:])
	}
	if len(r.Resources) > 0 && len(r.Roles) > 0 {
		names = names[len(r.Roles):] // the roles only say how one gets at them
	}
	if len(names) == 0 {
		return "access"
	}
	return strings.Join(names, ", ")
}

func because(reason string) string {
	if reason = plain.Short(reason, maxReason); reason == "" {
		return ""
	}
	return ": “" + reason + "”"
}

func until(t *time.Time, now time.Time) string {
	if t == nil {
		return ""
	}
	return " until " + when.Clock(*t, now)
}

func progress(r state.Request) string {
	if r.Progress == "" {
		return ""
	}
	return " · " + plain.Short(r.Progress, maxReason)
}

// maxOnly is for how many tunnels alone a request's roles are offered.
const maxOnly = 5

// requestActions ends with Details.
func requestActions(s state.Snapshot, r state.Request) []Item {
	var items []Item
	add := func(label string, do Do, tunnel string) {
		items = append(items, Item{Label: label, Action: Action{Do: do, Request: r.ID, Tunnel: tunnel}})
	}
	rank := requestRank(r)
	if rank == 1 {
		add("Approve…", doApprove, "")
		add("Deny…", doDeny, "")
	}
	if r.Assumable && !r.Assumed {
		add("Assume", doAssume, "")
		n := 0
		for _, t := range s.Tunnels {
			if n < maxOnly && t.Profile == r.Profile && !slices.Contains(r.Tunnels, t.Name) {
				add("Assume for "+plain.Short(t.Name, maxName)+" only", doAssume, t.Name)
				n++
			}
		}
	}
	if r.Assumed {
		add("Drop", doDrop, "")
	}
	for _, name := range r.Tunnels[:min(len(r.Tunnels), maxOnly)] {
		add("Drop for "+plain.Short(name, maxName), doDrop, name)
	}
	items = append(items, Item{Label: "Copy request ID", Action: Action{Do: doCopy, Text: plain.Words(r.ID)}})
	if l := requestLink(r); offersLink(s, l) {
		items = append(items, Item{Label: "Copy link", Action: Action{Do: doCopy, Text: l.String()}})
	}
	return append(items, Item{Label: "Details", Action: Action{Do: doRequest, Request: r.ID}})
}

// requestLink shows a request to those who may see it, such as its reviewers.
func requestLink(r state.Request) link.Link { return link.Link{Verb: link.Request, ID: r.ID} }

// requestDetails says all about a request that fits into a notification.
func requestDetails(r state.Request, now time.Time) (title, text string) {
	title = fmt.Sprintf("%s: %s", plain.Short(r.User, maxName), plain.Short(asked(r), maxLabel))
	lines := []string{fmt.Sprintf("%s, asked %s, ends %s.", words(r.State), when.Clock(r.CreatedAt, now), when.Clock(r.ExpiresAt, now))}
	if reason := plain.Short(r.Reason, maxTold/2); reason != "" {
		lines = append(lines, "Reason: “"+reason+"”")
	}
	if r.Progress != "" {
		lines = append(lines, plain.Short(r.Progress, maxLabel))
	}
	for _, rev := range r.Reviews {
		line := fmt.Sprintf("%s by %s", words(rev.State), plain.Short(rev.Author, maxName))
		lines = append(lines, line+because(rev.Reason))
	}
	lines = append(lines, "ID "+plain.Short(r.ID, maxName))
	return title, plain.Short(strings.Join(lines, " \n"), maxTold)
}
