package access

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/gravitational/teleport/api/types"
)

// progress is how far a request is from being approved, as the auth service
// counts: of each rule that allows a role, one threshold has to be reached,
// and a review counts for those thresholds whose filter it meets.
type progress struct {
	Approvals int // those that count for the rule that is furthest from its end
	Needed    int // what that rule needs; zero means that no review can approve
	Denials   int // reviews against it
	// Missing names the thresholds that still have to be reached, one for
	// each rule: the nearest. The unnamed and the default ones are left out.
	Missing []string
	Done    bool // every rule is satisfied
}

// String is the progress in words, "1 of 2 approvals, needs security".
func (p progress) String() string {
	if p.Needed == 0 && !p.Done {
		return "no review can approve it"
	}
	s := fmt.Sprintf("%d of %d approvals", p.Approvals, p.Needed)
	if p.Needed == 1 {
		s = fmt.Sprintf("%d of 1 approval", p.Approvals)
	}
	if len(p.Missing) > 0 {
		s += ", needs " + strings.Join(p.Missing, " and ")
	}
	if p.Denials > 0 {
		s += fmt.Sprintf(", %d against", p.Denials)
	}
	return s
}

// count is one threshold and what the reviews amount to.
type count struct {
	name         string
	have, needed int
}

func (c count) left() int { return max(0, c.needed-c.have) }

// progressOf counts the reviews of a request.
func progressOf(req types.AccessRequest) progress {
	counts := approvals(req)
	p := progress{Done: true}
	for _, rev := range req.GetReviews() {
		if rev.ProposedState.IsDenied() {
			p.Denials++
		}
	}
	furthest := count{}
	blocked := false
	for _, sets := range req.GetRoleThresholdMapping() {
		for _, set := range sets.Sets {
			near, ok := nearest(counts, set.Indexes)
			if !ok {
				blocked = true
				continue
			}
			if near.left() > 0 && near.name != "" && near.name != "default" && !slices.Contains(p.Missing, CleanName(near.name)) {
				p.Missing = append(p.Missing, CleanName(near.name))
			}
			if cmp.Or(cmp.Compare(near.left(), furthest.left()), cmp.Compare(near.needed, furthest.needed)) > 0 {
				furthest = near
			}
		}
	}
	slices.Sort(p.Missing)
	if blocked || furthest.needed == 0 {
		// A rule without a threshold to approve by, or a server that says
		// nothing of thresholds.
		return progress{Denials: p.Denials, Missing: p.Missing, Done: req.GetState().IsApproved()}
	}
	p.Approvals, p.Needed = min(furthest.have, furthest.needed), furthest.needed
	p.Done = furthest.left() == 0
	return p
}

// approvals counts the approvals that each threshold has.
func approvals(req types.AccessRequest) []count {
	thresholds := req.GetThresholds()
	counts := make([]count, len(thresholds))
	for i, t := range thresholds {
		counts[i] = count{name: t.Name, needed: int(t.Approve)}
	}
	for _, rev := range req.GetReviews() {
		if !rev.ProposedState.IsApproved() {
			continue
		}
		for _, i := range rev.ThresholdIndexes {
			if int(i) < len(counts) {
				counts[i].have++
			}
		}
	}
	return counts
}

// nearest returns the threshold of a set that needs the fewest approvals more;
// false means that none of them approves anything.
func nearest(counts []count, set []uint32) (count, bool) {
	var best count
	found := false
	for _, i := range set {
		if int(i) >= len(counts) || counts[i].needed == 0 {
			continue
		}
		if !found || counts[i].left() < best.left() {
			best, found = counts[i], true
		}
	}
	return best, found
}
