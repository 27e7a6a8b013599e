package doctor

import (
	"context"
	"errors"
	"fmt"

	"berth/agent/tsh"
)

// tshFacts is the tsh that berth would run.
type tshFacts struct {
	path    string
	version tsh.Version
	unknown bool // which tsh the config names
	err     error
}

func (d *doctor) askTSH(ctx context.Context) tshFacts {
	conf, err := d.config.get(ctx)
	if err != nil {
		return tshFacts{err: err}
	}
	facts := tshFacts{unknown: conf.unknown}
	if facts.path, facts.err = tsh.Find(tsh.Options{ConfigPath: conf.cfg.TSHPath(), Env: d.Env}); facts.err == nil {
		ctx, cancel := context.WithTimeout(ctx, versionTime())
		defer cancel()
		facts.version, facts.err = tsh.ReadVersion(ctx, facts.path)
	}
	return facts
}

func (d *doctor) checkTSH(ctx context.Context) []Finding {
	facts, err := d.tshFacts.get(ctx)
	if err == nil {
		err = facts.err
	}
	missing, ok := errors.AsType[*tsh.NotFoundError](err)
	switch {
	case ok && facts.unknown:
		return skipUnknown("tsh", "where tsh is")
	case ok:
		return one("tsh", Fail, missing.Error()+": berth cannot log in without it", missing.Hint())
	case errors.Is(err, context.DeadlineExceeded):
		return one("tsh", Fail, fmt.Sprintf("%s does not say its version within %v", facts.path, versionTime()),
			"run it by hand: tsh version; if the computer is just busy, run berth doctor again")
	case err != nil:
		return one("tsh", Fail, err.Error(), "run it by hand to see what is wrong with it: tsh version")
	default:
		return one("tsh", OK, fmt.Sprintf("tsh %v: %s", facts.version, facts.path), "")
	}
}

// tooOld finds a tsh that a proxy no longer takes.
func (d *doctor) tooOld(ctx context.Context, proxy, least string) []Finding {
	want, err := tsh.ParseVersion(least)
	if err != nil {
		return nil // the cluster asks for nothing that can be understood
	}
	facts, err := d.tshFacts.get(ctx)
	if err != nil || facts.err != nil || facts.version.AtLeast(want) {
		return nil // another check reports what is wrong with tsh itself
	}
	return one("tsh_version", Fail, fmt.Sprintf("tsh %v is too old for %s, which wants %v or newer", facts.version, proxy, want), "update tsh")
}
