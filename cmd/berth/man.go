//go:build release

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cpuguy83/go-md2man/v2/md2man"
	generator "github.com/invopop/jsonschema"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"berth/agent/config"
	"berth/agent/state"
)

// manTopics are the sections that every page has at its end, and the topics
// from which they come.
var manTopics = [][2]string{{"FILES", "files"}, {"ENVIRONMENT", "environment"}, {"EXIT STATUS", "exit-codes"}}

// writeManPages writes a page for each command, and berth.yaml(5).
func writeManPages(root *cobra.Command, dir string) error {
	var err error
	eachCommand(root, func(cmd *cobra.Command) {
		if err == nil && !cmd.Hidden {
			name := strings.ReplaceAll(cmd.CommandPath(), " ", "-")
			err = writeManPage(dir, name, "1", commandPage(cmd))
		}
	})
	if err != nil {
		return err
	}
	page, err := configPage()
	if err != nil {
		return err
	}
	return writeManPage(dir, "berth.yaml", "5", page)
}

func writeManPage(dir, name, section, markdown string) error {
	head := fmt.Sprintf("%% %q %q \"\" \"berth\" \"berth manual\"\n", strings.ToUpper(name), section)
	page := md2man.Render([]byte(head + markdown))
	page = append([]byte(".ad l\n"), page...)                              // lines are not filled up with spaces
	return os.WriteFile(filepath.Join(dir, name+"."+section), page, 0o644) //nolint:gosec // G306: for every user to read
}

// commandPage is the page of a command, in Markdown.
func commandPage(cmd *cobra.Command) string {
	var b strings.Builder
	path := cmd.CommandPath()
	section := func(title, text string) { fmt.Fprintf(&b, "# %s\n\n%s\n\n", title, strings.TrimRight(text, "\n")) }
	section("NAME", strings.ReplaceAll(path, " ", "-")+" - "+manText(lowerFirst(cmd.Short)))
	use := strings.TrimPrefix(cmd.UseLine(), path)
	if cmd.HasSubCommands() {
		use = " COMMAND"
	}
	section("SYNOPSIS", "**"+path+"**"+manText(strings.Replace(use, "[flags]", "[OPTION...]", 1)))
	text := cmd.Long
	if text == "" {
		text = cmd.Short + "."
	}
	section("DESCRIPTION", manBlocks(text))
	if cmd.HasSubCommands() {
		var list strings.Builder
		for _, c := range cmd.Commands() {
			if c.IsAvailableCommand() {
				fmt.Fprintf(&list, "**%s**\n: %s.\n\n", c.Name(), manText(c.Short))
			}
		}
		section("COMMANDS", list.String())
	}
	if hasFlags := cmd.LocalFlags().HasAvailableFlags(); hasFlags {
		var list strings.Builder
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden {
				typed, usage := flagWords(f)
				fmt.Fprintf(&list, "**%s**\n: %s.\n\n", manText(typed), manText(upperFirst(usage)))
			}
		})
		section("OPTIONS", list.String())
	}
	section("EXAMPLES", manIndented(cmd.Example))
	for _, t := range manTopics {
		found, _ := topicOf(t[1]) // a topic's last paragraph is an example
		section(t[0], manBlocks(found.text[:strings.LastIndex(found.text, "\n\n")]))
	}
	section("SEE ALSO", strings.Join(related(cmd), ", "))
	return b.String()
}

// related are the pages that stand around a command.
func related(cmd *cobra.Command) []string {
	var pages []string
	add := func(c *cobra.Command) {
		page := "**" + strings.ReplaceAll(c.CommandPath(), " ", "-") + "**(1)"
		if c != cmd && !c.Hidden && !slices.Contains(pages, page) {
			pages = append(pages, page)
		}
	}
	add(cmd.Root())
	if cmd.HasParent() {
		add(cmd.Parent())
	}
	for _, c := range cmd.Commands() {
		add(c)
	}
	return append(pages, "**berth.yaml**(5)")
}

// configPage is berth.yaml(5), from the schema of the config.
func configPage() (string, error) {
	var schema generator.Schema
	if err := json.Unmarshal(config.Schema(), &schema); err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString("# NAME\n\nberth.yaml - the configuration of berth\n\n# DESCRIPTION\n\n" +
		"The running agent follows every change of the file and touches only what changed. A file with mistakes changes nothing; " +
		"**berth config check** names each with its line. It holds no secret. Without a file every key has its default.\n\n")
	b.WriteString("# KEYS\n\n")
	manKeys(&b, "", &schema)
	b.WriteString("# EXAMPLES\n\n" + manIndented(`version: 1
profiles:
  - proxy: teleport.example.com:443
    renew: {mode: ask, before: 15m}
tunnels:
  - name: prod-pg
    kind: db
    cluster: example.com
    resource: pg-prod
    db_user: alice
    db_name: app
    port: 15432`) + "\n\n")
	files, _ := topicOf("files")
	b.WriteString("# FILES\n\n" + manBlocks(files.text[:strings.LastIndex(files.text, "\n\n")]) + "\n\n# SEE ALSO\n\n**berth**(1), **berth-config-check**(1), **berth-config-edit**(1), **berth-config-schema**(1)\n")
	return b.String(), nil
}

// manKeys lists the keys of an object, and those of the objects within.
func manKeys(b *strings.Builder, at string, s *generator.Schema) {
	for p := s.Properties.Oldest(); p != nil; p = p.Next() {
		name := strings.TrimPrefix(at+"."+p.Key, ".")
		fmt.Fprintf(b, "**%s**\n: %s", manText(name), manText(p.Value.Description))
		if len(p.Value.Enum) > 1 {
			words := make([]string, len(p.Value.Enum))
			for i, v := range p.Value.Enum {
				words[i] = fmt.Sprint(v)
			}
			fmt.Fprintf(b, " One of %s.", manText(strings.Join(words, ", ")))
		}
		if p.Value.Default != nil && p.Value.Default != false {
			fmt.Fprintf(b, " Default: %v.", p.Value.Default)
		}
		b.WriteString("\n\n")
		switch {
		case p.Value.Type == "object":
			manKeys(b, name, p.Value)
		case p.Value.Type == "array" && p.Value.Items.Type == "object":
			manKeys(b, name+"[]", p.Value.Items)
		}
	}
}

// manBlocks makes blocks to be shown as they are of what is a list or an
// example in a text.
func manBlocks(text string) string {
	paragraphs := strings.Split(text, "\n\n")
	for i, p := range paragraphs {
		lead, list, found := strings.Cut(p, "\n  ")
		switch {
		case strings.HasPrefix(p, "  "):
			paragraphs[i] = manIndented(p)
		case found:
			paragraphs[i] = manText(lead) + "\n\n" + manIndented("  "+list)
		default:
			paragraphs[i] = manText(p)
		}
	}
	return strings.Join(paragraphs, "\n\n")
}

// manIndented is a block of code.
func manIndented(text string) string {
	return "    " + strings.ReplaceAll(text, "\n", "\n    ")
}

// manText leaves nothing in a text that Markdown would take for its own.
func manText(text string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "_", `\_`, "<", `\<`, "`", "\\`", "[", `\[`, "~", `\~`).Replace(text)
}

// lowerFirst leaves a name its capital.
func lowerFirst(s string) string {
	if strings.HasPrefix(s, "Teleport") {
		return s
	}
	return state.LowerFirst(s)
}

func upperFirst(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
