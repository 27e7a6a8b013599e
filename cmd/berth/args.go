package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"berth/internal/plain"
)

// noArgs, exactArgs and optionalArg are cobra's checks with berth's words and
// its exit code for usage.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if !cmd.HasSubCommands() {
		return usageError{withHint(fmt.Errorf("%s takes no argument, got %q", cmd.CommandPath(), args[0]), seeHelp(cmd))}
	}
	hint := seeHelp(cmd)
	if meant := meantBy(cmd, args[0]); meant != "" {
		hint = fmt.Sprintf("did you mean %q?", meant)
	}
	return usageError{withHint(fmt.Errorf("%s has no command %q", cmd.CommandPath(), args[0]), hint)}
}

// fromElsewhere are the words that people try for the commands of "berth tunnel", which
// stand for one of them beneath berth and beneath it. Only a word in full counts,
// for some of them are dangerous.
var fromElsewhere = map[string]string{
	"remove": "rm", "delete": "rm", "rm": "rm", "rename": "rename", "mv": "rename",
	"set": "set", "start": "start", "stop": "stop", "restart": "restart", "why": "why", "url": "url",
}

// meantBy is the command that was probably meant by a word that cmd does not have;
// empty when there is none.
func meantBy(cmd *cobra.Command, word string) string {
	name := fromElsewhere[strings.ToLower(word)]
	if name != "" && (!cmd.HasParent() || cmd.CommandPath() == "berth tunnel") {
		return "berth tunnel " + name
	}
	if word == "" {
		return ""
	}
	var names []string
	of := make(map[string]string) // the command of a name or alias
	for _, sub := range cmd.Commands() {
		if !sub.IsAvailableCommand() {
			continue
		}
		for _, name := range append([]string{sub.Name()}, sub.Aliases...) {
			names, of[name] = append(names, name), sub.Name()
		}
	}
	near := plain.Nearest(word, names, strings.ToLower)
	if near == "" {
		begun := func(name string) bool {
			return strings.HasPrefix(name, strings.ToLower(word)) && !slices.Contains(dangerous, of[name])
		}
		if i := slices.IndexFunc(names, begun); i >= 0 {
			near = names[i]
		}
	}
	// Where a dangerous command is the nearest, the next one is its opposite: "login" for "logut".
	if near == "" || slices.Contains(dangerous, of[near]) {
		return ""
	}
	return cmd.CommandPath() + " " + near
}

func exactArgs(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == len(names) {
			return noneEmpty(cmd, args, names...)
		}
		return wrongArgs(cmd, fmt.Sprintf("%s takes %s", cmd.CommandPath(), strings.Join(names, " and ")), args)
	}
}

func optionalArg(name string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) <= 1 {
			return noneEmpty(cmd, args, name)
		}
		return wrongArgs(cmd, fmt.Sprintf("%s takes at most one %s", cmd.CommandPath(), name), args)
	}
}

// only returns the argument of a command that takes an optionalArg; empty: it has none.
func only(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}

// noneEmpty refuses an argument without text, as from a variable that is not set: it
// would be taken for one that is left out.
func noneEmpty(cmd *cobra.Command, args []string, names ...string) error {
	if i := slices.Index(args, ""); i >= 0 {
		return usageError{withHint(fmt.Errorf("%s: %s is empty", cmd.CommandPath(), names[i]), "usage: "+cmd.UseLine())}
	}
	return nil
}

// noneEmptyFlags refuses a flag without text, as from a variable that is not set: it
// would be taken for one that is left out.
func noneEmptyFlags(cmd *cobra.Command, names ...string) error {
	for _, name := range names {
		if f := cmd.Flags().Lookup(name); f.Changed && f.Value.String() == "" {
			return usageError{withHint(fmt.Errorf("%s: --%s is empty", cmd.CommandPath(), name), "give it a value, or leave it out")}
		}
	}
	return nil
}

// wrongArgs says what a command takes, and what it was given instead.
func wrongArgs(cmd *cobra.Command, takes string, args []string) error {
	got := "nothing"
	if len(args) > 0 {
		got = fmt.Sprintf("%q", args)
		got = strings.Trim(got, "[]")
	}
	return usageError{withHint(fmt.Errorf("%s, got %s", takes, got), "usage: "+cmd.UseLine())}
}
