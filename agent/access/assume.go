package access

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/gravitational/teleport/api/types"

	"berth/agent/cluster"
	"berth/internal/when"
)

const (
	// tshLimit bounds a run of tsh: a login with a pending request would
	// wait for ever.
	tshLimit = 20 * time.Second
	// endTolerance is by how much a session may end earlier without a word:
	// certs are issued to the second, and clocks differ.
	endTolerance = 30 * time.Second
)

// connection is the part of [cluster.Cluster] that assuming uses.
type connection interface {
	Request(ctx context.Context, id string) (*types.AccessRequestV3, error)
	Reissue(ctx context.Context, r cluster.Reissue) (*cluster.SessionCerts, error)
}

// Changer takes and gives up the roles of requests for a whole session.
type Changer struct {
	// Cluster reissues certs; nil means that only tsh can.
	Cluster connection
	// Install puts reissued certs into the session's home; nil means that
	// only tsh can.
	Install func(ctx context.Context, certs *cluster.SessionCerts) error
	// TSH runs tsh for the session's profile; nil means there is none.
	TSH func(ctx context.Context, args ...string) ([]byte, error)
	// SessionEnd is when the session ends now.
	SessionEnd time.Time
	// Tunnels are those that would lose their access, for the session would
	// reach Resources alone.
	Tunnels, Resources []string
}

// cost describes the loss of session time if the new session ends at end; nil means none.
func (c Changer) cost(id string, end time.Time) error {
	e := &CostError{ID: id, Now: c.SessionEnd, New: c.SessionEnd, Tunnels: c.Tunnels, Resources: c.Resources}
	if end.Add(endTolerance).Before(c.SessionEnd) {
		e.New = end
	}
	if e.New.Equal(e.Now) && len(e.Tunnels) == 0 {
		return nil
	}
	return e
}

// CostError says what a session would lose by assuming a request: time, or
// what tunnels lead to. Nothing has been changed.
type CostError struct {
	ID string
	// Now and New are the session's ends; equal when it would end as it does.
	Now, New time.Time
	// Tunnels would lose their access, for the session would reach Resources
	// alone.
	Tunnels, Resources []string
}

// maxTunnels is how many tunnels a CostError names.
const maxTunnels = 5

func (e *CostError) Error() string {
	var costs []string
	if e.New.Before(e.Now) {
		now := time.Now() // days are named as seen from whoever reads this
		costs = append(costs, fmt.Sprintf("ends at %s instead of %s", when.Clock(e.New, now), when.Clock(e.Now, now)))
	}
	if n := len(e.Tunnels); n > 0 {
		which := strings.Join(e.Tunnels[:min(n, maxTunnels)], ", ")
		if n > maxTunnels {
			which += fmt.Sprintf(" and %d more", n-maxTunnels)
		}
		costs = append(costs, fmt.Sprintf("reaches %s alone until it is dropped, which leaves these tunnels without access: %s",
			strings.Join(e.Resources, ", "), which))
	}
	return fmt.Sprintf("with access request %s the session %s", e.ID, strings.Join(costs, " and "))
}

// errNoWay says that neither the api nor tsh can change the session's certs.
var errNoWay = errors.New("neither berth nor tsh can change the certs of this session")

// Check asks the server whether a request can be assumed at this moment; the
// errors are those of cluster.Reissue.
func Check(ctx context.Context, c connection, id string, now time.Time) (*types.AccessRequestV3, error) {
	req, err := c.Request(ctx, id)
	if err != nil {
		return nil, err
	}
	refuse := func(why, format string, args ...any) error {
		return &cluster.NotAssumableError{Why: why, Err: fmt.Errorf("access request %s "+format, append([]any{id}, args...)...)}
	}
	switch s := req.GetState(); {
	case s.IsDenied() && req.GetResolveReason() != "":
		return nil, refuse("denied", "was denied: %s", Clean(req.GetResolveReason(), maxReason))
	case s.IsDenied():
		return nil, refuse("denied", "was denied")
	case s.IsPromoted():
		return nil, refuse("promoted", "was answered with a membership in the access list %q: log in again to have its roles", CleanName(req.GetPromotedAccessListTitle()))
	case !s.IsApproved():
		return nil, refuse("pending", "is not approved yet: %s", progressOf(req))
	}
	if at := req.GetAssumeStartTime(); at != nil && now.Before(*at) {
		return nil, refuse("early", "cannot be assumed before %s", when.Format(*at, "Mon 2 Jan 15:04"))
	}
	if at := req.GetAccessExpiry(); !at.IsZero() && !now.Before(at) {
		return nil, refuse("expired", "expired at %s", when.Format(at, "15:04"))
	}
	return req, nil
}

// Assume takes the roles of a request for the whole session. Unless accepted,
// it returns CostError where that costs something.
func (c Changer) Assume(ctx context.Context, id string, acceptCost bool) (end time.Time, err error) {
	var req *types.AccessRequestV3
	if c.Cluster != nil {
		if req, err = Check(ctx, c.Cluster, id, time.Now()); err != nil {
			return end, err
		}
	}
	if c.Cluster != nil && c.Install != nil {
		return c.reissue(ctx, id, cluster.Reissue{Assume: []string{id}}, acceptCost)
	}
	if !acceptCost {
		at := c.SessionEnd
		if req != nil {
			at = *cmp.Or(instant(req.GetSessionTLL()), &at)
		}
		if err := c.cost(id, at); err != nil {
			return end, err
		}
	}
	return end, c.tsh(ctx, "login", "--request-id="+id)
}

// Drop gives up the roles of requests, or of all when none is named.
func (c Changer) Drop(ctx context.Context, ids ...string) error {
	drop := ids
	if len(drop) == 0 {
		drop = []string{"*"}
	}
	if c.Cluster != nil && c.Install != nil {
		_, err := c.reissue(ctx, strings.Join(ids, ", "), cluster.Reissue{Drop: drop}, true)
		return err
	}
	return c.tsh(ctx, append([]string{"request", "drop"}, ids...)...)
}

func (c Changer) reissue(ctx context.Context, id string, r cluster.Reissue, acceptCost bool) (time.Time, error) {
	certs, err := c.Cluster.Reissue(ctx, r)
	if err != nil {
		return time.Time{}, err
	}
	if !acceptCost {
		if err := c.cost(id, certs.ValidUntil); err != nil {
			return time.Time{}, err
		}
	}
	if err := c.Install(ctx, certs); err != nil {
		return time.Time{}, fmt.Errorf("install the new certs: %w", err)
	}
	return certs.ValidUntil, nil
}

func (c Changer) tsh(ctx context.Context, args ...string) error {
	if c.TSH == nil {
		return errNoWay
	}
	ctx, cancel := context.WithTimeout(ctx, tshLimit)
	defer cancel()
	_, err := c.TSH(ctx, args...)
	return err
}
