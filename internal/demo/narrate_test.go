package demo

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth/agent/state"
)

func TestChanges(t *testing.T) {
	at := func(minute int) *time.Time {
		end := time.Date(2026, 1, 2, 15, minute, 0, 0, time.Local)
		return &end
	}
	session := func(s state.ProfileState, end *time.Time) state.Snapshot {
		return state.Snapshot{Profiles: []state.Profile{{State: s, ValidUntil: end}}}
	}
	tunnel := func(s state.TunnelState, open, waiting, total int64, client string) state.Snapshot {
		return state.Snapshot{Tunnels: []state.Tunnel{{
			TunnelSpec: state.TunnelSpec{Name: "demo-pg", Kind: state.KindDB}, State: s,
			Connections: open, Waiting: waiting, TotalConnections: total, WaitingClient: client,
		}}}
	}
	request := func(s state.RequestState, assumed bool, tunnels ...string) state.Snapshot {
		return state.Snapshot{Requests: []state.Request{{
			ID: "7c1f", User: user, Roles: []string{"dba"}, State: s, Assumed: assumed, Tunnels: tunnels,
		}}}
	}
	const ready, away = state.TunnelReady, state.TunnelWaitingForLogin
	for _, tt := range []struct {
		name     string
		from, to state.Snapshot
		want     []string
	}{
		{"nothing", tunnel(ready, 1, 0, 1, ""), tunnel(ready, 1, 0, 1, ""), nil},
		{"logout", session(state.ProfileExpiring, at(1)), session(state.ProfileLoggedOut, nil), []string{
			"alice logged out: the ports stay, clients that connect now wait",
		}},
		{"expiry", session(state.ProfileExpiring, at(1)), session(state.ProfileExpired, at(1)), []string{
			"the session expired: clients that connect now wait",
		}},
		{"login", session(state.ProfileLoggedOut, nil), session(state.ProfileExpiring, at(2)), []string{"alice logged in, until 15:02:00"}},
		{"renewal", session(state.ProfileExpiring, at(2)), session(state.ProfileExpiring, at(3)), []string{
			"session renewed, until 15:03:00: new connections get a new cert, open ones go on",
		}},
		{"connected", tunnel(ready, 0, 0, 4, ""), tunnel(ready, 1, 0, 6, ""), []string{"demo-pg: 2 clients connected"}},
		{"about_to_wait", tunnel(away, 0, 0, 4, ""), tunnel(away, 1, 0, 5, ""), nil},
		{"waits", tunnel(away, 1, 0, 5, ""), tunnel(away, 1, 1, 5, "psql (pid 812)"), []string{
			"demo-pg: psql (pid 812) waits for a login",
		}},
		{"unknown_waits", tunnel(away, 1, 0, 5, ""), tunnel(away, 1, 1, 5, ""), []string{"demo-pg: a client waits for a login"}},
		{"gets_known", tunnel(away, 1, 1, 5, ""), tunnel(away, 1, 1, 5, "psql (pid 812)"), []string{"demo-pg: that client is psql (pid 812)"}},
		{"more_wait", tunnel(away, 1, 1, 5, "psql"), tunnel(away, 3, 3, 7, "psql"), []string{"demo-pg: 3 clients wait for a login"}},
		{"goes_on", tunnel(away, 1, 1, 5, "psql"), tunnel(ready, 1, 0, 5, ""), []string{"demo-pg: 1 client goes on"}},
		{"went_on_and_left", tunnel(away, 1, 1, 5, "psql"), tunnel(ready, 0, 0, 5, ""), []string{"demo-pg: 1 client goes on"}},
		{"gives_up", tunnel(away, 2, 2, 5, "psql"), tunnel(away, 0, 0, 5, ""), []string{"demo-pg: 2 clients stopped waiting"}},
		{"stopped", tunnel(ready, 0, 0, 5, ""), tunnel(state.TunnelStopped, 0, 0, 5, ""), []string{"demo-pg: stopped"}},
		{"started", tunnel(state.TunnelStopped, 0, 0, 5, ""), tunnel(ready, 0, 0, 5, ""), []string{"demo-pg: started"}},
		{"new_tunnel", state.Snapshot{}, tunnel(ready, 0, 0, 0, ""), []string{"tunnel demo-pg is new"}},
		{"request", state.Snapshot{}, request(state.RequestPending, false), []string{"alice requests dba: approved in a moment"}},
		{"approval", request(state.RequestPending, false), request(state.RequestApproved, false), []string{"the request for dba is approved"}},
		{"assumed", request(state.RequestApproved, false), request(state.RequestApproved, true), []string{"the session has assumed dba"}},
		{"dropped", request(state.RequestApproved, true), request(state.RequestApproved, false), []string{"the session has dropped dba"}},
		{"for_a_tunnel", request(state.RequestApproved, false), request(state.RequestApproved, false, "demo-pg"), []string{
			"demo-pg alone has assumed dba",
		}},
		{"tunnel_dropped", request(state.RequestApproved, false, "demo-pg"), request(state.RequestApproved, false), []string{
			"demo-pg has dropped dba",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, changes(tt.from, tt.to)); diff != "" {
				t.Errorf("changes (-want +got):\n%s", diff)
			}
		})
	}
}
