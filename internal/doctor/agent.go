package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"

	"github.com/gofrs/flock"

	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/internal/osservice"
)

// agentFacts is the running agent's answer.
type agentFacts struct {
	info     state.Agent
	snapshot state.Snapshot
	err      error // why it says nothing
}

func (d *doctor) askAgent(ctx context.Context) agentFacts {
	ctx, cancel := context.WithTimeout(ctx, Limits.Agent)
	defer cancel()
	// The same care that every command takes: the socket's folder must be ours.
	if err := d.Paths.CheckSocketDir(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return agentFacts{err: err}
	}
	c := client.Dial(d.Paths.Socket)
	defer func() { _ = c.Close() }() // nothing is to be sent any more
	var facts agentFacts
	if facts.info, facts.err = c.Info(ctx); facts.err == nil {
		facts.snapshot, facts.err = c.Snapshot(ctx)
	}
	return facts
}

// snapshot is the agent's, and false when there is none.
func (d *doctor) snapshot(ctx context.Context) (state.Snapshot, bool) {
	facts, err := d.agent.get(ctx)
	return facts.snapshot, err == nil && facts.err == nil
}

func (d *doctor) checkAgent(ctx context.Context) []Finding {
	facts, err := d.agent.get(ctx)
	if err == nil {
		err = facts.err
	}
	switch {
	case errors.Is(err, client.ErrNotRunning):
		found := one("agent", Fail, "the agent is not running, so no tunnel is open", `"berth agent install" has it run always, "berth agent run" in a terminal`)
		return append(found, d.leftBehind()...)
	case errors.Is(err, context.DeadlineExceeded) || isTimeout(err):
		return one("agent", Fail, fmt.Sprintf("the agent runs, but does not answer within %v", Limits.Agent), "berth agent restart")
	case err != nil:
		return one("agent", Fail, "the agent cannot be asked: "+err.Error(), "berth agent restart")
	}
	found := one("agent", OK, fmt.Sprintf("berth %s runs (pid %d)", facts.info.Version, facts.info.PID), "")
	if facts.info.Version != d.Version {
		found = one("agent_version", Warn, fmt.Sprintf("the agent that runs is berth %s, this program is berth %s", facts.info.Version, d.Version),
			"berth agent restart")
	}
	if facts.info.ConfigPath != "" && facts.info.ConfigPath != d.Paths.Config {
		found = append(found, one("agent", Warn, fmt.Sprintf("the agent reads %s, not %s", facts.info.ConfigPath, d.Paths.Config),
			"start both with the same environment")...)
	}
	for _, p := range facts.snapshot.Problems {
		if !coveredElsewhere(p.Code) {
			found = append(found, one("agent_problem", Warn, p.Title+": "+p.Text, p.Action)...)
		}
	}
	return found
}

func isTimeout(err error) bool {
	known, ok := errors.AsType[*client.Error](err)
	return ok && known.Code == "timeout"
}

// coveredElsewhere reports whether another check finds the problem by itself.
func coveredElsewhere(code state.Code) bool {
	switch code {
	case state.CodeConfigInvalid, state.CodeHomeUnreadable, state.CodeProfileBroken, state.CodeProxyUnreachable,
		state.CodeProxyUntrusted, state.CodeLoginNeeded, state.CodePortInUse, state.CodeKubeconfig,
		state.CodePolicyBroken, state.CodePolicyOverrules:
		return true
	default:
		return false
	}
}

// leftBehind finds what an agent that was killed has left.
func (d *doctor) leftBehind() []Finding {
	if runtime.GOOS == "windows" {
		return nil // pipes go with their process
	}
	var left []string
	for _, path := range []string{d.Paths.Socket, d.Paths.LockPID()} {
		if _, err := os.Lstat(path); err == nil {
			left = append(left, path)
		}
	}
	if len(left) == 0 {
		return nil
	}
	return []Finding{{
		Check: "stale_state", Status: Warn, Text: fmt.Sprintf("an agent that did not end by itself has left %q behind", left),
		Fix: `it does no harm; "berth doctor --fix" takes it away`,
		repair: func(context.Context) (string, error) {
			return d.removeLeft(left)
		},
	}}
}

// removeLeft removes what was left, while holding the lock that a running
// agent would hold.
func (d *doctor) removeLeft(left []string) (string, error) {
	lock := flock.New(d.Paths.Lock, flock.SetPermissions(0o600))
	free, err := lock.TryLock()
	if err != nil {
		return "", fmt.Errorf("lock out agents: %w", err)
	}
	if !free {
		return "", errors.New("an agent is running after all")
	}
	defer func() { _ = lock.Unlock() }()
	for _, path := range left {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	return fmt.Sprintf("removed %q", left), nil
}

func (d *doctor) checkService(ctx context.Context) []Finding {
	if d.Service == nil {
		return []Finding{} // none, where nil is a check without an end
	}
	st, err := d.Service(ctx)
	none, unreachable := errors.AsType[*osservice.NoManagerError](err)
	switch {
	case unreachable:
		return one("service", Warn, none.Error(), `run the agent by hand: "berth agent run"`)
	case err != nil:
		return one("service", Fail, err.Error(), "berth agent status")
	case !st.Installed:
		return one("service", Warn, "the agent is not installed, so it does not start when you log in", "berth agent install")
	case st.ProgramMissing:
		return one("service", Fail, fmt.Sprintf("the service starts %s, which is not there any more", st.Program), "berth agent install")
	case !st.Enabled:
		return one("service", Warn, "the agent is installed, and does not start when you log in", "berth agent install")
	case st.Trouble != "":
		return one("service", Fail, st.Trouble, `see "berth agent logs"`)
	case st.Kind.Supervises() && !st.Running:
		return one("service", Warn, "the service is installed, and does not run", "berth agent start")
	default:
		return one("service", OK, fmt.Sprintf("%s starts the agent when you log in", st.Kind), "")
	}
}
