package main

import (
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestHintIsNotTheCommand: a hint never is the command that was just run.
func TestHintIsNotTheCommand(t *testing.T) {
	for _, tt := range []struct{ ran, hint, want string }{
		{"tunnel ls", `see "berth tunnel ls"`, ""},
		{"tunnel why pg", "berth tunnel why pg", ""},
		{"tunnel why pg --json", "berth tunnel why pg", ""},
		{"tunnel why pg", "use another database user, or berth tunnel why pg", "use another database user"},
		{"tunnel restart a b", "berth tunnel restart b", ""},
		{"tunnel restart a", "berth tunnel restart b", "berth tunnel restart b"},
		{"login a.example:443 --renew", "berth login --renew a.example:443", ""},
		{"login a.example:443", "berth login --renew a.example:443", "berth login --renew a.example:443"},
		{"resources db --cluster=x", "berth resources db --cluster x", ""},
		{"resources db", "berth resources db --cluster x", "berth resources db --cluster x"},
		{"agent logs --journal", `see "berth agent logs"`, `see "berth agent logs"`},
		{"config check", "berth config check", ""},
		{"doctor", "berth doctor", ""},
		{"tunnel add db x", `choose another name, or see "berth tunnel ls"`, `choose another name, or see "berth tunnel ls"`},
		{"tunnel ls", `choose another name, or see "berth tunnel ls"`, "choose another name"},
		{"agent install", `start it with "berth agent install", or in this terminal with "berth agent run"`,
			`start it with "berth agent install", or in this terminal with "berth agent run"`},
		{"login", "run berth login in a terminal", "run berth login in a terminal"},
		{"", "berth doctor", "berth doctor"},
	} {
		a, _, _ := testApp()
		a.args = strings.Fields(tt.ran)
		if got := a.nextStep(tt.hint); got != tt.want {
			t.Errorf("after %q the hint %q is %q, want %q", tt.ran, tt.hint, got, tt.want)
		}
	}
}

// circular returns the line of a command's output that gives the command itself as
// the next step.
func circular(args []string, out string) string {
	a, _, _ := testApp()
	a.args = args
	for line := range strings.Lines(out) {
		for _, before := range []string{"berth: hint: ", "→ ", "Next:     "} {
			_, hint, ok := strings.Cut(strings.TrimSpace(line), before)
			if ok && a.nextStep(hint) != hint {
				return line
			}
		}
	}
	return ""
}

// cmdRefusals runs the lines of a file, commands that are refused, and checks that
// no refusal gives the command itself as the next step.
func cmdRefusals(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: refusals FILE")
	}
	var served []string
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		err := ts.Exec(words[0], words[1:]...)
		out := ts.ReadFile("stdout") + ts.ReadFile("stderr")
		if hint := circular(words[1:], out); hint != "" {
			ts.Fatalf("%s answers with itself: %s", line, hint)
		}
		if err == nil {
			served = append(served, strings.TrimSpace(line))
		}
	}
	if len(served) > 0 {
		ts.Fatalf("these are not refused: %q", served)
	}
}
