package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/shirou/gopsutil/v4/host"
	"github.com/spf13/cobra"

	"berth/internal/plain"
	"berth/internal/selftest"
	"berth/tray"
)

// selftestReport is the JSON of "berth selftest".
type selftestReport struct {
	versionInfo

	System  string            `json:"system"`  // its name and version, as it calls itself
	Kernel  string            `json:"kernel"`  // empty where it is not known
	Desktop string            `json:"desktop"` // as it calls itself; empty where it does not
	Cgo     bool              `json:"cgo"`     // whether the program was built with it
	Demo    bool              `json:"demo"`    // whether a berth-demo was found
	Failed  bool              `json:"failed"`  // whether a check has failed
	TookMS  int64             `json:"took_ms"`
	Checks  []selftest.Result `json:"checks"`
}

func (a *app) selftestCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "selftest [flags]",
		Short: "Try agent, tunnels, tray and the rest on this machine",
		Long: `Try berth on this machine, and print a report to paste: an agent and its control
socket or pipe, the tray, a notification, the keychain by an entry that is
removed again, the service manager. Where berth-demo is beside berth or on PATH,
its simulated cluster is started too, and tunnels to its databases are used.

All of it happens in a temporary BERTH_HOME and is taken back; your config,
sessions, agent and service are not touched. An icon and a notification are
seen for a few seconds. It takes at most three minutes. The report has neither
secrets nor your name or folders. What a machine does not have is skipped, with
the reason.

"berth doctor" looks at your own berth instead.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.selftest(cmd.Context(), asJSON) },
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the report as JSON")
	return cmd
}

func (a *app) selftest(ctx context.Context, asJSON bool) error {
	program, err := ownProgram()
	if err != nil {
		return err
	}
	cfg := selftest.Config{
		Program: program, Demo: selftest.FindDemo(program), Version: buildVersion(), Icon: tray.AppIcon(), Environ: os.Environ(),
	}
	if a.terminal && !asJSON {
		cfg.Progress = func(done, total int) { _, _ = io.WriteString(a.out, progress(done, total)) }
	}
	begun := time.Now()
	r := selftestReport{versionInfo: ownVersion(), Cgo: buildSetting("CGO_ENABLED") == "1", Demo: cfg.Demo != ""}
	r.System, r.Kernel, r.Desktop = systemWords(ctx, a.env)
	if r.Checks, err = selftest.Run(ctx, cfg); err != nil {
		return err
	}
	r.TookMS = time.Since(begun).Milliseconds()
	counts := make(map[selftest.Status]int)
	for _, c := range r.Checks {
		counts[c.Status]++
	}
	r.Failed = counts[selftest.Failed] > 0
	if asJSON {
		err = a.printJSON(r)
	} else {
		err = a.printSelftest(r, counts)
	}
	if err == nil && r.Failed {
		err = fmt.Errorf("a check has failed (%w)", errSilent)
	}
	return err
}

func (a *app) printSelftest(r selftestReport, counts map[selftest.Status]int) error {
	var b strings.Builder
	how := "without cgo"
	if r.Cgo {
		how = "with cgo"
	}
	fmt.Fprintf(&b, "berth selftest: berth %s (%s, %s/%s, %s)\n", r.Version, r.Go, r.OS, r.Arch, how)
	fmt.Fprintf(&b, "on %s, kernel %s, desktop %s\n\n", orNone(r.System), orNone(r.Kernel), orNone(r.Desktop))
	for _, c := range r.Checks {
		color := map[selftest.Status]string{selftest.OK: green, selftest.Failed: red}[c.Status]
		fmt.Fprintf(&b, "%s %-12s  %s\n", a.paint(color, fmt.Sprintf("%-7s", c.Status)), c.Check, plain.Line(c.Text))
		if c.Next != "" {
			fmt.Fprintf(&b, "%22s→ %s\n", "", plain.Line(c.Next))
		}
	}
	fmt.Fprintf(&b, "\n%d checks: %d ok, %d failed, %d skipped, in %.1f s\n", len(r.Checks), counts[selftest.OK],
		counts[selftest.Failed], counts[selftest.Skipped], float64(r.TookMS)/1000)
	_, err := io.WriteString(a.out, b.String())
	return err
}

func orNone(s string) string {
	if s == "" {
		return "unknown"
	}
	return plain.Line(s)
}

// systemWords says what a machine runs, as far as it says so.
func systemWords(ctx context.Context, env func(string) string) (system, kernel, desktop string) {
	name, _, version, err := host.PlatformInformationWithContext(ctx)
	if err == nil {
		system = strings.TrimSpace(name + " " + version)
	}
	if kernel, err = host.KernelVersionWithContext(ctx); err != nil {
		kernel = ""
	}
	switch runtime.GOOS {
	case "windows", "darwin":
		desktop = "the system's own"
	default:
		desktop = strings.TrimSpace(env("XDG_CURRENT_DESKTOP") + " " + env("XDG_SESSION_TYPE"))
	}
	return system, kernel, desktop
}
