package agent

import (
	"fmt"
	"strings"

	"berth/agent/config"
	"berth/agent/state"
	"berth/certwatch"
)

// allowedView is the view without the profiles of proxies that the policy does not
// allow, and these: their sessions are as good as none.
func allowedView(view *certwatch.View, policy *config.Policy) (*certwatch.View, []*certwatch.Profile) {
	allowed := *view
	allowed.Profiles = nil
	var forbidden []*certwatch.Profile
	for _, p := range view.Profiles {
		if policy.AllowsProxy(p.ProxyAddr) == nil {
			allowed.Profiles = append(allowed.Profiles, p)
		} else {
			forbidden = append(forbidden, p)
		}
	}
	return &allowed, forbidden
}

func policyState(p *config.Policy) *state.Policy {
	if p == nil {
		return nil
	}
	return &state.Policy{
		Path: p.Path, Banner: p.Banner(), Forbids: append([]string{}, p.Forbids()...), Included: append([]string{}, p.Included()...),
	}
}

// policyProblems are what is wrong with the policy, and what it leaves without
// effect: in the config, and the profiles that it forbids.
func policyProblems(loaded *config.Loaded, forbidden []*certwatch.Profile) []state.Problem {
	policy := loaded.Config.Policy
	if policy == nil {
		return nil
	}
	var list []state.Problem
	if policy.Err != nil {
		list = append(list, state.Problem{
			Code: state.CodePolicyBroken, Title: "Policy has mistakes",
			Text: fmt.Sprintf("Until they are mended its rules hold at their strictest: %v.",
				strings.TrimSuffix(oneLine(policy.Err), ".")),
			Action: policy.Hint(),
		})
	}
	for _, m := range loaded.Overruled {
		list = append(list, state.Problem{
			Code: state.CodePolicyOverrules, Title: state.OverruledTitle(m.Tunnel),
			Text: fmt.Sprintf("%s: %s.", m.Path, m.Text), Action: "berth config check",
		})
	}
	for _, p := range forbidden {
		if err := policy.AllowsProxy(p.ProxyAddr); err != nil && p.Session != nil {
			list = append(list, state.Problem{
				Code: state.CodeProxyForbidden, Title: "Proxy not allowed",
				Text: fmt.Sprintf("The session of %s is not used: %v.", p.Name, err), Action: policy.Hint(),
			})
		}
	}
	return list
}
