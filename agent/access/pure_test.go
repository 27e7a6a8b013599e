package access

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/gravitational/teleport/api/types"

	"berth/agent/state"
	"berth/internal/plain"
)

func TestClean(t *testing.T) {
	for name, tc := range map[string]struct{ in, want string }{
		"plain":            {"incident 42", "incident 42"},
		"lines_and_spaces": {" a\r\n\t b \n", "a b"},
		"colour":           {"\x1b[31mred\x1b[0m", "red"},
		"title":            {"\x1b]0;owned\aok", "ok"},
		"link":             {"\x1b]8;;http://x\x1b\\click\x1b]8;;\x1b\\", "click"},
		"half_a_sequence":  {"ok\x1b[31", "ok"},
		"lone_escape":      {"ok\x1b", "ok"},
		"c1_control":       {"a\u009b31mb", "ab"},
		"rtl_override":     {"abc\u202egpj.exe", "abcgpj.exe"},
		"isolates":         {"\u2066x\u2069", "x"},
		"zero_width":       {"ad\u200bm\u200din\ufeff", "admin"},
		"tags":             {"a\U000e0041b", "ab"},
		"blank_letters":    {"a\u3164b\u115f", "ab"},
		"markup_stays":     {"<b>x</b> & 'y'", "<b>x</b> & 'y'"},
		"broken_utf8":      {"caf\xff", "caf\ufffd"},
		"other_scripts":    {"привет 世界 🙂", "привет 世界 🙂"},
		"nul_and_bell":     {"a\x00\ab", "ab"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Clean(tc.in, 100); got != tc.want {
				t.Errorf("Clean(%q) = %q, want %q", tc.in, got, tc.want)
			}
		})
	}
	if got, want := Clean(strings.Repeat("x", 64<<10), 10), strings.Repeat("x", 10)+"… (64 KiB)"; got != want {
		t.Errorf("a long text becomes %q, want %q", got, want)
	}
	if got := Clean(strings.Repeat("я", 100), 11); got != strings.Repeat("я", 5)+"… (200 bytes)" {
		t.Errorf("a cut breaks a character: %q", got)
	}
}

func FuzzClean(f *testing.F) {
	for _, s := range []string{"", "\x1b[", "\x1b]x", "\u202e", "\xff\xfe", "a\x1b\u00e9"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := Clean(s, 50)
		if len(got) > 50+len("… (99999 KiB)") || !utf8.ValidString(got) {
			t.Errorf("Clean(%q) = %q", s, got)
		}
		if plain.Words(got) != got {
			t.Errorf("Clean(%q) = %q is not clean", s, got)
		}
		if len(got) <= 50 && Clean(got, 50) != got {
			t.Errorf("Clean is not stable: %q", got)
		}
	})
}

// newRequest is a pending request of alice's for dba.
func newRequest(change ...func(*types.AccessRequestV3)) *types.AccessRequestV3 {
	req := &types.AccessRequestV3{
		Metadata: types.Metadata{Name: "11111111-0000-0000-0000-000000000000"},
		Spec: types.AccessRequestSpecV3{
			User: "alice", Roles: []string{"dba"}, State: types.RequestState_PENDING, Created: start,
			Thresholds: []types.AccessReviewThreshold{
				{Name: "peers", Approve: 2, Deny: 1}, {Name: "security", Approve: 1, Deny: 1}, {Name: "default", Approve: 1}, {Name: "never", Deny: 1},
			},
			RoleThresholdMapping: map[string]types.ThresholdIndexSets{"dba": sets([]uint32{0})},
		},
	}
	req.SetExpiry(start.Add(time.Hour))
	req.SetAccessExpiry(start.Add(8 * time.Hour))
	for _, c := range change {
		c(req)
	}
	return req
}

var start = time.Date(2026, 5, 4, 9, 0, 0, 0, time.UTC)

func sets(all ...[]uint32) types.ThresholdIndexSets {
	var s types.ThresholdIndexSets
	for _, indexes := range all {
		s.Sets = append(s.Sets, types.ThresholdIndexSet{Indexes: indexes})
	}
	return s
}

