package tray

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/internal/plain"
)

// askAgain lists the clusters' resources again when the list may have changed:
// after a login as another user, or with other roles. The menu cannot tell when
// it is opened, so the list must be there before.
func (f *front) askAgain(ctx context.Context) {
	who := sessions(f.snapshot)
	switch {
	case who == "":
		f.env.Offers, f.asked = Offers{}, ""
	case who != f.asked, time.Since(f.askedAt) > offersKeep:
		if who != f.asked {
			f.env.Offers = Offers{}
		}
		f.ask(ctx)
	}
}

// ask asks the clusters what they offer.
func (f *front) ask(ctx context.Context) {
	who := sessions(f.snapshot)
	f.asked, f.askedAt = who, time.Now()
	f.env.Offers.Waiting = true
	f.beside(ctx, Action{Do: doListAgain}, func(ctx context.Context) func() {
		list, _, err := f.Agent.Resources(ctx, client.ResourceQuery{})
		return func() {
			if f.asked != who { // the list of an earlier session, which that of today waited for
				if f.asked != "" {
					f.ask(ctx)
				}
				return
			}
			f.env.Offers.Waiting = false
			if err != nil {
				f.Logger.Warn("resources not listed", "err", err)
				f.env.Offers.Failed = sentence(err)
				return
			}
			f.env.Offers = Offers{Known: true}
			for _, r := range list {
				f.env.Offers.List = append(f.env.Offers.List, Offer{
					Kind: r.Kind, Cluster: r.Cluster, Name: r.Name, Protocol: r.Protocol, Users: r.DBUsers,
				})
			}
		}
	})
}

// sessions names the sessions that there are: who, where, with which roles.
func sessions(s state.Snapshot) string {
	var b strings.Builder
	for _, p := range s.Profiles {
		if p.State == state.ProfileValid || p.State == state.ProfileExpiring {
			fmt.Fprintf(&b, "%q %q %q %q %q %q;", p.Home, p.Proxy, p.Cluster, p.User, p.Roles, p.ActiveRequests)
		}
	}
	return b.String()
}

// freeName is a name for a tunnel to a resource that looks like no tunnel's yet.
func freeName(resource string, tunnels []state.Tunnel) string {
	base := plain.Name(resource, maxName)
	name := base
	for n := 2; slices.ContainsFunc(tunnels, func(t state.Tunnel) bool { return plain.SameName(t.Name) == plain.SameName(name) }); n++ {
		name = fmt.Sprintf("%s-%d", base, n)
	}
	return name
}
