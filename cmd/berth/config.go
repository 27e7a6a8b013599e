package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"berth/agent/config"
	"berth/internal/paths"
	"berth/internal/plain"
)

func (a *app) configCommand() *cobra.Command {
	return commandGroup("config", "Find, check and edit the config file",
		a.configPathCommand(), a.configCheckCommand(),
		&cobra.Command{
			Use:   "edit",
			Short: "Open the config file in your editor and check it afterwards",
			Long: `Open the config file in your editor ($VISUAL, else $EDITOR) and check it
afterwards. A running agent takes every good change by itself; while the file has
mistakes, the last good config goes on.`,
			Args: noArgs,
			RunE: func(cmd *cobra.Command, _ []string) error { return a.configEdit(cmd.Context()) },
		},
		a.configSchemaCommand(),
	)
}

func (a *app) configSchemaCommand() *cobra.Command {
	var policy bool
	cmd := &cobra.Command{
		Use:     "schema [flags]",
		Short:   "Print the config file's JSON Schema, for editors",
		Example: `  berth config schema > berth.schema.json` + "\n" + `  # then, as the config's first line:` + "\n" + `  # yaml-language-server: $schema=berth.schema.json`,
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			schema := config.Schema()
			if policy {
				schema = config.PolicySchema()
			}
			_, err := a.out.Write(schema)
			return err
		},
	}
	cmd.Flags().BoolVar(&policy, "policy", false, "print that of a policy file")
	return cmd
}

// filePaths is the JSON of "berth config path".
type filePaths struct {
	Config string `json:"config"`
	Policy string `json:"policy"`
	State  string `json:"state"`
	Log    string `json:"log"`
	Socket string `json:"socket"`
}

func (a *app) configPathCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "path [flags]",
		Short: "Print where the config file is",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			p, err := paths.Resolve(a.env)
			if err != nil {
				return err
			}
			if asJSON {
				return a.printJSON(filePaths{Config: p.Config, Policy: a.policy.Path, State: p.StateDir, Log: p.LogFile, Socket: p.Socket})
			}
			_, err = fmt.Fprintln(a.out, p.Config)
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print where config, state, log and socket are as JSON")
	return cmd
}

// loadConfig reads the config file, bound by the policy.
func (a *app) loadConfig(p paths.Paths) (*config.Config, error) {
	cfg, err := config.Load(p.Config)
	if err != nil {
		return nil, err
	}
	cfg, _ = a.policy.Load().Bind(cfg)
	return cfg, nil
}

