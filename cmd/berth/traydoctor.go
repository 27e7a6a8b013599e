package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"berth/internal/atomicfile"
	"berth/internal/doctor"
	"berth/internal/paths"
	"berth/internal/plain"
	"berth/internal/when"
	"berth/tray"
)

// maxNamed is how many findings fit into a notification.
const maxNamed = 2

// checkupTime bounds a run of the doctor: its own bound, and more for a machine that
// is busy.
var checkupTime = doctor.MaxTime + 5*time.Second

// reportFile is where the tray's menu puts what the doctor found.
func reportFile(p paths.Paths) string { return filepath.Join(p.StateDir, "doctor.txt") }

// checkup runs "berth doctor" in a process of its own, since the tray keeps
// away from the files it looks into, and writes the report.
func (a *app) checkup(ctx context.Context, p paths.Paths) (tray.Checkup, error) {
	self, err := ownProgram()
	if err != nil {
		return tray.Checkup{}, err
	}
	findings, err := askDoctor(ctx, self)
	if err != nil {
		return tray.Checkup{}, withHint(err, `run "berth doctor" in a terminal`)
	}
	var report bytes.Buffer
	fmt.Fprintf(&report, "berth %s, looked at on %s\n\n", buildVersion(), when.Format(time.Now(), "2006-01-02 at 15:04:05"))
	printer := *a
	printer.out, printer.color = &report, false
	if err := printer.printFindings(findings, false); err != nil {
		return tray.Checkup{}, err
	}
	report.WriteString("\nIn a terminal, \"berth doctor\" looks again; \"berth doctor --fix\" also does what is safe.\n")
	if err := atomicfile.Write(reportFile(p), report.Bytes(), 0o600); err != nil {
		return tray.Checkup{}, fmt.Errorf("write the report: %w", err)
	}
	found := summary(findings)
	found.Report = report.String()
	return found, nil
}

// diagnostics is what those who help want to know first: the doctor's report.
func (a *app) diagnostics(ctx context.Context, p paths.Paths) (string, error) {
	found, err := a.checkup(ctx, p)
	return found.Report, err
}

// askDoctor runs program as the doctor.
func askDoctor(ctx context.Context, program string, flags ...string) ([]doctor.Finding, error) {
	ctx, cancel := context.WithTimeout(ctx, checkupTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, append([]string{"doctor", "--json"}, flags...)...)
	hideConsole(cmd)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	var findings []doctor.Finding
	if json.Unmarshal(out, &findings) == nil && len(findings) > 0 {
		return findings, nil // its exit code says what they say
	}
	switch {
	case ctx.Err() != nil:
		return nil, errors.New("the doctor did not come to an end")
	case complaint.Len() > 0:
		return nil, fmt.Errorf("run the doctor: %s", lastLine(complaint.String()))
	case err != nil:
		return nil, fmt.Errorf("run the doctor: %w", err)
	default:
		return nil, errors.New("the doctor found nothing to look at")
	}
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return s[strings.LastIndexByte(s, '\n')+1:]
}

// summary shortens the findings to a notification.
func summary(findings []doctor.Finding) tray.Checkup {
	var failed, poor []doctor.Finding
	for _, f := range findings {
		switch f.Status {
		case doctor.Fail:
			failed = append(failed, f)
		case doctor.Warn:
			poor = append(poor, f)
		case doctor.OK, doctor.Skip:
		}
	}
	worst := append(failed, poor...)
	var c tray.Checkup
	switch {
	case len(failed) > 0:
		c.Title = things(len(failed), "does not work", "do not work")
	case len(poor) > 0:
		c.Title = working(findings) + "; " + things(len(poor), "could be better", "could be better")
	case working(findings) != allWorks:
		return tray.Checkup{Title: working(findings), Text: "Nothing else is wrong."}
	default:
		return tray.Checkup{Title: "All is well", Text: fmt.Sprintf("The doctor looked at %d things.", len(findings))}
	}
	var lines []string
	for i, f := range worst {
		if i == maxNamed {
			lines = append(lines, fmt.Sprintf("and %d more", len(worst)-maxNamed))
			break
		}
		lines = append(lines, capital(plain.Line(f.Text)))
		if f.Fix != "" {
			lines = append(lines, "→ "+plain.Line(f.Fix))
		}
	}
	c.Text = strings.Join(lines, "\n")
	return c
}

const allWorks = "All works"

// working says what a person can do now, where nothing fails.
func working(findings []doctor.Finding) string {
	has := func(match func(doctor.Finding) bool) bool { return slices.ContainsFunc(findings, match) }
	switch {
	case has(func(f doctor.Finding) bool {
		return f.Status == doctor.Warn && (f.Check == "session" || f.Check == "home")
	}):
		return "Not logged in"
	case has(func(f doctor.Finding) bool { return f.Check == "tunnel" }) &&
		!has(func(f doctor.Finding) bool { return f.Check == "tunnel" && f.Status == doctor.OK }):
		return "No tunnel is ready"
	default:
		return allWorks
	}
}

func things(n int, one, many string) string {
	if n == 1 {
		return "1 thing " + one
	}
	return fmt.Sprintf("%d things %s", n, many)
}

// capital begins a finding like a sentence: in a notification it stands alone.
func capital(s string) string {
	r, size := utf8.DecodeRuneInString(s)
	return string(unicode.ToUpper(r)) + s[size:]
}
