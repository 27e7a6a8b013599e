package main

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"berth/agent/ipc/client"
	"berth/internal/licenses"
)

// The groups of commands in the help.
const (
	groupTunnels = "tunnels"
	groupSession = "session"
	groupAccess  = "access"
	groupAgent   = "agent"
	groupMore    = "more"
	groupShort   = "short"
)

// extraCommands are those of special builds; berth's own has none.
var extraCommands []func(*app) *cobra.Command

func (a *app) rootCommand() *cobra.Command {
	// Else cobra tells whoever is started by Explorer, as the tray is at login,
	// to open a console, and ends it.
	cobra.MousetrapHelpText = ""
	root := &cobra.Command{
		Use:   "berth",
		Short: "Teleport databases and Kubernetes clusters on local addresses that never change",
		Long: `berth keeps database and Kubernetes tunnels through Teleport on local addresses
that never change, whatever happens to certificates, networks, laptops or logins.

Without a command it shows the status of the running agent.`,
		Version:           buildVersion(),
		Args:              noArgs,
		SilenceUsage:      true,
		SilenceErrors:     true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := a.status(cmd.Context(), statusOptions{})
			if !errors.Is(err, client.ErrNotRunning) {
				return err
			}
			if err := cmd.Help(); err != nil {
				return err
			}
			_, err = fmt.Fprintln(a.out, "\nThe agent is not running: start it with \"berth agent install\".")
			return err
		},
	}
	root.PersistentFlags().Var(colorFlag{a}, "color", "colours: `WHEN` is auto, always or never; auto heeds NO_COLOR and pipes")
	must(root.RegisterFlagCompletionFunc("color", cobra.FixedCompletions([]string{"auto", "always", "never"}, cobra.ShellCompDirectiveNoFileComp)))
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.SetIn(a.in)
	root.SetVersionTemplate("berth {{.Version}}\n")
	root.SetUsageTemplate(usageTemplate)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		if args := cmd.Flags().Args(); cmd.HasSubCommands() && len(args) > 0 {
			return noArgs(cmd, args) // the flag may be right: it is of the command that is meant
		}
		hint := seeHelp(cmd)
		if value, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
			hint, err = badValue(value, hint)
		}
		return usageError{withHint(err, hint)}
	})
	root.AddGroup(
		&cobra.Group{ID: groupTunnels, Title: "Tunnels:"},
		&cobra.Group{ID: groupSession, Title: "Session:"},
		&cobra.Group{ID: groupAccess, Title: "Access:"},
		&cobra.Group{ID: groupAgent, Title: "Agent:"},
		&cobra.Group{ID: groupShort, Title: "Short words:"},
		&cobra.Group{ID: groupMore, Title: "More:"},
	)
	addTo := func(group string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = group
		}
		root.AddCommand(cmds...)
	}
	addTo(groupTunnels, a.statusCommand(), a.openCommand(), a.tunnelCommand(), a.resourcesCommand(), a.kubeCommand(), a.execCommand(), a.clientCommand(), a.importCommand())
	addTo(groupSession, a.loginCommand(), a.logoutCommand(), a.snoozeCommand())
	addTo(groupAccess, a.requestCommand(), a.recordingCommand())
	addTo(groupAgent, a.setupCommand(), a.uninstallCommand(), a.agentCommand(), a.trayCommand(), a.linkCommand(), a.configCommand(), a.telemetryCommand(), a.doctorCommand(), a.selftestCommand())
	addTo(groupShort, a.shortcuts()...)
	addTo(groupMore, a.caCommand(), a.versionCommand(), a.licensesCommand(), a.completionCommand())
	for _, extra := range extraCommands {
		addTo(groupMore, extra(a))
	}
	a.helpOfKnown(root)
	help := helpCommand()
	help.GroupID = groupMore
	root.SetHelpCommand(help)
	root.InitDefaultHelpCmd()
	eachCommand(root, func(c *cobra.Command) {
		c.InitDefaultHelpFlag()
		c.Flags().Lookup("help").Usage = "show this help"
		c.DisableFlagsInUseLine = true
		c.Long = reflow(c.Long)
		addExample(c)
	})
	root.InitDefaultVersionFlag()
	root.Flags().Lookup("version").Usage = "print berth's version"
	return root
}

// colorFlag sets whether an app's output has colours.
type colorFlag struct{ app *app }

func (colorFlag) String() string { return "auto" }
func (colorFlag) Type() string   { return "string" }