func (a *app) configCheckCommand() *cobra.Command {
	var asJSON, policy bool
	cmd := &cobra.Command{
		Use:   "check [FILE] [flags]",
		Short: "Check the config file and name every mistake with its line",
		Long: `Check the config file and name every mistake with its line. What the machine's
policy leaves without effect is named too, with the policy's file and line.

--policy checks a policy file instead, this machine's or FILE, before it is
installed.`,
		Args: optionalArg("FILE"),
		RunE: func(_ *cobra.Command, args []string) error {
			if policy {
				return a.policyCheck(args, asJSON)
			}
			return a.configCheck(args, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the mistakes as JSON")
	cmd.Flags().BoolVar(&policy, "policy", false, "check a policy file")
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
	}
	_, statErr := os.Stat(file)
	missing := errors.Is(statErr, fs.ErrNotExist)
	if missing && len(args) == 1 {
		return noSuchFile(file)
	}
	if lost := config.CheckLost(file, p.LastGoodConfig()); lost != nil && len(args) == 0 {
		return lost
	}
	machine := a.policy.Load()
	if machine != nil && machine.Err != nil { // no mistake of this file's, and it decides what the file can do
		fmt.Fprintln(a.err, a.mistakesText(machine.Err))
		fmt.Fprintln(a.err, a.prose("until the policy's mistakes are mended, its rules hold at their strictest: "+machine.Hint(), 2))
	}
	overruled, err := config.Overruled(file, machine)
	switch {
	case err != nil:
		return a.reportMistakes(err, asJSON)
	case asJSON:
		return a.printJSON(append([]config.Mistake{}, overruled...))
	case missing:
		return a.sentences("there is no " + plain.Line(file) + " yet: the first tunnel you add makes it")
	case len(overruled) > 0:
		fmt.Fprintln(a.err, a.mistakesText(&config.Error{Path: file, Mistakes: overruled}))
		return a.sentences(plain.Line(file) + " has no mistakes")
	default:
		return a.sentences(plain.Line(file) + " is fine")
	}
}

func noSuchFile(path string) error {
	return withHint(fmt.Errorf("there is no %s", plain.Line(path)), "name a file that is there, or leave FILE out")
}

// policyCheck checks a policy file, whoever owns it and those that it includes, or the
// machine's. It says what would be wrong with the owners of the former.
func (a *app) policyCheck(args []string, asJSON bool) error {
	file := a.policy
	if len(args) == 1 {
		file = config.PolicyFile{Path: args[0], Trusted: a.noteOwner}
		_, err := os.Stat(args[0])
		if errors.Is(err, fs.ErrNotExist) {
			return noSuchFile(args[0])
		}
		if err != nil {
			return err
		}
	}
	policy := file.Load()
	switch {
	case policy != nil && policy.Err != nil:
		return a.reportMistakes(policy.Err, asJSON)
	case policy == nil && asJSON:
		return a.printJSON([]config.Mistake{})
	case policy == nil:
		return a.sentences("this machine has no policy: there is no " + plain.Line(file.Path))
	case asJSON:
		return a.printJSON(append([]config.Mistake{}, policy.ShipsInVain()...))
	}
	says := cmp.Or(strings.Join(policy.Forbids(), ", "), "it forbids nothing")
	switch n := policy.Ships(); n {
	case 0:
	case 1:
		says += "; it ships 1 tunnel"
	default:
		says += fmt.Sprintf("; it ships %d tunnels", n)
	}
	verdict := " is fine: "
	if vain := policy.ShipsInVain(); len(vain) > 0 {
		fmt.Fprintln(a.err, a.mistakesText(&config.Error{Path: file.Path, Mistakes: vain}))
		verdict = " has no mistakes: "
	}
	return a.sentences(plain.Line(file.Path + verdict + says))
}

// noteOwner says why berth would not trust a policy's file with the owner and mode that
// it has now. The folders are not those in which it will be.
func (a *app) noteOwner(file *os.File) error {
	info, err := file.Stat()
	if err != nil || info.IsDir() {
		return err
	}
	if err := a.policy.Trusted(file); err != nil {
		note := fmt.Sprintf("note: installed like this, %s would not be trusted: %v", file.Name(), err)
		fmt.Fprintln(a.err, a.prose(plain.Line(note), 2))
	}
	return nil
}

// reportMistakes prints the mistakes of a file, and returns the error that says so.
func (a *app) reportMistakes(err error, asJSON bool) error {
	bad, ok := errors.AsType[*config.Error](err)
	if !ok {
		return err
	}
	if asJSON {
		if err := a.printJSON(bad.Mistakes); err != nil {
			return err
		}
	} else {
		fmt.Fprintln(a.err, a.mistakesText(bad))
	}
	return fmt.Errorf("%w: %w", errSilent, err)
}

// mistakesText is one mistake a line, as compilers write them; in a terminal that is too
// narrow it is broken at words.
func (a *app) mistakesText(bad *config.Error) string {
	lines := strings.Split(plain.Text(bad.Error()), "\n")
	for i, line := range lines {
		lines[i] = a.prose(line, 2)
	}
	return strings.Join(lines, "\n")
}

// configEdit opens the editor the user named, on a file that exists.
func (a *app) configEdit(ctx context.Context) error {
	p, err := paths.Resolve(a.env)
	if err != nil {
		return err
	}
	if err := config.Init(p.Config, p.LastGoodConfig()); err != nil {
		if _, ok := errors.AsType[*config.Error](err); !ok { // an editor is there to correct mistakes
			return err
		}
	}
	editor, err := a.editor()
	if err != nil {
		return withHint(err, "set EDITOR, or edit "+p.Config+" by hand: the agent takes every change by itself")
	}
	child := exec.CommandContext(context.WithoutCancel(ctx), editor[0], append(editor[1:], p.Config)...)
	child.Stdin, child.Stdout, child.Stderr = a.in, a.out, a.err
	if err := runChild(child); err != nil {
		return withHint(fmt.Errorf("editor %q: %w", strings.Join(editor, " "), editorEnd(err)),
			"the file is "+p.Config)
	}
	return a.configCheck(nil, false)
}

// editorEnd makes an error of its own of an editor's exit code, and of that for one
// that does not start: they say nothing about the config.
func editorEnd(err error) error {
	_, ended := errors.AsType[childError](err)
	_, started := errors.AsType[startError](err)
	if ended || started {
		return errors.New(err.Error())
	}
	return err
}

// editor returns the user's editor, or one that every system of this kind has.
func (a *app) editor() ([]string, error) {
	for _, name := range []string{"VISUAL", "EDITOR"} {
		if argv := strings.Fields(a.env(name)); len(argv) > 0 {
			return argv, nil
		}
	}
	usual := []string{"editor", "vi", "nano"}
	if runtime.GOOS == "windows" {
		usual = []string{"notepad"}
	}
	for _, name := range usual {
		if path, err := exec.LookPath(name); err == nil {
			return []string{path}, nil
		}
	}
	return nil, errors.New("no editor is set, and none of the usual ones is installed")
}
