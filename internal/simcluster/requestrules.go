package simcluster

import (
	"path"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/gravitational/teleport/api/types"
	"github.com/gravitational/trace"
)

// Limits of access requests, as Teleport sets them.
const (
	maxRequestReason    = 4096
	maxAccessDuration   = 14 * 24 * time.Hour
	pendingRequestTTL   = time.Hour
	maxReviewThresholds = 4096
)

// matchesRole reports whether one of the patterns names the role.
func matchesRole(patterns []string, role string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, err := path.Match(p, role) // role names hold no slash
		return err == nil && ok
	})
}

// ownRoles returns the roles a user has without any request: these alone decide
// what the user may request and review.
func (c *Cluster) ownRoles(user string) []Role {
	u, ok := c.user(user)
	if !ok {
		return nil
	}
	return c.userRoles(u.Roles)
}

// hasVerbs reports whether one of a user's roles has a rule with all those
// verbs for access requests.
func (c *Cluster) hasVerbs(roles []string, verbs ...string) bool {
	return slices.ContainsFunc(c.userRoles(roles), func(r Role) bool {
		return !slices.ContainsFunc(verbs, func(v string) bool { return !slices.Contains(r.RequestVerbs, v) })
	})
}

func errNoVerb(verb string) error {
	return trace.AccessDenied("access denied to perform action %q on %q", verb, types.KindAccessRequest)
}

func (c *Cluster) mayRequest(user, role string) bool {
	return slices.ContainsFunc(c.ownRoles(user), func(r Role) bool { return matchesRole(r.Request.Roles, role) })
}

func (c *Cluster) searchAsRoles(user string) []string {
	var roles []string
	for _, r := range c.ownRoles(user) {
		for _, name := range r.Request.SearchAsRoles {
			roles = appendNew(roles, name)
		}
	}
	return roles
}

// requestableRoles returns the existing roles that a user may ask for and has
// not.
func (c *Cluster) requestableRoles(user string) []string {
	u, _ := c.user(user)
	c.mu.Lock()
	var names []string
	for name := range c.roles {
		names = append(names, name)
	}
	c.mu.Unlock()
	names = slices.DeleteFunc(names, func(n string) bool { return slices.Contains(u.Roles, n) || !c.mayRequest(user, n) })
	slices.Sort(names)
	return names
}

// prepareRequest checks a new request and fills in what the server decides:
// roles, thresholds, reviewers and times. sessionEnd is the caller's.
func (c *Cluster) prepareRequest(req *types.AccessRequestV3, sessionEnd time.Time) error {
	if len(req.GetRequestReason()) > maxRequestReason {
		return trace.BadParameter("access request reason is too long, max %v bytes", maxRequestReason)
	}
	if req.GetRequestReason() == "" && slices.ContainsFunc(c.ownRoles(req.GetUser()), func(r Role) bool { return r.Request.RequireReason }) {
		return trace.BadParameter("request reason must be specified (required by static role configuration)")
	}
	if err := c.requestRoles(req); err != nil {
		return err
	}
	c.requestThresholds(req)
	if len(req.GetThresholds()) > maxReviewThresholds {
		return trace.LimitExceeded("max review thresholds exceeded (max=%d)", maxReviewThresholds)
	}
	if len(req.GetSuggestedReviewers()) == 0 {
		var reviewers []string
		for _, r := range c.ownRoles(req.GetUser()) {
			for _, name := range r.Request.SuggestedReviewers {
				reviewers = appendNew(reviewers, name)
			}
		}
		req.SetSuggestedReviewers(reviewers)
	}
	return c.requestTimes(req, sessionEnd)
}

// requestRoles checks the roles asked for, or finds those a request for
// resources needs.
func (c *Cluster) requestRoles(req *types.AccessRequestV3) error {
	user := req.GetUser()
	if roles := req.GetRoles(); len(roles) == 1 && roles[0] == types.Wildcard {
		if roles = c.requestableRoles(user); len(roles) == 0 {
			return trace.BadParameter("no requestable roles, please verify static RBAC configuration")
		}
		req.SetRoles(roles)
	}
	if len(req.GetRequestedResourceIDs()) > 0 {
		search := c.searchAsRoles(user)
		if len(search) == 0 {
			return trace.AccessDenied("Resource Access Requests require usable \"search_as_roles\", none found for user %q", user)
		}
		if len(req.GetRoles()) == 0 {
			req.SetRoles(search)
		}
		for _, role := range req.GetRoles() {
			if !slices.Contains(search, role) {
				return trace.BadParameter("user %q can not request role %q", user, role)
			}
		}
		return nil
	}
	for _, role := range req.GetRoles() {
		if !c.mayRequest(user, role) {
			return trace.BadParameter("user %q can not request role %q", user, role)
		}
		if len(c.userRoles([]string{role})) == 0 {
			return trace.NotFound("role %s is not found", role)
		}
	}
	return nil
}

