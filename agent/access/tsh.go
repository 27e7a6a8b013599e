package access

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/gravitational/teleport/api/types"

	"berth/agent/cluster"
)

// TSH is a source that asks tsh. It is for sessions whose key only tsh can
// use; it costs a process at each list and cannot watch.
type TSH struct {
	// Run runs tsh for the profile with args and returns its stdout.
	Run func(ctx context.Context, args ...string) ([]byte, error)
}

// Requests lists with "tsh request ls".
func (s TSH) Requests(ctx context.Context) ([]*types.AccessRequestV3, error) {
	ctx, cancel := context.WithTimeout(ctx, tshLimit)
	defer cancel()
	out, err := s.Run(ctx, "request", "ls", "--format=json")
	if err != nil {
		return nil, fmt.Errorf("list access requests: %w", err)
	}
	return parseList(out)
}

// WatchRequests returns errNoWatch.
func (TSH) WatchRequests(context.Context, func(cluster.RequestEvent)) error { return errNoWatch }

// parseList parses what "tsh request ls --format=json" prints: an array, or
// null when there are none.
func parseList(out []byte) ([]*types.AccessRequestV3, error) {
	var list []*types.AccessRequestV3
	if err := json.Unmarshal(out, &list); err != nil {
		return nil, fmt.Errorf("parse tsh's list of access requests: %w", err)
	}
	kept := make([]*types.AccessRequestV3, 0, len(list))
	for _, r := range list {
		if r != nil && r.GetName() != "" {
			kept = append(kept, r)
		}
	}
	return kept, nil
}
