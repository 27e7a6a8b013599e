package main

import (
	"fmt"
	"strings"

	"berth/agent/state"
	"berth/internal/plain"
	"berth/internal/shell"
)

// cause is a problem with the tunnels that have it; none for one of the agent or a
// session.
type cause struct {
	problem state.Problem
	tunnels []string
}

// causesOf lists what is wrong, each cause once.
func causesOf(s state.Snapshot) []cause {
	var list []cause
	for _, p := range s.Problems {
		list = append(list, cause{problem: p})
	}
	for _, p := range s.Profiles {
		if p.Renewal.Problem != nil {
			list = append(list, cause{problem: *p.Renewal.Problem})
		}
	}
	for _, tunnels := range s.Causes() {
		c := cause{problem: *tunnels[0].Problem}
		for _, t := range tunnels {
			c.tunnels = append(c.tunnels, t.Name)
		}
		list = append(list, c)
	}
	return list
}

// adviceOf are the next steps that the causes name.
func adviceOf(s state.Snapshot) map[string]bool {
	said := make(map[string]bool)
	for _, c := range causesOf(s) {
		said[c.problem.Action] = true
	}
	return said
}

// problemLines says what is wrong with one tunnel, and the next step.
func (a *app) problemLines(lead string, p state.Problem) string {
	lines := a.prose(lead+plain.Line(p.Title)+": "+plain.Line(p.Text), len(lead))
	if step := a.nextStep(p.Action); step != "" {
		lines += "\n" + a.prose("    → "+plain.Line(step), 6)
	}
	return lines
}

// printProblems prints what is wrong, each cause with its next step, which tunnels
// have roles of their own, and why some do not use the native engine.
func (a *app) printProblems(s state.Snapshot) error {
	var lines []string
	for _, c := range causesOf(s) {
		lead, text := "! ", c.problem.Text
		switch n := len(c.tunnels); {
		case n == 1:
			lead += a.apart(plain.Line(c.tunnels[0])) + ": "
		case n > 1:
			text = state.Nameless(text, c.tunnels[0], fmt.Sprintf("each of %d tunnels", n))
		}
		text = a.prose(lead+a.apart(plain.Line(c.problem.Title))+": "+a.apart(plain.Line(text)), 2)
		lines = append(lines, a.paint(red, "!")+strings.TrimPrefix(text, "!"))
		if step := a.nextStep(c.problem.Action); step != "" {
			lines = append(lines, a.prose("    → "+a.apart(plain.Line(step)), 6))
		}
	}
	lines = append(lines, a.remarks(s)...)
	if len(lines) == 0 {
		return nil
	}
	_, err := fmt.Fprintln(a.out, "\n"+strings.Join(lines, "\n"))
	return err
}

// remarks are what is no problem and still good to know, the same of several tunnels
// once.
func (a *app) remarks(s state.Snapshot) []string {
	type remark struct{ text, step string }
	var order []remark
	by := make(map[remark][]string)
	add := func(r remark, name string) {
		if by[r] == nil {
			order = append(order, r)
		}
		by[r] = append(by[r], name)
	}
	roles := elevated(s.Requests)
	for _, t := range s.Tunnels {
		if id := roles[t.Name]; id != "" {
			id = plain.Line(shortID(id))
			add(remark{"elevated by access request " + id, "to give it back: berth request drop " + shell.Quote(id)}, t.Name)
		}
		if t.Guard == state.GuardOff {
			add(remark{text: "open to every user of this machine: guard is off"}, t.Name)
		}
		if t.Engine == state.EngineTSH && t.EngineReason != "" {
			add(remark{text: "through tsh: " + plain.Line(t.EngineReason)}, t.Name)
		}
	}
	lines := make([]string, 0, len(order))
	for _, r := range order {
		lines = append(lines, a.prose("· "+severalNames(by[r])+": "+r.text, 2))
		if r.step != "" {
			lines = append(lines, a.prose("    → "+r.step, 6))
		}
	}
	return lines
}

// severalNames names a few tunnels, and counts many.
func severalNames(names []string) string {
	const few = 5
	if len(names) > few {
		return fmt.Sprintf("%s and %d more tunnels", plain.Line(join(names[:few-1])), len(names)-few+1)
	}
	return plain.Line(join(names))
}