func reviewed(author string, state types.RequestState, thresholds ...uint32) func(*types.AccessRequestV3) {
	return func(r *types.AccessRequestV3) {
		r.Spec.Reviews = append(r.Spec.Reviews, types.AccessReview{Author: author, ProposedState: state, ThresholdIndexes: thresholds, Created: start})
	}
}

func TestProgress(t *testing.T) {
	yes, no := types.RequestState_APPROVED, types.RequestState_DENIED
	mapping := func(roles map[string]types.ThresholdIndexSets) func(*types.AccessRequestV3) {
		return func(r *types.AccessRequestV3) { r.Spec.RoleThresholdMapping = roles }
	}
	for name, tc := range map[string]struct {
		change []func(*types.AccessRequestV3)
		want   string
		done   bool
	}{
		"nobody_yet":      {nil, "0 of 2 approvals, needs peers", false},
		"one_of_two":      {[]func(*types.AccessRequestV3){reviewed("bob", yes, 0)}, "1 of 2 approvals, needs peers", false},
		"filter_not_met":  {[]func(*types.AccessRequestV3){reviewed("bob", yes)}, "0 of 2 approvals, needs peers", false},
		"done":            {[]func(*types.AccessRequestV3){reviewed("bob", yes, 0), reviewed("sue", yes, 0)}, "2 of 2 approvals", true},
		"a_denial_counts": {[]func(*types.AccessRequestV3){reviewed("bob", no, 0)}, "0 of 2 approvals, needs peers, 1 against", false},
		"nearest_of_one_set": {
			[]func(*types.AccessRequestV3){mapping(map[string]types.ThresholdIndexSets{"dba": sets([]uint32{0, 1})})},
			"0 of 1 approval, needs security", false,
		},
		"all_sets_of_a_role": {
			[]func(*types.AccessRequestV3){mapping(map[string]types.ThresholdIndexSets{"dba": sets([]uint32{0}, []uint32{1})}), reviewed("bob", yes, 0)},
			"1 of 2 approvals, needs peers and security", false,
		},
		"one_rule_done_one_open": {
			[]func(*types.AccessRequestV3){
				mapping(map[string]types.ThresholdIndexSets{"dba": sets([]uint32{0}), "admin": sets([]uint32{1})}),
				reviewed("bob", yes, 0), reviewed("tim", yes, 0),
			},
			"0 of 1 approval, needs security", false,
		},
		"default_has_no_name": {[]func(*types.AccessRequestV3){mapping(map[string]types.ThresholdIndexSets{"dba": sets([]uint32{2})})}, "0 of 1 approval", false},
		"nothing_can_approve": {[]func(*types.AccessRequestV3){mapping(map[string]types.ThresholdIndexSets{"dba": sets([]uint32{3})})}, "no review can approve it", false},
		"bad_index":           {[]func(*types.AccessRequestV3){mapping(map[string]types.ThresholdIndexSets{"dba": sets([]uint32{77})}), reviewed("bob", yes, 99)}, "no review can approve it", false},
	} {
		t.Run(name, func(t *testing.T) {
			got := progressOf(newRequest(tc.change...))
			if got.String() != tc.want || got.Done != tc.done {
				t.Errorf("progress %q, done %v; want %q, %v", got, got.Done, tc.want, tc.done)
			}
		})
	}
}

