package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"berth/agent/config"
	"berth/internal/paths"
)

func (a *app) configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "The config file: where it is, whether it is right, what it may hold",
		Args:  noArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var asJSON bool
	check := &cobra.Command{
		Use:   "check [FILE]",
		Short: "Check the config file and name every mistake with its line",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) <= 1 {
				return nil
			}
			return exactArgs("FILE")(cmd, args)
		},
		RunE: func(_ *cobra.Command, args []string) error { return a.configCheck(args, asJSON) },
	}
	check.Flags().BoolVar(&asJSON, "json", false, "print the mistakes as JSON")
	cmd.AddCommand(check,
		&cobra.Command{
			Use: "path", Short: "Print where the config file is", Args: noArgs,
			RunE: func(*cobra.Command, []string) error {
				p, err := paths.Resolve(a.env)
				if err != nil {
					return err
				}
				_, err = fmt.Fprintln(a.out, p.Config)
				return err
			},
		},
		&cobra.Command{
			Use: "edit", Short: "Open the config file in your editor, and check it afterwards", Args: noArgs,
			RunE: func(cmd *cobra.Command, _ []string) error { return a.configEdit(cmd.Context()) },
		},
		&cobra.Command{
			Use: "schema", Short: "Print the config file's JSON Schema, for editors", Args: noArgs,
			RunE: func(*cobra.Command, []string) error {
				_, err := a.out.Write(config.Schema())
				return err
			},
		},
	)
	return cmd
}

func (a *app) configCheck(args []string, asJSON bool) error {
	p, err := paths.Resolve(a.env)
	if err != nil {
		return err
	}
	file := p.Config
	if len(args) == 1 {
		file = args[0]
		if _, err := os.Stat(file); err != nil {
			return err
		}
	}
	_, err = config.Load(file)
	var bad *config.Error
	mistakes := []config.Mistake{}
	if errors.As(err, &bad) {
		mistakes = bad.Mistakes
	} else if err != nil {
		return err
	}
	if asJSON {
		if err := a.printJSON(mistakes); err != nil {
			return err
		}
	} else if err == nil {
		fmt.Fprintf(a.out, "%s is fine\n", file)
	} else {
		fmt.Fprintln(a.err, err)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errSilent, err)
	}
	return nil
}

// configEdit opens the editor the user named, on a file that exists.
func (a *app) configEdit(ctx context.Context) error {
	p, err := paths.Resolve(a.env)
	if err != nil {
		return err
	}
	if err := config.Init(p.Config); err != nil {
		return err
	}
	editor := a.env("VISUAL")
	if editor == "" {
		editor = a.env("EDITOR")
	}
	if editor == "" {
		editor = map[string]string{"windows": "notepad"}[runtime.GOOS]
	}
	if editor == "" {
		return withHint(errors.New("no editor is set"), "set EDITOR, or edit "+p.Config+" by hand: the agent takes every change by itself")
	}
	argv := append(strings.Fields(editor), p.Config)
	child := exec.CommandContext(context.WithoutCancel(ctx), argv[0], argv[1:]...) // Ctrl-C belongs to the editor
	child.Stdin, child.Stdout, child.Stderr = a.in, a.out, a.err
	if err := child.Run(); err != nil {
		return fmt.Errorf("editor %s: %w", argv[0], err)
	}
	return a.configCheck(nil, false)
}