// requestThresholds gives a request the thresholds of the rules that allow
// it: of each rule, one has to be met for the role.
func (c *Cluster) requestThresholds(req *types.AccessRequestV3) {
	var all []types.AccessReviewThreshold
	index := func(t types.AccessReviewThreshold) uint32 {
		for i, have := range all {
			if reflect.DeepEqual(t, have) {
				return uint32(i)
			}
		}
		all = append(all, t)
		return uint32(len(all) - 1)
	}
	mapping := make(map[string]types.ThresholdIndexSets)
	for _, role := range req.GetRoles() {
		var sets []types.ThresholdIndexSet
		for _, r := range c.ownRoles(req.GetUser()) {
			if !matchesRole(r.Request.Roles, role) && !slices.Contains(r.Request.SearchAsRoles, role) {
				continue
			}
			var set types.ThresholdIndexSet
			for _, t := range r.Request.Thresholds {
				set.Indexes = append(set.Indexes, index(t))
			}
			if len(set.Indexes) == 0 {
				set.Indexes = []uint32{index(types.AccessReviewThreshold{Name: "default", Approve: 1, Deny: 1})}
			}
			sets = append(sets, set)
		}
		if len(sets) == 0 { // put there by a test, whoever may ask for what
			sets = []types.ThresholdIndexSet{{Indexes: []uint32{index(types.AccessReviewThreshold{Name: "default", Approve: 1, Deny: 1})}}}
		}
		mapping[role] = types.ThresholdIndexSets{Sets: sets}
	}
	req.SetThresholds(all)
	req.SetRoleThresholdMapping(mapping)
}

// requestTimes decides when the request lapses and when the access ends.
func (c *Cluster) requestTimes(req *types.AccessRequestV3, sessionEnd time.Time) error {
	now := c.now().UTC()
	limit := sessionEnd.Sub(now)
	for _, r := range c.userRoles(req.GetRoles()) {
		if r.MaxSessionTTL > 0 {
			limit = min(limit, r.MaxSessionTTL)
		}
	}
	ttl := min(pendingRequestTTL, limit)
	if want := req.Expiry(); !want.IsZero() {
		if want.Before(now) {
			return trace.BadParameter("invalid request TTL: Access Request can not be created in the past")
		}
		if ttl = want.Sub(now); ttl > limit {
			return trace.BadParameter("invalid request TTL: %v greater than maximum allowed (%v)", ttl.Round(time.Minute), limit.Round(time.Minute))
		}
	}
	session := limit
	if want := req.GetAccessExpiry(); !want.IsZero() {
		if session = want.Sub(now); session > limit {
			return trace.BadParameter("invalid session TTL: %v greater than maximum allowed (%v)", session.Round(time.Minute), limit.Round(time.Minute))
		}
	}
	access := session
	if until := req.GetMaxDuration(); !until.IsZero() {
		longest := until.Sub(req.GetCreationTime())
		switch {
		case req.GetDryRun():
			longest = maxAccessDuration
		case longest < 0:
			return trace.BadParameter("invalid maxDuration: must be greater than creation time")
		case longest > maxAccessDuration:
			return trace.BadParameter("max_duration must be less than or equal to %v", maxAccessDuration)
		}
		if longest = min(longest, c.longestAccess(req)); longest > 0 {
			access = longest
			session = min(session, longest)
		}
	}
	req.SetExpiry(now.Add(ttl))
	req.SetSessionTLL(now.Add(session))
	req.SetAccessExpiry(now.Add(access))
	req.SetMaxDuration(now.Add(access))
	if at := req.GetAssumeStartTime(); at != nil {
		return types.ValidateAssumeStartTime(*at, req.GetAccessExpiry(), req.GetCreationTime())
	}
	return nil
}

// longestAccess is the least over the roles of the most that a rule gives.
func (c *Cluster) longestAccess(req *types.AccessRequestV3) time.Duration {
	longest := maxAccessDuration
	for _, role := range req.GetRoles() {
		var most time.Duration
		for _, r := range c.ownRoles(req.GetUser()) {
			if matchesRole(r.Request.Roles, role) || slices.Contains(r.Request.SearchAsRoles, role) {
				most = max(most, r.Request.MaxDuration)
			}
		}
		longest = min(longest, most)
	}
	return longest
}

// mayReview reports whether a user may review a request; not their own.
func (c *Cluster) mayReview(user string, req *types.AccessRequestV3) bool {
	if user == req.GetUser() {
		return false
	}
	need := slices.Clone(req.GetOriginalRoles())
	for _, r := range c.ownRoles(user) {
		need = slices.DeleteFunc(need, func(role string) bool { return matchesRole(r.Review, role) })
	}
	return len(need) == 0
}

func (c *Cluster) reviews(user string) bool {
	return slices.ContainsFunc(c.ownRoles(user), func(r Role) bool { return len(r.Review) > 0 })
}

// reviewCondition evaluates a threshold's filter. What cannot be parsed holds
// for no review.
func (c *Cluster) reviewCondition(expr, user string, req *types.AccessRequestV3, rev types.AccessReview) bool {
	if strings.TrimSpace(expr) == "" {
		return true
	}
	u, _ := c.user(user)
	ok, err := evalPredicate(expr, map[string]any{
		"reviewer.roles":  u.Roles,
		"request.roles":   req.GetOriginalRoles(),
		"request.reason":  req.GetRequestReason(),
		"review.reason":   rev.Reason,
		"reviewer.traits": map[string][]string{"logins": u.Logins},
	})
	return err == nil && ok
}