func TestDraw(t *testing.T) {
	approved := func(r *types.AccessRequestV3) { r.Spec.State = types.RequestState_APPROVED }
	from := func(in time.Duration) func(*types.AccessRequestV3) {
		return func(r *types.AccessRequestV3) { r.SetAssumeStartTime(start.Add(in)) }
	}
	alice := Who{User: "alice"}
	for name, tc := range map[string]struct {
		req                                    *types.AccessRequestV3
		who                                    Who
		at                                     time.Duration
		mine, reviewable, assumable, isAssumed bool
		state                                  state.RequestState
	}{
		"pending":        {req: newRequest(), who: alice, mine: true, state: state.RequestPending},
		"approved":       {req: newRequest(approved), who: alice, mine: true, assumable: true, state: state.RequestApproved},
		"not_yet":        {req: newRequest(approved, from(time.Hour)), who: alice, mine: true, state: state.RequestApproved},
		"now":            {req: newRequest(approved, from(time.Minute)), who: alice, at: 2 * time.Minute, mine: true, assumable: true, state: state.RequestApproved},
		"assumed":        {req: newRequest(approved), who: Who{User: "alice", Active: []string{newRequest().GetName()}}, mine: true, isAssumed: true, state: state.RequestApproved},
		"lapsed":         {req: newRequest(), who: alice, at: 2 * time.Hour, mine: true, state: state.RequestExpired},
		"of_another":     {req: newRequest(), who: Who{User: "bob"}, reviewable: true, state: state.RequestPending},
		"reviewed":       {req: newRequest(reviewed("bob", types.RequestState_APPROVED)), who: Who{User: "bob"}, state: state.RequestPending},
		"not_allowed":    {req: newRequest(), who: Who{User: "bob", NoReview: true}, state: state.RequestPending},
		"theirs_decided": {req: newRequest(approved), who: Who{User: "bob"}, state: state.RequestApproved},
	} {
		t.Run(name, func(t *testing.T) {
			r := Draw(tc.req, tc.who, start.Add(tc.at))
			if r.Mine != tc.mine || r.Reviewable != tc.reviewable || r.Assumable != tc.assumable || r.Assumed != tc.isAssumed || r.State != tc.state {
				t.Errorf("mine %v, reviewable %v, assumable %v, assumed %v, %s", r.Mine, r.Reviewable, r.Assumable, r.Assumed, r.State)
			}
		})
	}
	hostile := newRequest(func(r *types.AccessRequestV3) {
		r.Spec.RequestReason, r.Spec.User, r.Spec.Roles = "\x1b[2J\u202e<b>"+strings.Repeat("y", 64<<10), "e\u200bve", []string{"d\nba"}
	})
	r := Draw(hostile, alice, start)
	if !strings.HasPrefix(r.Reason, "<b>yyy") || !strings.HasSuffix(r.Reason, "… (64 KiB)") || r.User != "eve" || r.Roles[0] != "d ba" {
		t.Errorf("hostile text: %q %q %q", r.Reason, r.User, r.Roles)
	}
}

func TestDiff(t *testing.T) {
	mine := func(change ...func(*state.Request)) state.Request {
		until := start.Add(8 * time.Hour)
		r := state.Request{ID: "a", Mine: true, State: state.RequestPending, ExpiresAt: start.Add(time.Hour), AccessUntil: &until}
		for _, c := range change {
			c(&r)
		}
		return r
	}
	is := func(s state.RequestState) func(*state.Request) { return func(r *state.Request) { r.State = s } }
	assumed := func(r *state.Request) { r.Assumed = true }
	theirs := func(r *state.Request) { r.Mine, r.Reviewable = false, true }
	later := func(r *state.Request) { at := start.Add(time.Minute); r.AssumeFrom = &at }
	review := func(r *state.Request) { r.Reviews = append(r.Reviews, state.Review{}) }
	list := func(rs ...state.Request) []state.Request { return rs }
	for name, tc := range map[string]struct {
		prev, next []state.Request
		after      time.Duration
		want       string
	}{
		"nothing":           {list(mine()), list(mine()), 0, "[]"},
		"created":           {nil, list(mine()), 0, "[created]"},
		"created_approved":  {nil, list(mine(is(state.RequestApproved))), 0, "[created approved]"},
		"approved":          {list(mine()), list(mine(is(state.RequestApproved), review)), 0, "[approved]"},
		"denied":            {list(mine()), list(mine(is(state.RequestDenied))), 0, "[denied]"},
		"promoted":          {list(mine()), list(mine(is(state.RequestPromoted))), 0, "[promoted]"},
		"denied_after_all":  {list(mine(is(state.RequestApproved))), list(mine(is(state.RequestDenied))), 0, "[denied]"},
		"one_review":        {list(mine()), list(mine(review)), 0, "[reviewed]"},
		"review_asked":      {nil, list(mine(theirs)), 0, "[review_asked]"},
		"asked_lapses":      {list(mine(theirs)), nil, 0, "[]"},
		"its_time_comes":    {list(mine(is(state.RequestApproved), later)), list(mine(is(state.RequestApproved), later)), 2 * time.Minute, "[assumable]"},
		"assumed":           {list(mine(is(state.RequestApproved))), list(mine(is(state.RequestApproved), assumed)), 0, "[assumed]"},
		"dropped":           {list(mine(is(state.RequestApproved), assumed)), list(mine(is(state.RequestApproved))), 0, "[dropped]"},
		"ends_soon":         {list(mine(is(state.RequestApproved), assumed)), list(mine(is(state.RequestApproved), assumed)), 8*time.Hour - 9*time.Minute, "[ends_soon]"},
		"not_yet_soon":      {list(mine(is(state.RequestApproved), assumed)), list(mine(is(state.RequestApproved), assumed)), 7 * time.Hour, "[]"},
		"expired":           {list(mine()), nil, 2 * time.Hour, "[expired]"},
		"deleted":           {list(mine()), nil, time.Minute, "[deleted]"},
		"denied_one_lapses": {list(mine(is(state.RequestDenied))), nil, 2 * time.Hour, "[]"},
	} {
		t.Run(name, func(t *testing.T) {
			var kinds []state.RequestEventKind
			for _, ev := range diff(tc.prev, tc.next, start, start.Add(tc.after), false) {
				kinds = append(kinds, ev.Kind)
			}
			if got := fmt.Sprint(kinds); got != tc.want {
				t.Errorf("events %s, want %s", got, tc.want)
			}
		})
	}
}

