package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"berth/agent/config"
)

// maxMistakes is how many mistakes of the config are listed one by one.
const maxMistakes = 20

func (d *doctor) loadConfig() configFacts {
	facts := configFacts{policy: d.Policy.Load()}
	cfg, err := config.Load(d.Paths.Config)
	if err != nil || d.lost() != nil {
		cfg, facts.unknown = d.lastGood()
	}
	facts.cfg, _ = facts.policy.Bind(cfg)
	return facts
}

// lost is a *config.LostError if the file says nothing while a copy of it does.
func (d *doctor) lost() error { return config.CheckLost(d.Paths.Config, d.Paths.LastGoodConfig()) }

// lastGood is the config that an agent goes on with while the file has mistakes. It
// reports true where none is known, and returns the default one.
func (d *doctor) lastGood() (cfg *config.Config, unknown bool) {
	if _, err := os.Stat(d.Paths.LastGoodConfig()); err == nil {
		if cfg, err := config.Load(d.Paths.LastGoodConfig()); err == nil {
			return cfg, false
		}
	}
	return config.Default(), true
}

// skipUnknown is the finding of what cannot be looked at while no config is known.
func skipUnknown(check, what string) []Finding {
	return one(check, Skip, "the config cannot be used until its mistakes are corrected, so "+what+" is not known", "")
}

// checkPolicy says which policy binds this berth, and what it forbids.
func (d *doctor) checkPolicy(ctx context.Context) []Finding {
	facts, err := d.config.get(ctx)
	if err != nil {
		return nil // the check of the config says so
	}
	p := facts.policy
	switch {
	case p == nil:
		return one("policy", OK, "this machine has no policy for berth", "")
	case p.Err != nil:
		return one("policy", Fail, "the policy has mistakes, so its rules hold at their strictest: "+p.Err.Summary(), p.Hint())
	}
	text := p.Path + " forbids nothing"
	if forbids := p.Forbids(); len(forbids) > 0 {
		text = p.Path + " says " + strings.Join(forbids, ", ")
	}
	if n := p.Ships(); n > 0 {
		text += "; it ships " + count(n, "tunnel")
	}
	return one("policy", OK, text, "")
}

func (d *doctor) checkConfig(context.Context) []Finding {
	if lost, ok := errors.AsType[*config.LostError](d.lost()); ok {
		return one("config", Fail, lost.Error(), lost.NextStep())
	}
	warnings, err := config.Check(d.Paths.Config, d.Policy.Load())
	if err != nil {
		bad, ok := errors.AsType[*config.Error](err)
		if !ok {
			return one("config", Fail, err.Error(), "berth config edit")
		}
		return mistakes(Fail, bad.Mistakes)
	}
	if _, err := os.Stat(d.Paths.Config); errors.Is(err, fs.ErrNotExist) {
		return one("config", OK, "there is no config file yet: "+d.Paths.Config, "")
	}
	if len(warnings) > 0 {
		return mistakes(Warn, warnings)
	}
	return one("config", OK, d.Paths.Config+" has no mistakes", "")
}

func mistakes(status Status, list []config.Mistake) []Finding {
	var found []Finding
	for i, m := range list {
		if i == maxMistakes {
			return append(found, one("config", status, fmt.Sprintf("and %d more mistakes", len(list)-i), "berth config check")...)
		}
		found = append(found, one("config", status, "config "+m.String(), "berth config edit")...)
	}
	return found
}
