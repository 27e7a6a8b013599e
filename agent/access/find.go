package access

import (
	"fmt"
	"slices"
	"strings"

	"github.com/gravitational/teleport/api/types"

	"berth/agent/state"
)

// UnknownIDError says that no request has an id that begins so.
type UnknownIDError struct{ ID string }

func (e *UnknownIDError) Error() string {
	return fmt.Sprintf("no access request has an id that begins with %q", e.ID)
}

// AmbiguousIDError says that several requests have an id that begins so.
type AmbiguousIDError struct {
	ID      string
	Matches []state.Request
}

func (e *AmbiguousIDError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d access requests have an id that begins with %q:", len(e.Matches), e.ID)
	for i, r := range e.Matches {
		if i == maxMatches {
			fmt.Fprintf(&b, " and %d more", len(e.Matches)-maxMatches)
			break
		}
		fmt.Fprintf(&b, " %s (%s for %s)", r.ID, strings.Join(r.Roles, ", "), r.User)
	}
	return b.String()
}

// Reaches reports whether the access that a request gives leads to a resource,
// as far as the request says: one for roles may lead anywhere, one for
// resources leads to those alone.
func Reaches(r state.Request, cluster, kind, name string) bool {
	return len(r.Resources) == 0 || slices.ContainsFunc(r.Resources, func(s string) bool {
		id, err := types.ResourceIDFromString(s)
		if err != nil {
			return false
		}
		inside := kind == types.KindKubernetesCluster && slices.Contains(types.KubernetesResourcesKinds, id.Kind)
		return id.ClusterName == cluster && id.Name == CleanName(name) && (id.Kind == kind || inside)
	})
}

// maxMatches is how many requests an AmbiguousIDError lists.
const maxMatches = 8

// Find returns the request whose id is id or, alone, begins with it.
func Find(list []state.Request, id string) (state.Request, error) {
	if id == "" {
		return state.Request{}, &UnknownIDError{}
	}
	var matches []state.Request
	for _, r := range list {
		if r.ID == id {
			return r, nil
		}
		if strings.HasPrefix(r.ID, strings.ToLower(id)) {
			matches = append(matches, r)
		}
	}
	switch len(matches) {
	case 0:
		return state.Request{}, &UnknownIDError{ID: Clean(id, maxName)}
	case 1:
		return matches[0], nil
	default:
		return state.Request{}, &AmbiguousIDError{ID: id, Matches: slices.Clip(matches)}
	}
}
