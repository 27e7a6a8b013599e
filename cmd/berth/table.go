package main

import (
	"fmt"
	"slices"
	"strings"

	"berth/internal/plain"
)

const (
	tableGap = 2 // blanks between columns
	// shortCell is how short a cell is made before a column is left out, and
	// shortestCell when no more can be.
	shortCell    = 12
	shortestCell = 8
)

// rigid are the columns whose cells make no sense shortened.
var rigid = []string{"", "STATE", "ADDRESS", "ID", "ENGINE", "CONNECTIONS", "PROTOCOL", "UNTIL", "START", "DURATION", "KIND", "IN/S", "OUT/S"}

// table prints rows in columns under a header. Every cell is cleaned; color
// may paint one. On a terminal that is too narrow names are shortened in the
// middle, then the columns in spare left out, the first of them first; that is done
// at once where two names would look the same.
func (a *app) table(header []string, rows [][]string, color func(column int, cell string) string, spare ...string) error {
	cells := append([][]string{header}, rows...)
	widths := make([]int, len(header))
	for _, row := range cells {
		for i := range row {
			row[i] = plain.Line(row[i])
			widths[i] = max(widths[i], plain.Width(row[i]))
		}
	}
	widths = fit(cells, widths, a.width(), spare)
	if columns := a.width(); columns > 0 && total(widths) > columns {
		return a.stacked(rows, widths, columns, color)
	}
	var b strings.Builder
	for n, row := range cells {
		line, gap := "", 0
		for i, cell := range row {
			if widths[i] < 0 {
				continue
			}
			full := cell
			cell = plain.Middle(cell, widths[i])
			used := plain.Width(cell)
			cell = a.apart(cell)
			if n > 0 && color != nil {
				cell = a.paint(color(i, full), cell)
			}
			if used > 0 {
				line += strings.Repeat(" ", gap) + cell
				gap = 0
			}
			gap += widths[i] - used + tableGap
		}
		b.WriteString(line + "\n")
	}
	_, err := a.out.Write([]byte(b.String()))
	return err
}

// stacked prints rows on a terminal that is too narrow for columns: each cell in a line of
// its own, under the first of its row.
func (a *app) stacked(rows [][]string, widths []int, columns int, color func(column int, cell string) string) error {
	var b strings.Builder
	for _, row := range rows {
		margin := ""
		for i, cell := range row {
			if widths[i] < 0 || cell == "" {
				continue
			}
			line := a.apart(plain.Middle(cell, max(columns-len(margin), shortCell)))
			if color != nil {
				line = a.paint(color(i, cell), line)
			}
			b.WriteString(margin + line + "\n")
			margin = strings.Repeat(" ", tableGap)
		}
	}
	_, err := a.out.Write([]byte(b.String()))
	return err
}

// total is how many columns of a terminal a table takes.
func total(widths []int) int {
	sum := -tableGap
	for _, w := range widths {
		if w >= 0 {
			sum += w + tableGap
		}
	}
	return sum
}

// apart keeps a clean text of others from moving the words around it on a terminal,
// where it may be written from right to left.
func (a *app) apart(text string) string {
	if a.terminal {
		return plain.Isolated(text)
	}
	return text
}

// fit returns the widths that columns of cells, the first row being the header, get
// on a terminal of so many columns, zero for any number; -1 leaves one out.
func fit(cells [][]string, natural []int, columns int, spare []string) []int {
	header, widths, all := cells[0], slices.Clone(natural), spare
	for columns > 0 && (!narrow(header, widths, columns, shortCell) || alike(cells, widths, all)) {
		if len(spare) == 0 {
			narrow(header, widths, columns, shortestCell)
			break
		}
		widths[slices.Index(header, spare[0])] = -1
		spare = spare[1:]
		for i := range widths {
			if widths[i] >= 0 {
				widths[i] = natural[i]
			}
		}
	}
	return widths
}

// alike reports whether cells of a column that differ look the same in its width. Those
// in spare are not what a row is known by.
func alike(cells [][]string, widths []int, spare []string) bool {
	for i, title := range cells[0] {
		if slices.Contains(spare, title) {
			continue
		}
		full := make(map[string]string)
		for _, row := range cells[1:] {
			short := plain.Middle(row[i], widths[i])
			if other, ok := full[short]; ok && other != row[i] {
				return true
			}
			full[short] = row[i]
		}
	}
	return false
}

// narrow shortens the widest columns until all fit, none below least, and reports
// whether they do.
func narrow(header []string, widths []int, columns, least int) bool {
	for sum := total(widths); sum > columns; sum-- {
		widest := -1
		for i, w := range widths {
			if w > least && !slices.Contains(rigid, header[i]) && (widest < 0 || w > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			return false
		}
		widths[widest]--
	}
	return true
}

// width is how many columns out has; zero means that it is no terminal.
func (a *app) width() int {
	if a.size == nil {
		return 0
	}
	columns, _ := a.size()
	return columns
}

// prose returns a text broken at words where the terminal ends. The lines after the
// first are indented by so many blanks.
func (a *app) prose(text string, indent int) string {
	columns := a.width()
	if columns == 0 || plain.Width(plain.Line(text)) <= columns {
		return text
	}
	lead := text[:len(text)-len(strings.TrimLeft(text, " "))]
	return lead + hanging(text, max(indent, len(lead)), indent, columns)
}

// sentences prints clean lines, each broken at words where the terminal ends.
func (a *app) sentences(lines ...string) error {
	for i, line := range lines {
		lines[i] = a.prose(line, tableGap)
	}
	_, err := fmt.Fprintln(a.out, strings.Join(lines, "\n"))
	return err
}

// labelled prints a value after its label, in lines of its own where the terminal is
// narrow.
func (a *app) labelled(margin, label, value string) {
	const gutter = 13 // the labels and a blank
	columns, indent := a.width(), len(margin)+gutter
	switch {
	case columns == 0 || indent+plain.Width(plain.Line(value)) <= columns:
		fmt.Fprintf(a.out, "%s%-12s %s\n", margin, label, value)
	case columns < 3*gutter:
		indent = len(margin) + tableGap
		fmt.Fprintf(a.out, "%s%s\n%s%s\n", margin, label, strings.Repeat(" ", indent), hanging(value, indent, indent, columns))
	default:
		fmt.Fprintf(a.out, "%s%-12s %s\n", margin, label, hanging(value, indent, indent, columns))
	}
}

// hanging breaks a text at words: its first line begins where used columns are taken, the
// others are indented by so many blanks.
func hanging(text string, used, indent, columns int) string {
	lines := plain.Wrap(text, max(columns-max(used, indent), shortCell))
	return strings.Join(lines, "\n"+strings.Repeat(" ", indent))
}
