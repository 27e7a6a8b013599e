package osservice

import "strings"

// runKeyCommand returns the value of the Run key for cfg: a command line as
// Windows programs take them apart.
func runKeyCommand(cfg Config) string {
	words := []string{windowsQuote(cfg.Program, true)}
	for _, w := range cfg.Args {
		words = append(words, windowsQuote(w, false))
	}
	return strings.Join(words, " ")
}

// windowsQuote quotes a word: a backslash is only special before a quote.
func windowsQuote(s string, always bool) string {
	if !always && s != "" && !strings.ContainsAny(s, " \t\"") {
		return s
	}
	var b strings.Builder
	b.WriteByte('"')
	slashes := 0
	for i := range len(s) {
		switch c := s[i]; c {
		case '\\':
			slashes++
		case '"':
			b.WriteString(strings.Repeat(`\`, slashes+1))
			slashes = 0
		default:
			slashes = 0
		}
		b.WriteByte(s[i])
	}
	b.WriteString(strings.Repeat(`\`, slashes))
	b.WriteByte('"')
	return b.String()
}

// runKeyProgram finds in a value of the Run key what it starts. A program's
// path has no quote in it.
func runKeyProgram(command string) string {
	if rest, ok := strings.CutPrefix(command, `"`); ok {
		program, _, _ := strings.Cut(rest, `"`)
		return program
	}
	program, _, _ := strings.Cut(command, " ")
	return program
}

// switchedOff reports whether a value of StartupApproved says that the user
// switched the program off in the Task Manager: the first byte is odd then.
func switchedOff(approved []byte) bool { return len(approved) > 0 && approved[0]&1 == 1 }