func (f colorFlag) Set(when string) error {
	switch when {
	case "auto":
	case "always", "never":
		f.app.color = when == "always"
	default:
		return fmt.Errorf("%q is none of auto, always and never", when)
	}
	return nil
}

// eachCommand calls f with the command and all beneath it.
func eachCommand(cmd *cobra.Command, f func(*cobra.Command)) {
	f(cmd)
	for _, c := range cmd.Commands() {
		eachCommand(c, f)
	}
}

// usageTemplate is cobra's, without the line that says a group of commands may
// be run by itself, and without the guess that flags follow the arguments.
const usageTemplate = `Usage:
  {{if or (not .HasAvailableSubCommands) (hasArgs .)}}{{.UseLine}}{{end}}
{{- if .HasAvailableSubCommands}}{{if hasArgs .}}
  {{end}}{{.CommandPath}} COMMAND{{end}}
{{- if .HasExample}}

Examples:
{{.Example}}
{{- end}}
{{- if .HasAvailableSubCommands}}{{$cmds := .Commands}}
{{- if eq (len .Groups) 0}}

Commands:{{range $cmds}}{{if .IsAvailableCommand}}
  {{rpad .Name .NamePadding}} {{.Short}}{{end}}{{end}}
{{- else}}{{range $group := .Groups}}

{{.Title}}{{range $cmds}}{{if eq .GroupID $group.ID}}
  {{rpad .Name .NamePadding}} {{.Short}}{{end}}{{end}}{{end}}{{end}}{{end}}
{{- if .HasAvailableLocalFlags}}

Flags:
{{flagHelp .}}
{{- end}}
{{- if .Runnable}}

Exit codes:
{{exitHelp .}}
{{- end}}
{{- if .HasAvailableSubCommands}}

"{{.CommandPath}} COMMAND --help" shows the help of a command{{if not .HasParent}}, "berth help topics"
what is not about one command{{end}}.
{{- end}}
`

// badValue says how to write a flag's value, else hint, and what is wrong with it.
func badValue(value *pflag.InvalidValueError, hint string) (string, error) {
	name := value.GetFlag().Name
	if value.GetFlag().Value.Type() == "duration" {
		return "write it as 30s, 5m or 1h30m", fmt.Errorf("--%s: %q is no length of time", name, value.GetValue())
	}
	if _, ok := errors.AsType[*strconv.NumError](value); ok {
		return hint, fmt.Errorf("--%s: %q is %s", name, value.GetValue(), notOf(value))
	}
	return hint, fmt.Errorf("--%s: %w", name, value.Unwrap())
}

// notOf says what a flag's value is not, or what else is wrong with it.
func notOf(value *pflag.InvalidValueError) string {
	switch kind := value.GetFlag().Value.Type(); {
	case errors.Is(value, strconv.ErrRange):
		return "out of range"
	case kind == "bool":
		return "neither true nor false"
	case strings.HasPrefix(kind, "int"), strings.HasPrefix(kind, "uint"):
		return "not a whole number"
	default:
		return "not a number"
	}
}

// commandGroup is a command that only holds others.
func commandGroup(use, short string, cmds ...*cobra.Command) *cobra.Command {
	group := &cobra.Command{
		Use: use, Short: short, Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	group.AddCommand(cmds...)
	return group
}

// hasArgs reports whether a command takes arguments although it holds others.
func hasArgs(cmd *cobra.Command) bool { return strings.Contains(cmd.Use, " ") }

// helpOfKnown has --help show nothing but the help of what was asked for: cobra
// would answer "berth nonsense --help" with the help of berth.
func (a *app) helpOfKnown(root *cobra.Command) {
	show := root.HelpFunc()
	root.SetHelpFunc(func(cmd *cobra.Command, args []string) {
		if cmd.HasSubCommands() && !hasArgs(cmd) {
			if a.unknown = noArgs(cmd, cmd.Flags().Args()); a.unknown != nil {
				return
			}
		}
		show(cmd, args)
	})
}

// seeHelp is the hint for whoever called cmd in a way it does not know.
func seeHelp(cmd *cobra.Command) string { return fmt.Sprintf("see %q", cmd.CommandPath()+" --help") }

// must is for mistakes in how the commands are put together.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

func (a *app) licensesCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "licenses",
		Short: "Print the licences of what berth is built with",
		Long: `Print which modules and other parts berth is built with, each with its
licence. berth's own is the Apache License 2.0.`,
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := io.WriteString(a.out, licenses.Text)
			return err
		},
	}
}
