package autostart

import "strings"

// desktopEntry is an entry as the Desktop Entry Specification has it.
func desktopEntry(e Entry) []byte {
	words := []string{quoteExec(e.Program)}
	for _, a := range e.Args {
		words = append(words, quoteExec(a))
	}
	return []byte(`[Desktop Entry]
Type=Application
Version=1.0
Name=berth
Comment=Teleport databases and Kubernetes clusters on local addresses that never change
Icon=berth
Exec=` + strings.Join(words, " ") + `
Terminal=false
NoDisplay=true
StartupNotify=false
`)
}

// quoteExec quotes an argument of Exec. Its backslashes are read twice: as a
// string of the file first, as a quoted argument then.
func quoteExec(s string) string {
	s = strings.ReplaceAll(s, "%", "%%")
	if s != "" && !strings.ContainsAny(s, " \t\n\"'\\><~|&;$*?#()`=") {
		return s
	}
	quoted := strings.NewReplacer("\\", "\\\\", "\"", "\\\"", "`", "\\`", "$", "\\$").Replace(s)
	inFile := strings.NewReplacer("\\", "\\\\", "\n", "\\n", "\t", "\\t").Replace(quoted)
	return `"` + inFile + `"`
}
