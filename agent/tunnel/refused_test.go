package tunnel

import (
	"net"
	"strings"
	"testing"
	"time"

	"berth/agent/state"
	"berth/proxies"
	"berth/proxies/db"
)

// TestRefusals: refusals are the tunnel's trouble when they repeat and no client is
// served, and its state's only when they are no choice of the clients' own.
func TestRefusals(t *testing.T) {
	denied := func(user string, unlisted bool) *db.RefusedError {
		return &db.RefusedError{By: db.ByTeleport, Words: "access to db denied.", User: user, Unlisted: unlisted, Names: true}
	}
	down := &db.RefusedError{By: db.ByTeleport, Words: "connection refused", User: "whoever"}
	password := &db.RefusedError{By: db.ByDatabase, Words: "WRONGPASS", Password: true}
	probe := *down
	probe.Probe = true
	served := error(nil)
	for name, tt := range map[string]struct {
		answers []error
		problem string // in the text; empty: there is none
		code    state.Code
		action  string
		worse   bool
	}{
		"once":             {[]error{down}, "", "", "", false},
		"down":             {[]error{down, down}, "Teleport refuses every client of tunnel \"pg\", 2 so far: connection refused.", state.CodeUpstream, "berth tunnel why pg", true},
		"own_user":         {[]error{denied("app", false), denied("app", false)}, "access to db denied.", state.CodeAccessDenied, "berth request", true},
		"users_of_certs":   {[]error{denied("", false), denied("", false)}, "access to db denied.", state.CodeAccessDenied, "berth request", true},
		"clients_own_user": {[]error{denied("root", true), denied("root", true)}, `You may not be "root" there; you may use: app, reader.`, state.CodeAccessDenied, "berth request", false},
		"password":         {[]error{password, password}, "The database refuses every client", state.CodeUpstream, "leave the client's password empty", false},
		"served_between":   {[]error{down, served, down}, "", "", "", false},
		"served_after":     {[]error{down, down, served}, "", "", "", false},
		"probes":           {[]error{&probe, &probe}, "", "", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			var rs refusals
			at := time.Now().Add(-time.Minute)
			for i, err := range tt.answers {
				at = at.Add(time.Second)
				client := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: i + 1}
				rs.note(proxies.Event{At: at, Kind: proxies.EventAnswered, Client: client, Err: err})
				rs.note(proxies.Event{At: at, Kind: proxies.EventClosed, Client: client})
			}
			rs.suggest(func() string { return "berth request create --role dba" })
			p, worse := rs.problem(state.TunnelSpec{Name: "pg", DBUser: "app"}, []string{"app", "reader"})
			if p == nil {
				if tt.problem != "" {
					t.Error("there is no problem")
				}
				return
			}
			if tt.problem == "" || !strings.Contains(p.Text, tt.problem) || p.Code != tt.code || !strings.HasPrefix(p.Action, tt.action) || worse != tt.worse {
				t.Errorf("problem %+v, worse %v", p, worse)
			}
		})
	}
}

// TestRefusalsWhileServing: one client's trouble is not the tunnel's while another
// one is served, and old trouble is none.
func TestRefusalsWhileServing(t *testing.T) {
	var rs refusals
	down := &db.RefusedError{By: db.ByTeleport, Words: "too many connections"}
	event := func(kind proxies.EventKind, port int, err error, at time.Time) {
		rs.note(proxies.Event{At: at, Kind: kind, Client: &net.TCPAddr{Port: port}, Err: err})
	}
	now := time.Now()
	event(proxies.EventAnswered, 1, nil, now)
	for range 3 {
		event(proxies.EventAnswered, 2, down, now)
	}
	if rs.newest(now) != nil {
		t.Error("refusals count while a client is served")
	}
	event(proxies.EventClosed, 1, nil, now)
	event(proxies.EventAnswered, 2, down, now)
	event(proxies.EventAnswered, 3, down, now) // the same client, without TLS
	if rs.newest(now) != nil {
		t.Error("one client counts as two")
	}
	now = now.Add(time.Second)
	event(proxies.EventAnswered, 2, down, now)
	if rs.newest(now) == nil {
		t.Error("refusals do not count once no client is served")
	}
	if rs.newest(now.Add(refusedFor+time.Second)) != nil {
		t.Error("they count for ever")
	}
	rs.forget()
	if rs.newest(now) != nil {
		t.Error("they are not forgotten")
	}
}
