//go:build e2e && linux

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/gravitational/teleport/api/client/proto"
	"github.com/gravitational/teleport/api/types"

	"berth/internal/simcluster"
)

// TestRequestsAreLikeReality asks both worlds about access requests, as
// somebody who may ask for one role.
func TestRequestsAreLikeReality(t *testing.T) {
	if err := lab.teleport.apply(t.Context(), requestRoles); err != nil {
		t.Fatal(err)
	}
	p := newPerson(t, roleAsker)
	p.login()
	sim, err := simcluster.Start(simcluster.Config{
		Name: "ref.test", ProxyHost: "127.0.0.1",
		Users: []simcluster.User{{Name: p.name, Password: p.password, Roles: []string{roleAsker}, Logins: []string{"nobody"}}},
		Roles: []simcluster.Role{
			{Name: roleAsker, Request: simcluster.RequestRules{Roles: []string{roleReporter}, MaxDuration: 48 * time.Hour}}, {Name: roleReporter},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sim.Close(); err != nil {
			t.Error(err)
		}
	})
	reality := &world{name: "real", proxyAddr: lab.teleport.addr(), webCAs: lab.webCA.pool(), home: p.tshHome}
	simulation := &world{name: "simulated", proxyAddr: sim.ProxyAddr(), webCAs: sim.WebCAPool(), home: filepath.Join(p.dir, "sim-requests")}
	if err := sim.Login(simulation.home, p.name, simcluster.WithKey(simcluster.RSA)); err != nil {
		t.Fatal(err)
	}
	reality.decide = func(ctx context.Context, id, verb, reason string) error {
		_, err := lab.teleport.tctl(ctx, "", "request", verb, "--reason="+reason, id)
		return err
	}
	simulation.decide = func(_ context.Context, id, verb, reason string) error {
		state := map[string]types.RequestState{"approve": types.RequestState_APPROVED, "deny": types.RequestState_DENIED}[verb]
		return sim.ResolveAccessRequest(id, state, reason)
	}
	worlds := []*world{reality, simulation}
	for _, w := range worlds {
		w.cluster, w.user = "ref.test", p.name
		if w.clt, err = w.dialAuth(t.Context(), w.home); err != nil {
			t.Fatalf("%s: %v", w.name, err)
		}
		t.Cleanup(func() { _ = w.clt.Close() }) // nothing is lost with it
	}
	if err := until(t.Context(), 10*time.Second, 100*time.Millisecond, func() error {
		caps, err := reality.clt.GetAccessCapabilities(t.Context(), types.AccessCapabilitiesRequest{RequestableRoles: true})
		if err == nil && len(caps.RequestableRoles) == 0 {
			err = errors.New("the auth service's cache does not know the roles yet")
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	runProbes(t, worlds, requestProbes)
}

// TestResourceRequestsNeedEnterprise shows why requests for resources are tried
// against the simulation alone: the community edition has no role to ask by.
func TestResourceRequestsNeedEnterprise(t *testing.T) {
	err := lab.teleport.apply(t.Context(), `kind: role
version: v7
metadata: {name: req-searcher}
spec: {allow: {request: {search_as_roles: [req-reporter]}}}
`)
	if err == nil || !strings.Contains(err.Error(), "search_as_roles is only available in enterprise subscriptions") {
		t.Errorf("a role that may ask for resources: %v, want it to be refused", err)
	}
}

// ask makes an access request for roles, changed before it is sent.
func (w *world) ask(ctx context.Context, change func(*types.AccessRequestV3), roles ...string) (types.AccessRequest, error) {
	req, err := types.NewAccessRequest(uuid.NewString(), w.user, roles...)
	if err != nil {
		return nil, err
	}
	if v3, ok := req.(*types.AccessRequestV3); ok && change != nil {
		change(v3)
	}
	return w.clt.CreateAccessRequestV2(ctx, req)
}

// requestRefusal words an error about a request, without its id and its user.
func (w *world) requestRefusal(err error, id string) string {
	if err == nil {
		return "no error"
	}
	text := strings.ReplaceAll(err.Error(), w.user, "USER")
	if id != "" {
		text = strings.ReplaceAll(text, id, "ID")
	}
	return text
}

// assume reissues a cert with a request.
func (w *world) assume(ctx context.Context, id string) error {
	req := w.request("pg")
	req.AccessRequests = []string{id}
	_, err := w.mint(ctx, w.clt, req)
	return err
}

func inHours(at time.Time) string {
	if at.IsZero() {
		return "never"
	}
	return fmt.Sprintf("in %.0f h", time.Until(at).Hours())
}

var requestProbes = []probe{
	{name: "what_may_be_asked_for", want: roleReporter, ask: func(ctx context.Context, w *world) string {
		caps, err := w.clt.GetAccessCapabilities(ctx, types.AccessCapabilitiesRequest{RequestableRoles: true, SuggestedReviewers: true})
		if err != nil {
			return err.Error()
		}
		return fmt.Sprintf("%v %v %v %q", caps.RequestableRoles, caps.SuggestedReviewers, caps.RequireReason, caps.RequestPrompt)
	}},
	{name: "what_the_server_fills_in", want: "1 h", ask: func(ctx context.Context, w *world) string {
		r, err := w.ask(ctx, nil, roleReporter)
		if err != nil {
			return err.Error()
		}
		mapping, err := json.Marshal(r.GetRoleThresholdMapping())
		return fmt.Sprintf("%s, lapses %s, access ends %s, max %s, session %s, thresholds %v %s, %v", r.GetState(), inHours(r.Expiry()),
			inHours(r.GetAccessExpiry()), inHours(r.GetMaxDuration()), inHours(r.GetSessionTLL()), r.GetThresholds(), mapping, err)
	}},
	{name: "for_a_day", want: "24 h", ask: func(ctx context.Context, w *world) string {
		r, err := w.ask(ctx, func(r *types.AccessRequestV3) { r.SetMaxDuration(time.Now().Add(24 * time.Hour)) }, roleReporter)
		if err != nil {
			return err.Error()
		}
		return fmt.Sprintf("access ends %s, session %s", inHours(r.GetAccessExpiry()), inHours(r.GetSessionTLL()))
	}},
	{name: "for_longer_than_the_role_gives", want: "48 h", ask: func(ctx context.Context, w *world) string {
		r, err := w.ask(ctx, func(r *types.AccessRequestV3) { r.SetMaxDuration(time.Now().Add(100 * time.Hour)) }, roleReporter)
		if err != nil {
			return err.Error()
		}
		return "access ends " + inHours(r.GetAccessExpiry())
	}},
	{name: "refused_creations", want: "can not request role", ask: func(ctx context.Context, w *world) string {
		var lines []string
		for _, change := range []func(*types.AccessRequestV3){
			func(r *types.AccessRequestV3) { r.Spec.Roles = []string{roleDB} },
			func(r *types.AccessRequestV3) { r.Spec.User = "somebody" },
			func(r *types.AccessRequestV3) { r.Spec.State = types.RequestState_APPROVED },
			func(r *types.AccessRequestV3) { r.Spec.RequestReason = strings.Repeat("x", 64<<10) },
			func(r *types.AccessRequestV3) {
				r.Spec.RequestedResourceIDs = []types.ResourceID{{ClusterName: w.cluster, Kind: "db", Name: "pg"}}
				r.Spec.Roles = nil
			},
			func(r *types.AccessRequestV3) { r.SetMaxDuration(time.Now().Add(15 * 24 * time.Hour)) },
		} {
			_, err := w.ask(ctx, change, roleReporter)
			lines = append(lines, w.requestRefusal(err, ""))
		}
		return strings.Join(lines, "\n")
	}},
	{name: "no_decisions_by_a_plain_user", want: "cannot submit reviews", ask: func(ctx context.Context, w *world) string {
		r, err := w.ask(ctx, nil, roleReporter)
		if err != nil {
			return err.Error()
		}
		_, err = w.clt.SubmitAccessReview(ctx, types.AccessReviewSubmission{
			RequestID: r.GetName(), Review: types.AccessReview{Author: w.user, ProposedState: types.RequestState_APPROVED, Created: time.Now()},
		})
		set := w.clt.SetAccessRequestState(ctx, types.AccessRequestUpdate{RequestID: r.GetName(), State: types.RequestState_APPROVED})
		remove := w.clt.DeleteAccessRequest(ctx, r.GetName())
		return strings.Join([]string{w.requestRefusal(err, ""), w.requestRefusal(set, ""), w.requestRefusal(remove, "")}, "\n")
	}},
	{name: "assuming", want: "has been denied", ask: func(ctx context.Context, w *world) string {
		var lines []string
		for _, verb := range []string{"", "deny", "approve"} {
			r, err := w.ask(ctx, nil, roleReporter)
			if err == nil && verb != "" {
				err = w.decide(ctx, r.GetName(), verb, "because")
			}
			if err != nil {
				return err.Error()
			}
			lines = append(lines, w.requestRefusal(w.assume(ctx, r.GetName()), r.GetName()))
		}
		start := time.Now().Add(2 * time.Hour)
		r, err := w.ask(ctx, func(r *types.AccessRequestV3) { r.SetAssumeStartTime(start) }, roleReporter)
		if err == nil {
			err = w.decide(ctx, r.GetName(), "approve", "later")
		}
		if err != nil {
			return err.Error()
		}
		early, _, _ := strings.Cut(w.requestRefusal(w.assume(ctx, r.GetName()), r.GetName()), " until")
		bogus := uuid.NewString()
		return strings.Join(append(lines, early, w.requestRefusal(w.assume(ctx, bogus), bogus)), "\n")
	}},
	{name: "watching", want: "Init", ask: func(ctx context.Context, w *world) string {
		var lines []string
		for _, filter := range []string{"", "somebody", w.user} {
			f := types.AccessRequestFilter{User: filter}
			watch, err := w.clt.NewWatcher(ctx, types.Watch{Kinds: []types.WatchKind{{Kind: types.KindAccessRequest, Filter: f.IntoMap()}}})
			if err != nil {
				return err.Error()
			}
			lines = append(lines, w.nextRequestEvent(watch, ""))
			if filter == w.user {
				r, err := w.ask(ctx, nil, roleReporter)
				if err == nil {
					lines = append(lines, w.nextRequestEvent(watch, r.GetName()))
					err = w.decide(ctx, r.GetName(), "approve", "ok")
				}
				if err != nil {
					return err.Error()
				}
				lines = append(lines, w.nextRequestEvent(watch, r.GetName()))
			}
			_ = watch.Close() // it only cancels
		}
		return strings.Join(lines, "\n")
	}},
	{name: "newer_calls", want: "unknown method ListAccessRequests", ask: func(ctx context.Context, w *world) string {
		_, err := w.clt.ListAccessRequests(ctx, &proto.ListAccessRequestsRequest{})
		return w.requestRefusal(err, "")
	}},
	{name: "all_are_ones_own", want: "only", ask: func(ctx context.Context, w *world) string {
		list, err := w.clt.GetAccessRequests(ctx, types.AccessRequestFilter{})
		if err != nil {
			return err.Error()
		}
		if len(list) == 0 || slices.ContainsFunc(list, func(r types.AccessRequest) bool { return r.GetUser() != w.user }) {
			return fmt.Sprintf("%d requests, some of others", len(list))
		}
		return "only one's own"
	}},
}

// nextRequestEvent words the next event of a request; those of others, made
// before the watch began, may still come.
func (w *world) nextRequestEvent(watch types.Watcher, id string) string {
	for {
		select {
		case ev := <-watch.Events():
			r, ok := ev.Resource.(types.AccessRequest)
			switch {
			case !ok:
				return ev.Type.String()
			case r.GetName() == id:
				return fmt.Sprintf("%s %s %q revision %v", ev.Type, r.GetState(), r.GetResolveReason(), r.GetRevision() != "")
			}
		case <-watch.Done():
			return "ended: " + w.requestRefusal(watch.Error(), "")
		case <-time.After(10 * time.Second):
			return "silence"
		}
	}
}
