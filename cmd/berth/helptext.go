package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"berth/internal/plain"
)

// helpWidth is how wide help may be: the narrowest usual terminal, and a little
// less.
const helpWidth = 78

// reflow breaks the paragraphs of a text at helpWidth. Lines that are indented,
// and those right before them, stay as they are: they are lists and examples.
func reflow(text string) string {
	paragraphs := strings.Split(text, "\n\n")
	for i, p := range paragraphs {
		if !strings.HasPrefix(p, "  ") && !strings.Contains(p, "\n  ") {
			paragraphs[i] = strings.Join(plain.Wrap(p, helpWidth), "\n")
		}
	}
	return strings.Join(paragraphs, "\n\n")
}

func init() {
	cobra.AddTemplateFunc("flagHelp", flagHelp)
	cobra.AddTemplateFunc("hasArgs", hasArgs)
	cobra.AddTemplateFunc("exitHelp", exitHelp)
}

// exitNotes are what the exit codes of some commands mean beyond the usual.
var exitNotes = map[string]string{
	"berth exec":         "From the start of the program on its own; 126 if it cannot be executed, 127 if there is none.",
	"berth doctor":       "1 also when a check has failed.",
	"berth selftest":     "1 also when a check has failed.",
	"berth config check": "1 also when the file has mistakes.",
}

// exitHelp says what the exit codes of a command mean.
func exitHelp(cmd *cobra.Command) string {
	text := "0 done, 1 failed, 2 wrong usage, 3 the agent is not running, 4 a login is needed, 128 and more ended by a signal."
	if note := exitNotes[cmd.CommandPath()]; note != "" {
		text += " " + note
	}
	return "  " + strings.Join(plain.Wrap(text, helpWidth-2), "\n  ")
}

// placeholders are what stands for the values of flags whose own name is no good
// word for it.
var placeholders = map[string]string{
	"as-group": "GROUP", "auth": "CONNECTOR", "bundle": "FILE", "lines": "N", "log-level": "LEVEL", "reason": "TEXT",
}

// placeholder returns what stands for a flag's value, in capitals, and what the
// flag does. Where the usage quotes no word for it, the kind of value or the last
// word of the flag's name is taken.
func placeholder(f *pflag.Flag) (value, usage string) {
	value, usage = pflag.UnquoteUsage(f)
	switch {
	case value == "" || value == strings.ToUpper(value):
		return value, usage
	case value == "duration":
		return "DURATION", usage
	case placeholders[f.Name] != "":
		return placeholders[f.Name], usage
	}
	return strings.ToUpper(f.Name[strings.LastIndex(f.Name, "-")+1:]), usage
}

// flagWords returns a flag as people type it, and what it does with its default.
func flagWords(f *pflag.Flag) (typed, usage string) {
	value, usage := placeholder(f)
	typed = "--" + f.Name
	if f.Shorthand != "" {
		typed = "-" + f.Shorthand + ", " + typed
	}
	switch {
	case value != "" && f.NoOptDefVal != "" && f.Value.Type() != "bool":
		typed += "[=" + value + "]"
	case value != "":
		typed += " " + value
	}
	switch f.DefValue {
	case "", "false", "[]", "0", "0s":
	default:
		if !strings.Contains(usage, "default") {
			usage += " (default " + f.DefValue + ")"
		}
	}
	return typed, usage
}

// flagHelp lists a command's own flags: each as it is typed, and beside it, or
// below if that is too long, what it does.
func flagHelp(cmd *cobra.Command) string {
	const lead = 24 // where the explanations begin
	var b strings.Builder
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		typed, usage := flagWords(f)
		if f.Shorthand == "" {
			typed = "    " + typed
		}
		lines := plain.Wrap(usage, helpWidth-lead)
		if len(typed)+4 > lead {
			fmt.Fprintf(&b, "  %s\n", typed)
		} else {
			fmt.Fprintf(&b, "  %-*s%s\n", lead-2, typed, lines[0])
			lines = lines[1:]
		}
		for _, line := range lines {
			fmt.Fprintf(&b, "%*s%s\n", lead, "", line)
		}
	})
	return strings.TrimRight(b.String(), "\n")
}
