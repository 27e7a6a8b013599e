package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"berth/agent/state"
	"berth/internal/doctor"
	"berth/internal/osservice"
	"berth/internal/paths"
	"berth/internal/plain"
)

type doctorOptions struct {
	json   bool
	fix    string // empty, fixAll or the name of a check or of a finding
	bundle string
}

// fixAll has the doctor do what is safe about every finding.
const fixAll = "all"

func (a *app) doctorCommand() *cobra.Command {
	var o doctorOptions
	cmd := &cobra.Command{
		Use:   "doctor [flags]",
		Short: "Find out what is wrong and how to fix it",
		Long: `Find out what is wrong and how to fix it: the agent and its service, the
config, the policy, files that others can read, tsh, its homes, every proxy step by step,
every tunnel as a client would use it, ports, the keychain and the desktop. It
takes at most ten seconds, works without an agent, and changes nothing.

With --fix it does what is safe: it closes files to other users (--fix=files does
that alone, --fix=files:PATH for one file), rewrites an autostart entry that starts a moved program (autostart), and
removes what a killed agent has left behind (stale_state).

With --bundle it also writes what it found, the config, the status and the ends
of the logs to an archive (tar.gz) for whoever helps you. Passwords, keys, tokens
and certificates are taken out; names of proxies, clusters and databases are not.

The exit code is 1 if anything does not work.`,
		Args:    noArgs,
		PreRunE: func(cmd *cobra.Command, _ []string) error { return noneEmptyFlags(cmd, "bundle") },
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.doctor(cmd.Context(), o) },
	}
	cmd.Flags().BoolVar(&o.json, "json", false, "print the findings as a JSON array")
	cmd.Flags().StringVar(&o.fix, "fix", "", "do what is safe about them, or about one `CHECK` or name of --json alone")
	cmd.Flags().Lookup("fix").NoOptDefVal = fixAll
	cmd.Flags().StringVar(&o.bundle, "bundle", "", "write an archive without secrets to this file")
	must(cmd.MarkFlagFilename("bundle", "tar.gz", "tgz"))
	return cmd
}

func (a *app) doctor(ctx context.Context, o doctorOptions) error {
	cfg, err := a.doctorConfig(o)
	if err != nil {
		return err
	}
	report := doctor.Run(ctx, cfg)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	switch {
	case o.fix == fixAll:
		report.Findings = doctor.Mend(ctx, report.Findings)
	case o.fix != "":
		if !slices.ContainsFunc(report.Findings, func(f doctor.Finding) bool { return f.IsNamed(o.fix) }) {
			return usageError{withHint(fmt.Errorf("the doctor has no finding %q", o.fix), "berth doctor --json names its findings and their checks")}
		}
		report.Findings = doctor.Mend(ctx, report.Findings, o.fix)
	}
	if o.json {
		err = a.printJSON(report.Findings)
	} else {
		err = a.printFindings(report.Findings, o.fix != "")
	}
	if err != nil {
		return err
	}
	if o.bundle != "" {
		if err := doctor.WriteBundle(o.bundle, cfg, report, os.Environ()); err != nil {
			return withHint(err, "choose another place: berth doctor --bundle FILE")
		}
		if _, err := fmt.Fprintf(a.err, "written: %s; look into it before you send it\n", plain.Line(o.bundle)); err != nil {
			return err
		}
	}
	if report.Failed() {
		return fmt.Errorf("something does not work (%w)", errSilent)
	}
	return nil
}

func (a *app) doctorConfig(o doctorOptions) (doctor.Config, error) {
	p, err := paths.Resolve(a.env)
	if err != nil {
		return doctor.Config{}, err
	}
	cfg := doctor.Config{Logger: slog.New(slog.DiscardHandler), Paths: p, Policy: a.policy, Version: buildVersion(), Env: a.env}
	if !ofDemo(p) {
		cfg.Service = func(ctx context.Context) (osservice.Status, error) {
			s, err := a.agentService()
			if err != nil {
				return osservice.Status{}, err
			}
			return s.Status(ctx)
		}
	}
	if entry, ok := a.trayEntry(); ok {
		cfg.Autostart = entry
	}
	if a.terminal && !o.json {
		cfg.Progress = func(done, total int) { _, _ = io.WriteString(a.out, progress(done, total)) }
	}
	return cfg, nil
}

// progress is a line that writes over the one before, and in the end is gone.
func progress(done, total int) string {
	if done == total {
		return "\r\x1b[K"
	}
	return fmt.Sprintf("\r\x1b[Klooking: %d of %d done", done, total)
}

// printFindings prints what is wrong with its next step, and what is fine.
func (a *app) printFindings(findings []doctor.Finding, fixing bool) error {
	var b strings.Builder
	counts := make(map[doctor.Status]int)
	mendable := false
	for _, f := range findings {
		counts[f.Status]++
		mendable = mendable || f.Mendable
		word, color := statusWord(f.Status)
		const margin = 6 // the word and two blanks
		text := a.prose(strings.Repeat(" ", margin)+plain.Line(f.Text), margin)
		b.WriteString(a.paint(color, word) + text[len(word):] + "\n")
		switch step := a.nextStep(f.Fix); {
		case f.Fixed != "":
			b.WriteString(a.prose("      → mended: "+plain.Line(f.Fixed), margin+2) + "\n")
		case step != "":
			b.WriteString(a.prose("      → "+plain.Line(step), margin+2) + "\n")
		}
	}
	switch {
	case counts[doctor.Fail] > 0:
		verb := "do"
		if counts[doctor.Fail] == 1 {
			verb = "does"
		}
		fmt.Fprintf(&b, "\n%d of %d %s not work, %d could be better\n", counts[doctor.Fail], len(findings), verb, counts[doctor.Warn])
	case counts[doctor.Warn] > 0:
		fmt.Fprintf(&b, "\n%s; %d could be better\n", state.LowerFirst(working(findings)), counts[doctor.Warn])
	case working(findings) != allWorks:
		fmt.Fprintf(&b, "\n%s; nothing else is wrong\n", state.LowerFirst(working(findings)))
	default:
		b.WriteString("\nall is well\n")
	}
	if mendable && !fixing {
		b.WriteString("\"berth doctor --fix\" does what is safe about them\n")
	}
	_, err := io.WriteString(a.out, b.String())
	return err
}

func statusWord(s doctor.Status) (word, color string) {
	switch s {
	case doctor.OK:
		return "ok  ", green
	case doctor.Warn:
		return "warn", yellow
	case doctor.Fail:
		return "FAIL", red
	case doctor.Skip:
		return "skip", ""
	}
	panic(errors.New("no word for status " + string(s)))
}
