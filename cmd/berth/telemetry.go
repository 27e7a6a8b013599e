package main

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"berth/agent/config"
	"berth/agent/telemetry"
	"berth/internal/paths"
	"berth/internal/plain"
)

func (a *app) telemetryCommand() *cobra.Command {
	return commandGroup("telemetry", "Counts of how you use berth, kept for you alone",
		a.telemetryShowCommand(), a.telemetryExportCommand(), a.telemetryResetCommand(), a.telemetryExplainCommand())
}

// counted is the JSON of "berth telemetry show".
type counted struct {
	Mode string `json:"mode"`
	File string `json:"file"`
	// BrokenKey is a damaged key of pseudonyms that was set aside.
	BrokenKey string `json:"broken_key,omitempty"`
	telemetry.Kept
}

// counted reads what is kept. A config or policy that is in the way is no reason not to.
func (a *app) counted() (counted, error) {
	p, err := paths.Resolve(a.env)
	if err != nil {
		return counted{}, err
	}
	c := counted{Mode: "off", File: telemetry.Path(p.StateDir)}
	switch cfg, err := a.loadConfig(p); {
	case err != nil:
		c.Mode = "unknown"
	case cfg.Telemetry.Local():
		c.Mode = "local"
	}
	if c.Kept, err = telemetry.Read(p.StateDir); err != nil {
		return c, withHint(err, "berth telemetry reset")
	}
	c.BrokenKey = telemetry.BrokenKey(p.StateDir)
	return c, nil
}

func (a *app) telemetryShowCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show [flags]",
		Short: "Show everything that is counted",
		Long: `Show everything that is counted, day by day. The agent writes it down within
half a minute.`,
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			c, err := a.counted()
			if err != nil {
				return err
			}
			if asJSON {
				err = a.printJSON(c)
			} else {
				err = a.printCounted(c)
			}
			if keyErr := telemetry.CheckKey(filepath.Dir(c.File)); err == nil && keyErr != nil && c.Mode == "local" {
				return withHint(fmt.Errorf("nothing can be written down: %w", keyErr), "berth telemetry reset --key")
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	return cmd
}

func (a *app) printCounted(c counted) error {
	var b strings.Builder
	b.WriteString("telemetry: " + a.telemetryMode(c.Mode) + "\n")
	for _, d := range c.Days {
		fmt.Fprintf(&b, "\n%s\n", plain.Line(d.Day))
		fmt.Fprintf(&b, "  %-9s %s\n", "versions", plain.Line(strings.Join(d.Versions, ", ")))
		for _, line := range []struct {
			name string
			of   map[string]int64
		}{
			{"features", d.Features}, {"tunnels", d.Tunnels}, {"clients", d.Clients}, {"refusals", d.Refusals},
			{"clusters", d.Clusters}, {"users", d.Users},
		} {
			if len(line.of) > 0 {
				fmt.Fprintf(&b, "  %-9s %s\n", line.name, numbers(line.of))
			}
		}
	}
	if len(c.Days) == 0 {
		b.WriteString("nothing is kept\n")
	}
	if c.BrokenKey != "" {
		b.WriteString("\n" + a.prose(plain.Line("the key of the pseudonyms was damaged and is now "+c.BrokenKey+
			": clusters and users have new pseudonyms since. \"berth telemetry reset --key\" deletes it."), 0) + "\n")
	}
	_, err := a.out.Write([]byte(b.String()))
	return err
}

// numbers words counts, the names in order.
func numbers(counts map[string]int64) string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		list = append(list, fmt.Sprintf("%s %d", plain.Line(name), counts[name]))
	}
	return strings.Join(list, ", ")
}

// telemetryMode says what a mode means, and why it is.
func (a *app) telemetryMode(mode string) string {
	if forbidden, ok := errors.AsType[*config.PolicyError](a.policy.Load().Allows(config.FeatureTelemetry)); ok {
		return "off, since " + plain.Line(forbidden.Why)
	}
	switch mode {
	case "local":
		return "local: counted on this machine, and never sent"
	case "off":
		return "off: nothing is counted"
	default:
		return "unknown: the config has mistakes"
	}
}

func (a *app) telemetryExportCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "export",
		Short: "Print what is counted as JSON that you may hand on",
		Long: `Print what is counted as JSON that you may hand to whoever asked: what the file
has and nothing else. Clusters and users are pseudonyms in it, whose key stays here.`,
		Example: "  berth telemetry export > berth-statistics.json",
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			c, err := a.counted()
			if err != nil {
				return err
			}
			return a.printJSON(c.Kept)
		},
	}
}

func (a *app) telemetryResetCommand() *cobra.Command {
	var keyOnly bool
	cmd := &cobra.Command{
		Use:   "reset [flags]",
		Short: "Forget what is counted, and the key of the pseudonyms",
		Long: `Forget what is counted, and the key that the pseudonyms of clusters and users
are made with. What is counted later cannot be joined to what was exported
before. --key replaces the key alone, and the counts stay.`,
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			p, err := paths.Resolve(a.env)
			if err != nil {
				return err
			}
			if keyOnly {
				if err := telemetry.Rotate(p.StateDir); err != nil {
					return err
				}
				return a.say("Clusters and users have new pseudonyms from now on.")
			}
			if err := telemetry.Reset(p.StateDir); err != nil {
				return err
			}
			return a.say("Nothing is kept any longer.")
		},
	}
	cmd.Flags().BoolVar(&keyOnly, "key", false, "replace the key alone, and keep the counts")
	return cmd
}

func (a *app) telemetryExplainCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "explain",
		Short:   "Say what is counted, what is not, and where it is",
		Example: "  berth telemetry explain",
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			p, err := paths.Resolve(a.env)
			if err != nil {
				return err
			}
			c, _ := a.counted() // a broken file changes nothing about what is said here
			var b strings.Builder
			fmt.Fprintf(&b, `telemetry: %s

berth counts only if your config says telemetry: {mode: local}. It never sends
the numbers anywhere. "berth telemetry export" prints them, if you want to hand
them on.

For each day:
`, a.telemetryMode(c.Mode))
			for _, f := range telemetry.Fields {
				fmt.Fprintf(&b, "  %-9s %s\n", f.Key, strings.Join(plain.Wrap(f.Text, helpWidth-12), "\n            "))
			}
			fmt.Fprintf(&b, `
Never counted: names of tunnels, databases, Kubernetes clusters, roles, hosts and
programs; addresses, queries, times of day.

  file      %s: the last 90 days, at most 1 MB
  key       %s: never printed, never exported
  forget    berth telemetry reset
`, plain.Line(telemetry.Path(p.StateDir)), plain.Line(telemetry.KeyPath(p.StateDir)))
			_, err = a.out.Write([]byte(b.String()))
			return err
		},
	}
}
