package main

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func testApp() (a *app, out, errOut *bytes.Buffer) {
	out, errOut = &bytes.Buffer{}, &bytes.Buffer{}
	return &app{in: strings.NewReader(""), out: out, err: errOut, env: func(string) string { return "" }}, out, errOut
}

// noJSON are the commands without --json, each with the reason.
var noJSON = map[string]string{
	"berth":                   "holds others, and shows the status for people",
	"berth agent":             "holds others",
	"berth agent install":     "talks to a person",
	"berth agent logs":        "prints the log as it is",
	"berth agent restart":     "talks to a person",
	"berth agent run":         "logs",
	"berth agent start":       "talks to a person",
	"berth agent stop":        "talks to a person",
	"berth agent uninstall":   "talks to a person",
	"berth ca":                "holds others",
	"berth client":            "holds others",
	"berth completion":        "prints a script",
	"berth config":            "holds others",
	"berth config edit":       "runs a program",
	"berth config schema":     "prints JSON anyway",
	"berth exec":              "runs a program",
	"berth help":              "prints help",
	"berth kube":              "holds others",
	"berth kube config":       "prints YAML for other programs",
	"berth kube credentials":  "prints JSON anyway",
	"berth link":              "holds others",
	"berth link follow":       "asks a person",
	"berth licenses":          "prints texts as they are",
	"berth logs":              "prints the log as it is",
	"berth logout":            "has nothing to say but that it is done",
	"berth recording":         "holds others",
	"berth recording cat":     "prints the recording as it is",
	"berth recording export":  "writes a file",
	"berth recording play":    "plays at a terminal",
	"berth request":           "holds others",
	"berth setup":             "talks to a person",
	"berth telemetry":         "holds others",
	"berth telemetry explain": "talks to a person",
	"berth telemetry export":  "prints JSON anyway",
	"berth telemetry reset":   "has nothing to say but that it is done",
	"berth tray":              "shows itself",
	"berth tray install":      "has nothing to say but that it is done",
	"berth tray uninstall":    "has nothing to say but that it is done",
	"berth tunnel":            "holds others",
	"berth uninstall":         "talks to a person",
}

func TestHelp(t *testing.T) {
	a, out, _ := testApp()
	seen := make(map[string]bool)
	eachCommand(a.rootCommand(), func(cmd *cobra.Command) {
		path := cmd.CommandPath()
		seen[path] = true
		t.Run(strings.ReplaceAll(path, " ", "_"), func(t *testing.T) {
			out.Reset()
			if err := cmd.Help(); err != nil {
				t.Fatal(err)
			}
			checkHelpText(t, out.String())
			checkWords(t, cmd)
			cmd.LocalFlags().VisitAll(func(f *pflag.Flag) { checkFlag(t, f) })
			_, without := noJSON[path]
			if has := cmd.Flags().Lookup("json") != nil; has == without {
				t.Errorf("has --json: %v, want %v", has, !without)
			}
		})
	})
	for path := range noJSON {
		if !seen[path] {
			t.Errorf("there is no command %q any more", path)
		}
	}
}

func checkHelpText(t *testing.T, help string) {
	t.Helper()
	for i, line := range strings.Split(help, "\n") {
		if n := utf8.RuneCountInString(line); n > helpWidth {
			t.Errorf("line %d is %d columns wide, more than %d: %q", i+1, n, helpWidth, line)
		}
		if strings.TrimRight(line, " \t") != line {
			t.Errorf("line %d ends in white space: %q", i+1, line)
		}
	}
	if strings.Contains(help, "\t") || strings.Contains(help, "\n\n\n") {
		t.Errorf("tabs or too many empty lines:\n%s", help)
	}
}

func checkWords(t *testing.T, cmd *cobra.Command) {
	t.Helper()
	first, _ := utf8.DecodeRuneInString(cmd.Short)
	if !unicode.IsUpper(first) || strings.HasSuffix(cmd.Short, ".") {
		t.Errorf("Short = %q, want a capital and no full stop", cmd.Short)
	}
	if long := strings.TrimSpace(cmd.Long); long != "" {
		if long != cmd.Long {
			t.Error("Long begins or ends in white space")
		}
		if !strings.HasSuffix(long, ".") && !strings.Contains(long, "\n  ") {
			t.Errorf("Long = %q, want sentences or a list", long)
		}
	}
	for line := range strings.Lines(cmd.Example) {
		if !strings.HasPrefix(line, "  ") {
			t.Errorf("example %q is not indented", line)
		}
	}
	if !cmd.HasSubCommands() && cmd.Flags().NFlag() == 0 && hasOwnFlags(cmd) && !strings.Contains(cmd.UseLine(), "[flags]") {
		t.Errorf("usage %q does not tell of its flags", cmd.UseLine())
	}
}

// hasOwnFlags reports whether a command has flags other than --help.
func hasOwnFlags(cmd *cobra.Command) bool {
	own := false
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) { own = own || f.Name != "help" })
	return own
}

func checkFlag(t *testing.T, f *pflag.Flag) {
	t.Helper()
	value, usage := placeholder(f)
	if strings.ToUpper(value) != value {
		t.Errorf("--%s %s: want the placeholder in capitals", f.Name, value)
	}
	first, _ := utf8.DecodeRuneInString(usage)
	word, _, _ := strings.Cut(usage, " ")
	if usage == "" || strings.HasSuffix(usage, ".") || (unicode.IsUpper(first) && strings.ToUpper(word) != word) {
		t.Errorf("--%s: %q, want a description without a capital or a full stop", f.Name, usage)
	}
}

