package requests

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"berth/agent/access"
	"berth/agent/cluster"
	"berth/agent/sessions"
	"berth/agent/state"
	"berth/agent/tunnel"
	"berth/certwatch"
	"berth/internal/shell"
)

// abilities knows what the users of sessions may ask for. The zero value knows of none.
type abilities struct {
	mu    sync.Mutex // guards known
	known map[certwatch.ProfileID]knownAbilities
}

// knownAbilities lists what a user may request, as of a moment.
type knownAbilities struct {
	at          time.Time
	fingerprint string
	able        cluster.RequestAbilities
}

// of returns what a session's user may request; the answer may be a while old.
func (a *abilities) of(ctx context.Context, f sessions.Session) (cluster.RequestAbilities, error) {
	const fresh = time.Minute
	key := f.Profile.ID()
	a.mu.Lock()
	known := a.known[key]
	a.mu.Unlock()
	if known.fingerprint == f.Profile.Session.Fingerprint && time.Since(known.at) < fresh {
		return known.able, nil
	}
	able, err := f.Cluster.RequestAbilities(ctx, nil)
	if err != nil {
		return able, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	maps.DeleteFunc(a.known, func(_ certwatch.ProfileID, k knownAbilities) bool { return time.Since(k.at) > fresh })
	if a.known == nil {
		a.known = make(map[certwatch.ProfileID]knownAbilities)
	}
	a.known[key] = knownAbilities{at: time.Now(), fingerprint: f.Profile.Session.Fingerprint, able: able}
	return able, nil
}

// command is the command that asks for what a tunnel was refused; empty means that
// the user may ask for nothing that could help.
func (a *abilities) command(ctx context.Context, f sessions.Session, spec state.TunnelSpec) string {
	if f.Cluster == nil || f.Profile.Session == nil {
		return ""
	}
	if id := f.Profile.Session.Identity; id.AllowedResourceIDs != "" {
		var reached state.Request
		if err := json.Unmarshal([]byte(id.AllowedResourceIDs), &reached.Resources); err == nil && !tunnel.Reaches(reached, spec) {
			return "berth request drop" // whatever the roles allow
		}
	}
	resource := resourceID(spec)
	if able, err := f.Cluster.RequestAbilities(ctx, []string{resource}); err == nil && len(able.ResourceRoles) > 0 {
		return shell.Quote("berth", "request", "create", "--resource", resource) + reasonFlag(able)
	}
	able, err := a.of(ctx, f)
	if err != nil || len(able.Roles) == 0 {
		return ""
	}
	cmd := shell.Quote("berth", "request", "create", "--role", access.Clean(able.Roles[0], 100)) + reasonFlag(able)
	if len(able.Roles) > 1 {
		cmd += " (you may ask for: " + access.Clean(strings.Join(able.Roles, ", "), 300) + ")"
	}
	return cmd
}

func reasonFlag(able cluster.RequestAbilities) string {
	if able.RequireReason {
		return " --reason '…'"
	}
	return ""
}

// resourceID returns the id of a tunnel's resource, in the form that requests use.
func resourceID(spec state.TunnelSpec) string {
	return fmt.Sprintf("/%s/%s/%s", spec.Cluster, spec.Kind.Info().ResourceKind, spec.Resource)
}
