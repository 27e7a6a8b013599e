package tray

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"berth/agent/state"
	"berth/internal/link"
	"berth/internal/plain"
)

// contextPrefix begins the names of the contexts in berth's kubeconfig.
const contextPrefix = "berth-"

func tunnelItems(s state.Snapshot, env Env) []Item {
	if len(s.Tunnels) == 0 {
		return []Item{{Group: GroupNote, Label: "No tunnels yet: add one below", Disabled: true}}
	}
	tunnels := slices.Clone(s.Tunnels)
	slices.SortStableFunc(tunnels, func(a, b state.Tunnel) int { return rankTunnel(a) - rankTunnel(b) })
	whole := len(tunnels) // how many stand in the menu itself
	if whole > maxTunnels {
		whole = slices.IndexFunc(tunnels, func(t state.Tunnel) bool { return !wantsAction(t) })
		if whole < 0 {
			whole = len(tunnels)
		}
	}
	var items []Item
	for _, t := range tunnels[:whole] {
		items = append(items, Item{Group: GroupTunnels, Label: tunnelLabel(t), Children: tunnelActions(s, t, env)})
	}
	return append(cutList(items, maxTunnels, shortTunnel), foldTunnels(tunnels[whole:])...)
}

// shortTunnel is a tunnel's line where there is no room for a submenu.
func shortTunnel(it Item) Item { return Item{Label: it.Label, Action: it.Children[0].Action} }

// foldTunnels puts tunnels that need nothing into submenus by their cluster. A
// click on one copies its address: the address is the purpose of a tunnel.
func foldTunnels(tunnels []state.Tunnel) []Item {
	byCluster := make(map[string][]state.Tunnel)
	for _, t := range tunnels {
		byCluster[t.Cluster] = append(byCluster[t.Cluster], t)
	}
	var items []Item
	for _, cluster := range slices.Sorted(maps.Keys(byCluster)) {
		name := plain.Short(cmp.Or(cluster, "no cluster"), maxName)
		folds := slices.Collect(slices.Chunk(byCluster[cluster], maxMore))
		for _, fold := range folds {
			label := fmt.Sprintf("%s · %s", name, plural(int64(len(fold)), "more tunnel", "more tunnels"))
			if len(folds) > 1 {
				label = fmt.Sprintf("%s · %s to %s", name, plain.Short(fold[0].Name, maxName/2), plain.Short(fold[len(fold)-1].Name, maxName/2))
			}
			item := Item{Group: GroupTunnels, Label: label}
			for _, t := range fold {
				item.Children = append(item.Children, Item{
					Label: tunnelLabel(t), Action: Action{Do: doCopy, Tunnel: t.Name, Text: aimOf(t).text},
				})
			}
			items = append(items, item)
		}
	}
	return cutList(items, maxFolds, func(it Item) Item { return Item{Label: it.Label, Disabled: true} })
}

// tunnelLabel says a tunnel's name, its address and its state in words, which
// screen readers speak as well.
func tunnelLabel(t state.Tunnel) string {
	parts := []string{plain.Short(t.Name, maxName), aimOf(t).label, trouble(t)}
	if t.Waiting > 0 {
		parts = append(parts, plural(t.Waiting, "client waits", "clients wait"))
	}
	return strings.Join(slices.DeleteFunc(parts, func(part string) bool { return part == "" }), " · ")
}

// trouble is how a tunnel is, in a few words.
func trouble(t state.Tunnel) string {
	switch t.State {
	case state.TunnelReady:
		if t.Connections > 0 {
			return fmt.Sprintf("ready, %d open", t.Connections)
		}
		return "ready"
	case state.TunnelConnecting:
		return "connecting…"
	case state.TunnelWaitingForLogin:
		return "waiting for " + waitsFor(t)
	case state.TunnelPortInUse:
		return "port in use"
	case state.TunnelStopped:
		return "stopped"
	default:
		return problemTitle(t)
	}
}

// wantsPIN is what waitsFor says of a security key that berth can give its PIN.
const wantsPIN = "your security key's PIN"

// waitsFor is what a person must give a tunnel that waits.
func waitsFor(t state.Tunnel) string {
	switch {
	case t.Problem == nil:
		return "login"
	case t.Problem.Code == state.CodePINNeeded:
		return wantsPIN
	case t.Problem.Code == state.CodeTapNeeded:
		return "your security key"
	case t.Problem.Code == state.CodeMFARequired && t.Engine == state.EngineTSH:
		return "security key"
	case t.Problem.Code == state.CodeMFARequired:
		return "code"
	default:
		return "login"
	}
}

func problemTitle(t state.Tunnel) string {
	if t.Problem != nil && t.Problem.Title != "" {
		return plain.Short(t.Problem.Title, maxName)
	}
	return words(t.State)
}