// Every command shows how it is used, and no example is for none.
func TestHelpHasExamples(t *testing.T) {
	a, _, _ := testApp()
	seen := make(map[string]bool)
	eachCommand(a.rootCommand(), func(cmd *cobra.Command) {
		seen[cmd.CommandPath()] = true
		if cmd.Example == "" {
			t.Errorf("%s has no example", cmd.CommandPath())
		}
	})
	for path := range examples {
		if !seen[path] {
			t.Errorf("there is an example of %q, which does not exist", path)
		}
	}
}

// Every command that does something says what its exit codes mean.
func TestHelpHasExitCodes(t *testing.T) {
	a, out, _ := testApp()
	seen := make(map[string]bool)
	eachCommand(a.rootCommand(), func(cmd *cobra.Command) {
		seen[cmd.CommandPath()] = true
		out.Reset()
		if err := cmd.Help(); err != nil {
			t.Fatal(err)
		}
		if cmd.Runnable() && !strings.Contains(out.String(), "\nExit codes:\n  0 done, 1 failed, 2 wrong usage, ") {
			t.Errorf("%s does not say what its exit codes mean", cmd.CommandPath())
		}
	})
	for path := range exitNotes {
		if !seen[path] {
			t.Errorf("there is a note on the exit codes of %q, which does not exist", path)
		}
	}
}

// No wrong word is taken for a command that ends or deletes something.
func TestDangerousIsNotSuggested(t *testing.T) {
	a, _, _ := testApp()
	root := a.rootCommand()
	known := make(map[string]bool)
	eachCommand(root, func(cmd *cobra.Command) {
		known[cmd.Name()] = true
		for _, c := range cmd.Commands() {
			if !slices.Contains(dangerous, c.Name()) {
				continue
			}
			err := noArgs(cmd, []string{c.Name() + "x"})
			if strings.Contains(hintOf(err), "did you mean") {
				t.Errorf("%s: %v: %s", cmd.CommandPath(), err, hintOf(err))
			}
		}
	})
	for _, name := range dangerous {
		if !known[name] {
			t.Errorf("there is no command %q", name)
		}
	}
}

// The words of other programs lead to the commands of "berth tunnel".
func TestWordsFromElsewhere(t *testing.T) {
	a, _, _ := testApp()
	root := a.rootCommand()
	group, _, err := root.Find([]string{"tunnel"})
	if err != nil {
		t.Fatal(err)
	}
	for word, name := range fromElsewhere {
		want := "berth tunnel " + name
		cmd, _, err := root.Find([]string{"tunnel", name})
		if err != nil || cmd.CommandPath() != want {
			t.Errorf("there is no %q", want)
		}
		for _, beneath := range []*cobra.Command{root, group} {
			if got := meantBy(beneath, word); got != want {
				t.Errorf("%s %s is taken for %q, want %q", beneath.CommandPath(), word, got, want)
			}
		}
	}
	for word, want := range map[string]string{"stopp": "", "delet": "", "xy": "", "": "", "lss": "berth ls", "statsu": "berth status"} {
		if got := meantBy(root, word); got != want {
			t.Errorf("berth %s is taken for %q, want %q", word, got, want)
		}
	}
}

func TestTopics(t *testing.T) {
	for _, tt := range append([]topic{{name: "topics", text: "Topics:"}}, topics...) {
		t.Run(tt.name, func(t *testing.T) {
			a, out, _ := testApp()
			root := a.rootCommand()
			root.SetArgs([]string{"help", tt.name})
			if err := root.Execute(); err != nil {
				t.Fatal(err)
			}
			checkHelpText(t, out.String())
			if !strings.Contains(out.String(), reflow(tt.text)) {
				t.Errorf("help %s prints %q", tt.name, out.String())
			}
			if tt.name != "topics" && !strings.Contains(tt.text, "\n  berth ") {
				t.Error("it shows no command")
			}
		})
	}
}

// Every command the help, an example or a hint names is there, with its flags.
func TestNamedCommandsExist(t *testing.T) {
	a, out, _ := testApp()
	root := a.rootCommand()
	var texts []string
	eachCommand(root, func(cmd *cobra.Command) {
		out.Reset()
		if err := cmd.Help(); err != nil {
			t.Fatal(err)
		}
		texts = append(texts, out.String())
	})
	for _, tp := range topics {
		texts = append(texts, tp.text)
	}
	named := regexp.MustCompile(`(?:^  |"|\$\()berth ([a-z]+(?: [a-z]+)*)((?: [^\n|")>]*)?)`)
	flag := regexp.MustCompile(`--([a-z-]+)`)
	found := 0
	for _, text := range texts {
		for line := range strings.SplitSeq(text, "\n") {
			for _, m := range named.FindAllStringSubmatch(line, -1) {
				cmd, _, err := root.Find(strings.Fields(m[1]))
				if err != nil || cmd == root {
					t.Errorf("%q names no command", m[0])
					continue
				}
				found++
				own, _, _ := strings.Cut(m[2], " -- ")
				for _, f := range flag.FindAllStringSubmatch(own, -1) {
					if cmd.Flags().Lookup(f[1]) == nil && cmd.InheritedFlags().Lookup(f[1]) == nil {
						t.Errorf("%q: %s has no --%s", m[0], cmd.CommandPath(), f[1])
					}
				}
			}
		}
	}
	if found < 20 {
		t.Errorf("found %d commands in the help: the search is broken", found)
	}
}