func TestFind(t *testing.T) {
	list := []state.Request{{ID: "aa11"}, {ID: "aa12", Roles: []string{"dba"}, User: "bob"}, {ID: "bb"}, {ID: "bbcc"}}
	for id, want := range map[string]string{"aa11": "aa11", "aa12": "aa12", "bb": "bb", "bbc": "bbcc", "BBC": "bbcc"} {
		if r, err := Find(list, id); err != nil || r.ID != want {
			t.Errorf("Find(%q) = %q, %v; want %q", id, r.ID, err, want)
		}
	}
	_, err := Find(list, "aa")
	many, ok := errors.AsType[*AmbiguousIDError](err)
	if !ok || len(many.Matches) != 2 || !strings.Contains(err.Error(), "aa12 (dba for bob)") {
		t.Errorf("Find(aa) = %v, want both listed", err)
	}
	for _, id := range []string{"zz", ""} {
		if _, err := Find(list, id); err == nil {
			t.Errorf("Find(%q) found something", id)
		} else if _, ok := errors.AsType[*UnknownIDError](err); !ok {
			t.Errorf("Find(%q) = %v", id, err)
		}
	}
}

func TestRules(t *testing.T) {
	rules := []AutoAssume{{Roles: []string{"dba"}, Tunnel: "prod-pg"}, {Roles: []string{"dba", "dev"}}}
	ready := func(roles ...string) state.Request { return state.Request{Assumable: true, Roles: roles} }
	for name, tc := range map[string]struct {
		req  state.Request
		want string
		ok   bool
	}{
		"first_rule":  {ready("dba"), "prod-pg", true},
		"second_rule": {ready("dba", "dev"), "", true},
		"more_roles":  {ready("dba", "admin"), "", false},
		"no_roles":    {ready(), "", false},
		"not_ready":   {state.Request{Roles: []string{"dba"}}, "", false},
		"resources":   {state.Request{Assumable: true, Roles: []string{"dba"}, Resources: []string{"/c/db/x"}}, "", false},
	} {
		if rule, ok := AutoAssumeFor(rules, tc.req); ok != tc.ok || rule.Tunnel != tc.want {
			t.Errorf("%s: %+v, %v", name, rule, ok)
		}
	}
	if diff := cmp.Diff([]bool{true, false, true, true, true, false, true}, []bool{
		Notify("").Wants(state.RequestEvent{Kind: state.RequestEventReviewAsked}),
		notifyMine.Wants(state.RequestEvent{Kind: state.RequestEventReviewAsked}),
		notifyMine.Wants(state.RequestEvent{Request: state.Request{Mine: true}}),
		notifyAll.Wants(state.RequestEvent{}),
		Notify("").WantsRequest(state.Request{Reviewable: true}), notifyMine.WantsRequest(state.Request{Reviewable: true}),
		notifyAll.WantsRequest(state.Request{}),
	}); diff != "" {
		t.Error(diff)
	}
}
