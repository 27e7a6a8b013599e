package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"berth/internal/atomicfile"
)

// verdict says whether a budget is met.
type verdict string

const (
	met    verdict = "yes"
	missed verdict = "**no**"
)

// within is the verdict on a figure that may be at most so large.
func within(figure, most float64) verdict {
	if figure <= most {
		return met
	}
	return missed
}

// atLeast is the verdict on a figure that may be no smaller.
func atLeast(figure, least float64) verdict { return within(-figure, -least) }

// row is one line of the table.
type row struct {
	what     string
	measured string
	budget   string // empty means none
	verdict  verdict
	figure   float64 // the measured, for who judges it later
}

// table is the rows as Markdown.
func table(rows []row) string {
	var b strings.Builder
	b.WriteString("| what | measured | budget | met? |\n|---|---|---|---|\n")
	cell := strings.NewReplacer("|", "\\|", "\n", " ")
	for _, r := range rows {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", cell.Replace(r.what), cell.Replace(r.measured), cell.Replace(r.budget), r.verdict)
	}
	return b.String()
}

func (b *bench) report(ctx context.Context) (string, error) {
	m, err := b.machine(ctx)
	if err != nil {
		return "", err
	}
	parts := b.tables
	if len(b.rows) > 0 {
		parts = append([]string{table(b.rows)}, parts...)
	}
	return fmt.Sprintf("%s\n%s\n", strings.Join(parts, "\n"), m), nil
}

// marks are the lines that a report stands between in a file: of some groups,
// or of a full run where groups is empty.
func marks(groups string) (begin, end string) {
	if groups != "" {
		groups = " " + groups
	}
	return "<!-- bench" + groups + " -->\n", "<!-- end of bench" + groups + " -->\n"
}

// between replaces what stands between the marks in a text.
func between(text, groups, report string) (string, error) {
	begin, end := marks(groups)
	head, rest, ok := strings.Cut(text, begin)
	if !ok {
		return "", fmt.Errorf("there is no line %q", strings.TrimSpace(begin))
	}
	_, tail, ok := strings.Cut(rest, end)
	if !ok {
		return "", fmt.Errorf("there is no line %q after %q", strings.TrimSpace(end), strings.TrimSpace(begin))
	}
	return head + begin + "\n" + report + "\n" + end + tail, nil
}

// rewrite puts the report of some groups into a file.
func rewrite(path, groups, report string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	out, err := between(string(text), groups, report)
	if err != nil {
		return fmt.Errorf("write the report into %s: %w", path, err)
	}
	return atomicfile.Write(path, []byte(out), 0o644)
}
