package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"berth/agent/ipc/client"
	"berth/internal/osservice"
	"berth/internal/plain"
	"berth/internal/when"
)

// serviceStatus is the JSON of "berth agent status".
type serviceStatus struct {
	// Manager is systemd, launchd, autostart or run_key.
	Manager        osservice.Kind `json:"manager"`
	Installed      bool           `json:"installed"`
	Enabled        bool           `json:"enabled"` // starts at the next login
	File           string         `json:"file"`
	Program        string         `json:"program"`
	ProgramMissing bool           `json:"program_missing"`
	// Lingers says whether it runs without a login; null where there is no such thing.
	Lingers *bool `json:"lingers"`
	// Trouble says what is wrong, and Action the next step; empty if nothing is.
	Trouble string `json:"trouble"`
	Action  string `json:"action"`
	// Agent is the running agent; null if none runs.
	Agent *agentStatus `json:"agent"`
}

type agentStatus struct {
	Version   string    `json:"version"`
	PID       int       `json:"pid"`
	StartedAt time.Time `json:"started_at"`
	// ByService says whether the service runs it: it is then restarted when it fails.
	ByService bool `json:"by_service"`
	// Outdated says that the program was replaced since it started.
	Outdated bool `json:"outdated"`
	// ReadyMS is how long it took from its start until its ports were bound,
	// in milliseconds; zero means unknown.
	ReadyMS float64 `json:"ready_ms"`
	// Metrics is where the config has it serve metrics; empty means nowhere.
	Metrics string `json:"metrics"`
}

func (a *app) agentStatusCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status [flags]",
		Short: "Show whether the agent runs, and what starts it",
		Long: `Say whether the agent is installed as a service, what starts it, and whether it
runs. The exit code is 3 if it does not run. The tunnels are in "berth status".`,
		Args: noArgs,
		RunE: a.serviceRun(func(ctx context.Context, s *agentService) error { return s.status(ctx, asJSON) }),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	return cmd
}

func (s *agentService) status(ctx context.Context, asJSON bool) error {
	st, err := s.serviceStatus(ctx)
	if err != nil {
		return err
	}
	if asJSON {
		err = s.app.printJSON(st)
	} else {
		err = s.printStatus(st)
	}
	if err == nil && st.Agent == nil {
		return fmt.Errorf("%w (%w)", client.ErrNotRunning, errSilent)
	}
	return err
}

// serviceStatus joins what the system says with what the agent says.
func (s *agentService) serviceStatus(ctx context.Context) (serviceStatus, error) {
	st, err := s.Status(ctx)
	if none, ok := errors.AsType[*osservice.NoManagerError](err); ok {
		st, err = osservice.Status{Kind: s.Kind(), Trouble: none.Error()}, nil // the agent may run by hand
	}
	if err != nil {
		return serviceStatus{}, err
	}
	out := serviceStatus{
		Manager: st.Kind, Installed: st.Installed, Enabled: st.Enabled, File: st.File, Program: st.Program,
		ProgramMissing: st.ProgramMissing, Trouble: st.Trouble,
	}
	if st.CanLinger {
		out.Lingers = &st.Lingers
	}
	agent, runs, err := s.running(ctx)
	if err != nil {
		out.Trouble, out.Action = "the agent does not answer: "+err.Error(), "berth agent restart"
	}
	if runs {
		out.Agent = &agentStatus{
			Version: agent.Version, PID: agent.PID, StartedAt: agent.StartedAt,
			ByService: s.ours(st, agent), Outdated: outdated(agent, s.cfg.Program), Metrics: s.metricsAt(),
		}
		if out.Agent.ByService {
			out.Agent.ReadyMS = float64(st.ReadyAfter.Microseconds()) / 1000
		}
	}
	if !ofDemo(s.paths) {
		out.judge()
	}
	return out, nil
}

// metricsAt is where the config has the agent serve metrics. What keeps it from that is
// a problem of its own in "berth status".
func (s *agentService) metricsAt() string {
	cfg, err := s.app.loadConfig(s.paths)
	if err != nil || !cfg.Metrics.On() {
		return ""
	}
	tcp, socket := cfg.Metrics.Address()
	return cmp.Or(tcp, socket, s.paths.MetricsSocket())
}

// judge says what is wrong and what to do, the worst first.
func (st *serviceStatus) judge() {
	set := func(trouble, action string) {
		if st.Trouble == "" {
			st.Trouble = trouble
		}
		if st.Action == "" {
			st.Action = action
		}
	}
	supervised := st.Manager.Supervises()
	switch {
	case st.Installed && st.ProgramMissing:
		st.Trouble = "the service starts " + st.Program + ", which is gone"
		set("", "berth agent install")
	case st.Trouble != "" && st.Installed:
		set("", "berth agent logs")
	case st.Trouble != "" && st.Agent == nil:
		set("", "berth agent run")
	case st.Agent != nil && st.Installed && supervised && !st.Agent.ByService:
		set("the agent that runs is not the service's", "berth agent restart")
	case st.Agent != nil && st.Agent.Outdated:
		set("the program was replaced since the agent started", "berth agent restart")
	case st.Installed && !st.Enabled:
		set("it does not start at login", "berth agent install")
	case st.Agent == nil && st.Installed:
		set("", "berth agent start")
	case !st.Installed:
		set("", "berth agent install")
	}
}

func (s *agentService) printStatus(st serviceStatus) error {
	lines := []string{"Agent:    not running"}
	if st.Agent != nil {
		by := "by hand"
		switch {
		case ofDemo(s.paths):
			by = "by the demo"
		case st.Agent.ByService:
			by = "by " + string(st.Manager)
		case st.Installed && !st.Manager.Supervises():
			by = "since " + when.Format(st.Agent.StartedAt, "2006-01-02 15:04")
		}
		lines[0] = fmt.Sprintf("Agent:    running %s, pid %d, version %s", by, st.Agent.PID, st.Agent.Version)
		if st.Agent.ReadyMS > 0 {
			lines = append(lines, fmt.Sprintf("Ready:    %.0f ms after its start", st.Agent.ReadyMS))
		}
	}
	if st.Agent != nil && st.Agent.Metrics != "" {
		lines = append(lines, "Metrics:  "+st.Agent.Metrics)
	}
	if st.Installed {
		starts := "starts at login"
		switch {
		case !st.Enabled:
			starts = "does not start at login"
		case st.Lingers != nil && *st.Lingers:
			starts = "starts with the machine"
		}
		lines = append(lines, fmt.Sprintf("Service:  %s, %s", words(st.Manager), starts), "File:     "+st.File, "Program:  "+st.Program)
	} else {
		lines = append(lines, "Service:  not installed")
	}
	if st.Trouble != "" {
		lines = append(lines, "Trouble:  "+st.Trouble)
	}
	if step := s.app.nextStep(st.Action); step != "" {
		lines = append(lines, "Next:     "+step)
	}
	for i, line := range lines {
		lines[i] = s.app.prose(plain.Line(line), len("Service:  "))
	}
	_, err := fmt.Fprintln(s.app.out, strings.Join(lines, "\n"))
	return err
}
