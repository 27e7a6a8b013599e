package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"berth/internal/doctest"
)

var updateDocs = flag.Bool("update", false, "rewrite docs/COMMANDS.md")

const projectRoot = "../.."

// TestDocsCommands asks the command tree about every berth command that the
// documents show.
func TestDocsCommands(t *testing.T) {
	files, err := doctest.Files(projectRoot)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, name := range files {
		raw, err := os.ReadFile(filepath.Join(projectRoot, filepath.FromSlash(name)))
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range doctest.Parse(name, string(raw)).Commands {
			found++
			if err := checkCall(c); err != nil {
				t.Errorf("%s:%d: berth %s: %v", name, c.Line, strings.Join(c.Args, " "), err)
			}
		}
	}
	if found < 100 {
		t.Errorf("found %d commands in %d files: the search is broken", found, len(files))
	}
}

// checkCall says what is wrong with a call of berth that a document shows. One
// that is to be copied must be complete; a mention must name what exists.
func checkCall(c doctest.Command) error {
	a, _, _ := testApp()
	args := make([]string, 0, len(c.Args))
	for _, arg := range c.Args {
		args = append(args, strings.Trim(arg, "[]"))
	}
	if len(args) > 0 && isPlaceholder(args[0]) {
		return nil // "berth COMMAND --help", "berth …"
	}
	cmd, rest, err := a.rootCommand().Find(args)
	if err != nil {
		return err
	}
	if cmd.HasSubCommands() && len(rest) > 0 && !strings.HasPrefix(rest[0], "-") && !isPlaceholder(rest[0]) {
		return fmt.Errorf("%s has no command %q", cmd.CommandPath(), rest[0])
	}
	if c.Fenced {
		return checkWhole(cmd, rest)
	}
	for _, arg := range rest {
		if arg == "--" {
			break
		}
		if name, ok := strings.CutPrefix(arg, "--"); ok {
			name, _, _ = strings.Cut(name, "=")
			if cmd.Flag(name) == nil {
				return fmt.Errorf("%s has no --%s", cmd.CommandPath(), name)
			}
		}
	}
	return nil
}

// checkWhole takes the flags and arguments as the command itself would.
func checkWhole(cmd *cobra.Command, args []string) error {
	if err := cmd.ParseFlags(args); err != nil {
		return err
	}
	if help := cmd.Flag("help"); help != nil && help.Changed {
		return nil
	}
	if err := cmd.ValidateArgs(cmd.Flags().Args()); err != nil {
		return err
	}
	return cmd.ValidateRequiredFlags()
}

// isPlaceholder reports whether a word stands for others, as NAME and … do.
func isPlaceholder(word string) bool {
	return word == "…" || word == "..." || word != "" && !strings.HasPrefix(word, "-") && strings.ToUpper(word) == word && strings.ToLower(word) != word
}

func TestCheckCall(t *testing.T) {
	for _, tt := range []struct {
		line   string
		fenced bool
		right  bool
	}{
		{"berth", true, true},
		{"berth status --watch", true, true},
		{"berth status --wach", true, false},
		{"berth status --wach", false, false},
		{"berth stats", false, false},
		{"berth tunnel lst", false, false},
		{"berth tunnel", false, true},
		{"berth tunnel why", false, true},
		{"berth tunnel why", true, false},
		{"berth tunnel why NAME", true, true},
		{"berth tunnel COMMAND --help", false, true},
		{"berth tunnel add db pg", true, false},
		{"berth tunnel add db pg --resource pg --hold 2m", true, true},
		{"berth tunnel add db pg --resource pg --hold two", true, false},
		{"berth login [PROXY] [--renew]", false, true},
		{"berth login [PROXY] [--renw]", false, false},
		{"berth exec pg -- psql --nonsense", true, true},
		{"berth exec pg -- psql --nonsense", false, true},
		{"berth …", false, true},
	} {
		t.Run(tt.line, func(t *testing.T) {
			for _, args := range doctest.Calls(tt.line) {
				err := checkCall(doctest.Command{Args: args, Fenced: tt.fenced})
				if (err == nil) != tt.right {
					t.Errorf("checkCall(%q, fenced %v) = %v, want right: %v", tt.line, tt.fenced, err, tt.right)
				}
			}
		})
	}
}

// TestDocsCommandReference keeps docs/COMMANDS.md what the commands say of
// themselves.
func TestDocsCommandReference(t *testing.T) {
	a, _, _ := testApp()
	got := commandReference(a.rootCommand())
	doctest.Made(t, projectRoot, "COMMANDS.md", got, *updateDocs)
}

const referenceHead = `# Commands

What each command's ` + "`--help`" + ` says, in one place; this file is made from it.

Exit codes: 0 done, 1 failed, 2 usage, 3 agent not running, 4 login needed, 128 and more: ended by a signal. "berth exec"
ends with its program's own, 126 if it cannot be executed, 127 if there is none. An error comes on standard error in two
lines, the second with the next step. ` + "`--json`" + ` prints the snapshot's own objects; their
keys are stable. ` + "`BERTH_HOME`" + ` puts config, state, log and socket under one folder.

`

func commandReference(root *cobra.Command) string {
	var b strings.Builder
	b.WriteString(referenceHead)
	eachCommand(root, func(cmd *cobra.Command) {
		if !cmd.HasSubCommands() || cmd != root && hasOwnFlags(cmd) {
			fmt.Fprintf(&b, "- [%s](#%s): %s\n", cmd.CommandPath(), strings.ReplaceAll(cmd.CommandPath(), " ", "-"), escapeCell(cmd.Short))
		}
	})
	eachCommand(root, func(cmd *cobra.Command) { describeCommand(&b, cmd) })
	return b.String()
}

func describeCommand(b *strings.Builder, cmd *cobra.Command) {
	fmt.Fprintf(b, "\n## %s\n\n", cmd.CommandPath())
	text := cmd.Long
	if text == "" {
		text = cmd.Short + "."
	}
	for paragraph := range strings.SplitSeq(text, "\n\n") {
		if strings.Contains(paragraph, "\n  ") || strings.HasPrefix(paragraph, "  ") {
			fmt.Fprintf(b, "```text\n%s\n```\n\n", paragraph)
			continue
		}
		fmt.Fprintf(b, "%s\n\n", escapeCell(paragraph))
	}
	use := cmd.UseLine()
	if cmd.HasSubCommands() {
		use = cmd.CommandPath() + " COMMAND"
	}
	fmt.Fprintf(b, "```text\n%s\n```\n", use)
	if cmd.Example != "" {
		fmt.Fprintf(b, "\n```sh\n%s\n```\n", strings.ReplaceAll(strings.TrimPrefix(cmd.Example, "  "), "\n  ", "\n"))
	}
	if !hasOwnFlags(cmd) {
		return
	}
	b.WriteString("\n| flag | what it does |\n|---|---|\n")
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if f.Name != "help" && !f.Hidden {
			b.WriteString(flagRow(f))
		}
	})
}

func flagRow(f *pflag.Flag) string {
	name, usage := flagWords(f)
	return fmt.Sprintf("| `%s` | %s |\n", name, escapeCell(usage))
}

// escapeCell leaves nothing in a text that Markdown would take for its own.
func escapeCell(s string) string {
	return strings.NewReplacer("|", `\|`, "<", "&lt;", "*", `\*`, "_", `\_`).Replace(s)
}