func plural(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// tunnelActions starts with copying, which nearly every visit is for.
func tunnelActions(s state.Snapshot, t state.Tunnel, env Env) []Item {
	var items []Item
	add := func(label string, a Action) {
		a.Tunnel = t.Name
		items = append(items, Item{Label: label, Action: a})
	}
	if t.State == state.TunnelPortInUse {
		// Copied, the address would lead to the program that holds the port.
		add("Change port…", Action{Do: doPort})
	} else {
		aim := aimOf(t)
		add("Copy "+aim.what, Action{Do: doCopy, Text: aim.text})
		if env.Client != nil {
			if name, command, ok := env.Client(t); ok {
				add("Copy "+plain.Short(name, maxName)+" command", Action{Do: doCopy, Text: command})
			}
		}
	}
	if l := LinkTo(t, t.Name); offersLink(s, l) {
		add("Copy link", Action{Do: doCopy, Text: l.String()})
	}
	if t.State == state.TunnelWaitingForLogin && t.Profile != "" && !loginRuns(s, t.Profile) {
		switch waitsFor(t) {
		case "login":
			items = append(items, Item{Label: "Log in", Action: Action{Do: doLogin, Proxy: t.Profile, User: t.User}})
		case wantsPIN:
			items = append(items, Item{Label: "Enter the PIN", Action: Action{Do: doLogin, Proxy: t.Profile, User: t.User}})
		case "code":
			items = append(items, Item{Label: "Enter the code", Action: Action{Do: doLogin, Proxy: t.Profile, User: t.User}})
		}
	}
	if t.State == state.TunnelStopped {
		add("Start", Action{Do: doStart})
	} else {
		add("Restart", Action{Do: doRestart})
		add("Stop", Action{Do: doStop})
	}
	if t.Problem != nil {
		add("Why?", Action{Do: doWhy})
	}
	add("Remove…", Action{Do: doRemove})
	return append(items, Item{Label: tunnelFact(t), Disabled: true})
}

// offersLink reports whether a link can be copied: berth would read it, and the policy
// has links do something.
func offersLink(s state.Snapshot, l link.Link) bool {
	return !s.Policy.Off("links") && l.Check() == nil
}

// LinkTo is a link that adds a tunnel like t under a name.
func LinkTo(t state.Tunnel, name string) link.Link {
	return link.Link{
		Verb: link.Add, Name: name, Kind: string(t.Kind), Cluster: t.Cluster, Resource: t.Resource, User: t.DBUser, Database: t.DBName,
	}
}

// tunnelFact sums up what a tunnel leads to, as a line that cannot be clicked.
func tunnelFact(t state.Tunnel) string {
	fact := fmt.Sprintf("%s in %s", plain.Short(cmp.Or(t.Resource, t.Name), maxName), plain.Short(t.Cluster, maxName))
	if t.Protocol != "" {
		fact += " · " + plain.Short(t.Protocol, maxName)
	}
	return fact
}

func loginRuns(s state.Snapshot, proxy string) bool {
	return slices.ContainsFunc(s.Profiles, func(p state.Profile) bool { return p.Proxy == proxy && p.Login.InProgress })
}

// addItem offers what no tunnel leads to yet.
func addItem(s state.Snapshot, env Env) []Item {
	o := env.Offers
	usable := slices.ContainsFunc(s.Profiles, loggedIn)
	item := Item{Group: GroupAdd, Label: "Add tunnel"}
	note := func(text string) { item.Children = append(item.Children, Item{Label: text, Disabled: true}) }
	again := Item{Label: "Ask the cluster again", Action: Action{Do: doListAgain}}
	switch {
	case !usable:
		note("Log in to see what the cluster offers")
		return []Item{item}
	case o.Waiting && !o.Known:
		note("Asking the cluster…")
		return []Item{item}
	case o.Failed != "" && !o.Known:
		note(plain.Short(o.Failed, maxLabel))
		item.Children = append(item.Children, again)
		return []Item{item}
	case !o.Known:
		note("The cluster has not been asked yet")
		item.Children = append(item.Children, again)
		return []Item{item}
	}
	left := perUser(withoutTunnels(o.List, s.Tunnels))
	if len(left) == 0 {
		note("Everything you may use has a tunnel")
	}
	clusters := make(map[string]bool)
	for _, r := range left {
		clusters[r.Cluster] = true
	}
	for i, r := range left {
		if i == maxAdd {
			item.Children = append(item.Children, Item{
				Label: fmt.Sprintf("More… (%d)", len(left)-maxAdd),
				Action: Action{
					Do: doTell, Title: fmt.Sprintf("%d more resources", len(left)-maxAdd),
					Text: `"berth resources" lists them all; "berth tunnel add" adds a tunnel to one.`,
				},
			})
			break
		}
		item.Children = append(item.Children, offerItem(r, len(clusters) > 1))
	}
	item.Children = append(item.Children, again)
	return []Item{item}
}

func offerItem(r Offer, nameCluster bool) Item {
	what := cmp.Or(r.Protocol, r.Kind.Info().Protocol, string(r.Kind))
	label := fmt.Sprintf("%s (%s)", plain.Short(r.Name, maxName), plain.Short(what, maxName))
	if nameCluster {
		label += " in " + plain.Short(r.Cluster, maxName)
	}
	a := Action{Do: doAdd, Kind: r.Kind, Cluster: r.Cluster, Resource: r.Name}
	if len(r.Users) == 1 && r.Users[0] != "*" {
		a.DBUser = r.Users[0]
		label += " as " + plain.Short(a.DBUser, maxName)
	}
	return Item{Label: label, Action: a}
}

// perUser returns the offers with one for each database user where one may be one
// of several.
func perUser(offers []Offer) []Offer {
	var list []Offer
	for _, r := range offers {
		if len(r.Users) < 2 || slices.Contains(r.Users, "*") {
			list = append(list, r)
			continue
		}
		for _, user := range r.Users {
			r.Users = []string{user}
			list = append(list, r)
		}
	}
	return list
}

func withoutTunnels(offers []Offer, tunnels []state.Tunnel) []Offer {
	type place struct {
		kind          state.Kind
		cluster, name string
	}
	taken := make(map[place]bool, len(tunnels))
	for _, t := range tunnels {
		taken[place{t.Kind, t.Cluster, t.Resource}] = true
	}
	var left []Offer
	for _, r := range offers {
		if !taken[place{r.Kind, r.Cluster, r.Name}] {
			left = append(left, r)
		}
	}
	slices.SortStableFunc(left, func(a, b Offer) int {
		return cmp.Or(cmp.Compare(a.Cluster, b.Cluster), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
	})
	return left
}
