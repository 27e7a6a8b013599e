package requests

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"time"

	"berth/agent/access"
	"berth/agent/cluster"
	"berth/agent/sessions"
	"berth/agent/state"
	"berth/agent/tunnel"
	"berth/certwatch"
	"berth/internal/shell"
)

// abilities is what a session's user may ask for, as of a while ago.
func (rs *Requests) abilities(ctx context.Context, f sessions.Session) (cluster.RequestAbilities, error) {
	const fresh = time.Minute
	key := f.Profile.ID()
	rs.mu.Lock()
	known := rs.able[key]
	rs.mu.Unlock()
	if known.fingerprint == f.Profile.Session.Fingerprint && time.Since(known.at) < fresh {
		return known.able, nil
	}
	able, err := f.Cluster.RequestAbilities(ctx, nil)
	if err != nil {
		return able, err
	}
	rs.mu.Lock()
	defer rs.mu.Unlock()
	maps.DeleteFunc(rs.able, func(_ certwatch.ProfileID, k knownAbilities) bool { return time.Since(k.at) > fresh })
	rs.able[key] = knownAbilities{at: time.Now(), fingerprint: f.Profile.Session.Fingerprint, able: able}
	return able, nil
}

// Command is the command that asks for what a tunnel was refused; empty
// means that the user may ask for nothing that could help.
func (rs *Requests) Command(ctx context.Context, f sessions.Session, spec state.TunnelSpec) string {
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
	able, err := rs.abilities(ctx, f)
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

// resourceID is what a tunnel leads to, as requests name it.
func resourceID(spec state.TunnelSpec) string {
	return fmt.Sprintf("/%s/%s/%s", spec.Cluster, spec.Kind.InResourceID(), spec.Resource)
}
