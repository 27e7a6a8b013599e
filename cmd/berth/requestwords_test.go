package main

import (
	"testing"
	"time"

	"berth/agent/state"
)

// What a request's page suggests can be done in the state that it is in.
func TestNextStep(t *testing.T) {
	now := time.Date(2026, 5, 4, 12, 0, 0, 0, time.Local)
	later := now.Add(2 * time.Hour)
	request := func(s state.RequestState, change func(*state.Request)) state.Request {
		r := state.Request{ID: "7c1f9a02-0000", Profile: "p:443", Mine: true, State: s, Roles: []string{"dba", "on call"}}
		if change != nil {
			change(&r)
		}
		return r
	}
	for name, c := range map[string]struct {
		r    state.Request
		want string
	}{
		"pending":             {request(state.RequestPending, nil), "berth request watch"},
		"to_be_reviewed":      {request(state.RequestPending, func(r *state.Request) { r.Mine, r.Reviewable = false, true }), "berth request approve 7c1f9a02, or deny"},
		"reviewed":            {request(state.RequestPending, func(r *state.Request) { r.Mine = false }), ""},
		"somebodys_approved":  {request(state.RequestApproved, func(r *state.Request) { r.Mine = false }), ""},
		"assumable":           {request(state.RequestApproved, func(r *state.Request) { r.Assumable = true }), "berth request assume 7c1f9a02"},
		"for_later":           {request(state.RequestApproved, func(r *state.Request) { r.AssumeFrom = &later }), "berth request assume 7c1f9a02, from 14:00:00 on"},
		"assumed":             {request(state.RequestApproved, func(r *state.Request) { r.Assumed = true }), "berth request drop 7c1f9a02"},
		"assumed_by_a_tunnel": {request(state.RequestApproved, func(r *state.Request) { r.Assumable, r.Tunnels = true, []string{"pg"} }), "berth request drop 7c1f9a02"},
		"denied":              {request(state.RequestDenied, nil), "berth request create --role dba --role 'on call'"},
		"expired":             {request(state.RequestExpired, nil), "berth request create --role dba --role 'on call'"},
		"expired_resources": {
			request(state.RequestExpired, func(r *state.Request) { r.Resources = []string{"/example.com/db/it's"} }),
			`berth request create --resource '/example.com/db/it'\''s'`,
		},
		"promoted": {request(state.RequestPromoted, nil), "berth login p:443 --renew"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := nextStep(c.r, now); got != c.want {
				t.Errorf("nextStep = %q, want %q", got, c.want)
			}
		})
	}
}
