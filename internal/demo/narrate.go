package demo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"berth/agent/ipc/client"
	"berth/agent/state"
)

// narrate prints what happens, as the agent's snapshots tell it, until ctx ends.
func (d *demo) narrate(ctx context.Context) (err error) {
	c := client.Dial(d.paths.Socket)
	defer func() { err = errors.Join(err, c.Close()) }()
	var last *state.Snapshot
	for s, err := range c.Follow(ctx) {
		if err != nil {
			continue // Follow tries again
		}
		if last != nil {
			for _, line := range changes(*last, s) {
				if _, err := fmt.Fprintf(d.Out, "%s  %s\n", time.Now().Format(time.TimeOnly), line); err != nil {
					return err
				}
			}
		}
		last = &s
	}
	return nil
}

// changes words what is different between two snapshots, the cause before what
// follows from it.
func changes(from, to state.Snapshot) []string {
	lines := sessionChanges(from, to)
	for _, r := range to.Requests {
		if i := slices.IndexFunc(from.Requests, func(f state.Request) bool { return f.ID == r.ID }); i >= 0 {
			lines = append(lines, requestChanges(from.Requests[i], r)...)
		} else {
			lines = append(lines, requestChanges(state.Request{}, r)...)
		}
	}
	for _, t := range to.Tunnels {
		if i := slices.IndexFunc(from.Tunnels, func(f state.Tunnel) bool { return f.Name == t.Name }); i >= 0 {
			lines = append(lines, tunnelChanges(from.Tunnels[i], t)...)
		} else {
			lines = append(lines, "tunnel "+t.Name+" is new")
		}
	}
	return lines
}

func sessionChanges(from, to state.Snapshot) []string {
	if len(from.Profiles) != 1 || len(to.Profiles) != 1 {
		return nil
	}
	was, is := from.Profiles[0], to.Profiles[0]
	switch had, has := hasSession(was), hasSession(is); {
	case had && !has && is.State == state.ProfileExpired:
		return []string{"the session expired: clients that connect now wait"}
	case had && !has:
		return []string{user + " logged out: the ports stay, clients that connect now wait"}
	case !had && has:
		return []string{fmt.Sprintf("%s logged in, until %s", user, is.ValidUntil.Local().Format(time.TimeOnly))}
	case has && !is.ValidUntil.Equal(*was.ValidUntil) && slices.Equal(was.ActiveRequests, is.ActiveRequests):
		return []string{fmt.Sprintf("session renewed, until %s: new connections get a new cert, open ones go on",
			is.ValidUntil.Local().Format(time.TimeOnly))}
	}
	return nil
}

func hasSession(p state.Profile) bool {
	return p.ValidUntil != nil && (p.State == state.ProfileValid || p.State == state.ProfileExpiring)
}

func requestChanges(was, is state.Request) []string {
	what := strings.Join(is.Roles, ", ")
	var lines []string
	switch {
	case was.State == is.State:
	case is.State == state.RequestPending:
		lines = append(lines, fmt.Sprintf("%s requests %s: approved in a moment", is.User, what))
	case was.ID != "":
		lines = append(lines, fmt.Sprintf("the request for %s is %s", what, is.State))
	}
	switch {
	case is.Assumed && !was.Assumed:
		lines = append(lines, "the session has assumed "+what)
	case was.Assumed && !is.Assumed:
		lines = append(lines, "the session has dropped "+what)
	}
	for _, name := range is.Tunnels {
		if !slices.Contains(was.Tunnels, name) {
			lines = append(lines, fmt.Sprintf("%s alone has assumed %s", name, what))
		}
	}
	for _, name := range was.Tunnels {
		if !slices.Contains(is.Tunnels, name) {
			lines = append(lines, fmt.Sprintf("%s has dropped %s", name, what))
		}
	}
	return lines
}

func tunnelChanges(was, is state.Tunnel) []string {
	var lines []string
	add := func(format string, args ...any) { lines = append(lines, is.Name+": "+fmt.Sprintf(format, args...)) }
	switch {
	case was.State == is.State:
	case is.State == state.TunnelStopped:
		add("stopped")
	case was.State == state.TunnelStopped:
		add("started")
	case is.State == state.TunnelError && is.Problem != nil:
		add("%s", is.Problem.Text)
	}
	released := was.Waiting - is.Waiting
	switch came := is.TotalConnections - was.TotalConnections; {
	case is.Waiting > was.Waiting:
		add("%s", waits(is))
	case is.Waiting == was.Waiting && is.Waiting > 0 && is.WaitingClient != was.WaitingClient && is.WaitingClient != "":
		add("that client is %s", is.WaitingClient)
	case released > 0 && is.State == state.TunnelReady: // it may have left since: psql -c is quick
		add("%s", count(released, "client goes on", "clients go on"))
	case released > 0:
		add("%s", count(released, "client stopped waiting", "clients stopped waiting"))
	case came > 0 && is.Kind == state.KindDB && is.State == state.TunnelReady:
		add("%s", count(came, "client connected", "clients connected"))
	}
	return lines
}

// waits words who waits at a tunnel.
func waits(t state.Tunnel) string {
	switch {
	case t.Waiting > 1:
		return fmt.Sprintf("%d clients wait for a login", t.Waiting)
	case t.WaitingClient == "":
		return "a client waits for a login"
	}
	return t.WaitingClient + " waits for a login"
}

func count(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
