package tunnel

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"berth/agent/state"
	"berth/agent/tunnel/history"
	"berth/proxies"
	"berth/proxies/db"
)

const (
	// refusedTwice is how many clients in a row the other side must refuse before
	// that is the tunnel's trouble: one may have been a slip.
	refusedTwice = 2
	// refusedFor is how long after the last refusal it still is.
	refusedFor = 15 * time.Minute
)

// refusals are what the other side makes of a tunnel's clients.
type refusals struct {
	mu      sync.Mutex      // guards everything below
	served  map[string]bool // the addresses of clients that it serves now
	count   int             // how many it refused since it served one
	since   time.Time       // when the first of them came
	at      time.Time       // when the last one did
	counted time.Time       // when count grew last
	last    *db.RefusedError
	// command asks for access that could help; empty: none is known. asked means
	// that it was looked for.
	command string
	asked   bool
}

// note learns from a step in a connection's life, and reports whether it changes
// what the tunnel says of itself.
func (rs *refusals) note(ev proxies.Event) bool {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	client := ev.Client.String()
	switch refused, ok := errors.AsType[*db.RefusedError](ev.Err); {
	case ev.Kind == proxies.EventClosed:
		delete(rs.served, client)
	case ev.Kind != proxies.EventAnswered:
	case ok && !refused.Probe:
		if len(rs.served) > 0 {
			return false // it serves others
		}
		if rs.count == 0 || ev.At.Sub(rs.at) > refusedFor {
			rs.count, rs.since, rs.asked, rs.command = 0, ev.At, false, ""
		}
		if rs.count == 0 || ev.At.Sub(rs.counted) >= history.OneTry {
			rs.count, rs.counted = rs.count+1, ev.At
		}
		rs.at, rs.last = ev.At, refused
		return rs.count >= refusedTwice
	case ev.Err == nil:
		was := rs.count
		if rs.served == nil {
			rs.served = make(map[string]bool)
		}
		rs.served[client], rs.count, rs.last = true, 0, nil
		return was >= refusedTwice
	}
	return false
}

// forget forgets the refusals: with another credential they may not come again.
func (rs *refusals) forget() {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	rs.count, rs.last = 0, nil
}

// newest returns the newest refusal if they are the tunnel's trouble now.
func (rs *refusals) newest(now time.Time) *db.RefusedError {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.count < refusedTwice || now.Sub(rs.at) > refusedFor {
		return nil
	}
	return rs.last
}

// suggest looks for the request that would help clients who lack rights, with
// find, once for each run of refusals. It reports whether there is one.
func (rs *refusals) suggest(find func() string) bool {
	if !rs.unasked() {
		return false
	}
	command := find()
	rs.mu.Lock()
	defer rs.mu.Unlock()
	rs.command, rs.asked = command, true
	return command != ""
}

// unasked reports whether a request may help that was not looked for.
func (rs *refusals) unasked() bool {
	refused := rs.newest(time.Now())
	rs.mu.Lock()
	defer rs.mu.Unlock()
	return refused != nil && refused.Denied() && !rs.asked
}

// problem words the refusals, and reports whether they are evidence about the
// tunnel, as opposed to what its clients chose themselves.
func (rs *refusals) problem(spec state.TunnelSpec, allowed []string) (p *state.Problem, tunnels bool) {
	refused := rs.newest(time.Now())
	if refused == nil {
		return nil, false
	}
	rs.mu.Lock()
	defer rs.mu.Unlock()
	own := (refused.User == "" || refused.User == spec.DBUser) && (refused.Database == "" || refused.Database == spec.DBName)
	p = &state.Problem{
		Code: state.CodeUpstream, Title: "Clients are refused", Since: rs.since.UTC(),
		Text: fmt.Sprintf("%s refuses every client of tunnel %q, %d so far: %s",
			strings.ToUpper(string(refused.By)[:1])+string(refused.By)[1:], spec.Name, rs.count, sentence(refused.Words)),
		Action: "berth tunnel why " + spec.Name,
	}
	switch {
	case refused.Unlisted:
		p.Code = state.CodeAccessDenied
		p.Text += fmt.Sprintf(" You may not be %q there%s.", refused.User, allowedUsers(allowed))
		p.Action = "use another database user, or berth tunnel why " + spec.Name
	case refused.Denied():
		p.Code = state.CodeAccessDenied
	case refused.Password:
		p.Action = "leave the client's password empty: the certificate is what counts"
	}
	if rs.command != "" {
		p.Action = rs.command
	}
	return p, !refused.Password && (own || !refused.Names)
}

// sentence ends a text as one.
func sentence(s string) string { return strings.TrimRight(s, ".: ") + "." }
