package config

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"berth/agent/state"
)

// Access says what berth does about access requests unasked.
type Access struct {
	// AutoAssume are the requests to assume as soon as they are approved.
	AutoAssume []autoAssume `json:"auto_assume,omitempty"`
	// Notify says which requests get notices; empty means notifyReviewable.
	Notify notify `json:"notify,omitempty" jsonschema:"enum=mine,enum=reviewable,enum=all,default=reviewable"`
	// OnDrop says what becomes of connections that were opened with roles that
	// are dropped; empty means onDropKeep.
	OnDrop onDrop `json:"on_drop,omitempty" jsonschema:"enum=keep,enum=close,default=keep"`
	// Sensitive are the roles, as patterns, whose approval needs a
	// confirmation; see IsSensitive.
	Sensitive []string `json:"sensitive,omitempty" jsonschema:"example=admin,example=prod-*"`
	// Hooks run on the events that get notices.
	Hooks []hook `json:"hooks,omitempty"`
}

// IsSensitive reports whether approving these roles takes one more question.
func (a Access) IsSensitive(roles []string) bool {
	return slices.ContainsFunc(roles, func(role string) bool {
		return slices.ContainsFunc(a.Sensitive, func(pattern string) bool {
			match, err := path.Match(pattern, role)
			return match || err != nil && pattern == role
		})
	})
}

// autoAssume is a rule for requests whose roles are all among Roles.
type autoAssume struct {
	Roles  []string `json:"roles" jsonschema:"required,minItems=1"`
	Tunnel string   `json:"tunnel,omitempty" jsonschema:"example=prod-pg"` // empty means the session
}

// hook is a program that is run for events of access requests.
type hook struct {
	On      []state.RequestEventKind `json:"on,omitempty"` // empty means every one
	Run     []string                 `json:"run" jsonschema:"required,minItems=1"`
	Timeout state.Duration           `json:"timeout,omitzero" jsonschema:"default=30s"` // zero means defaultHookTimeout
}

// notify says which requests get notices.
type notify string

// The choices of notify.
const (
	notifyMine       notify = "mine"
	notifyReviewable notify = "reviewable"
	notifyAll        notify = "all"
)

// onDrop says what happens to connections whose roles are dropped.
type onDrop string

// What may become of them.
const (
	onDropKeep  onDrop = "keep"
	OnDropClose onDrop = "close"
)

// The bounds of a hook's time limit.
const (
	defaultHookTimeout = 30 * time.Second
	minHookTimeout     = time.Second
	maxHookTimeout     = 10 * time.Minute
)

// hookEvents are the events a hook may name.
var hookEvents = []state.RequestEventKind{
	state.RequestEventCreated, state.RequestEventReviewAsked, state.RequestEventReviewed, state.RequestEventApproved,
	state.RequestEventDenied, state.RequestEventPromoted, state.RequestEventAssumable, state.RequestEventAssumed,
	state.RequestEventDropped, state.RequestEventEndsSoon, state.RequestEventExpired, state.RequestEventDeleted,
}

// plain is a with what is left out filled in.
func (a Access) plain() Access {
	a.Notify, a.OnDrop = cmp.Or(a.Notify, notifyReviewable), cmp.Or(a.OnDrop, onDropKeep)
	a.Hooks = slices.Clone(a.Hooks)
	for i := range a.Hooks {
		a.Hooks[i].Timeout = cmp.Or(a.Hooks[i].Timeout, state.Duration(defaultHookTimeout))
	}
	return a
}

// strays are the places of the rules that name a tunnel which c does not have: one
// that the policy ships, or none.
func (c *Config) strays() []int {
	var list []int
	for i, rule := range c.Access.AutoAssume {
		has := func(t state.TunnelSpec) bool { return t.Name == rule.Tunnel }
		if rule.Tunnel != "" && !slices.ContainsFunc(c.Tunnels, has) {
			list = append(list, i)
		}
	}
	return list
}

// checkHooks refuses what the schema cannot: events that never happen, hooks without
// a program.
func checkHooks(hooks *value, ms *mistakes) {
	if hooks == nil {
		return
	}
	for i, hook := range hooks.list {
		path := fmt.Sprintf("access.hooks[%d]", i)
		checkCommand(hook.get("run"), path+".run", ms)
		checkDuration(hook.get("timeout"), path+".timeout", minHookTimeout, maxHookTimeout, ms)
		on := hook.get("on")
		if on == nil {
			continue
		}
		for n, ev := range on.list {
			if s, ok := ev.str(); ok && !slices.Contains(hookEvents, state.RequestEventKind(s)) {
				names := make([]string, len(hookEvents))
				for i, e := range hookEvents {
					names[i] = string(e)
				}
				mark(ev, fmt.Sprintf("%s.on[%d]", path, n), ms, "%s never happens: use one of %s", quote(s), strings.Join(names, ", "))
			}
		}
	}
}
