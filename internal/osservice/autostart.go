package osservice

import (
	"fmt"
	"strings"
)

// programKey is the desktop entry's own note of what it starts, unquoted.
const programKey = "X-Berth-Program="

// desktopEntry returns the autostart entry of cfg.
func desktopEntry(cfg Config) string {
	words := []string{cfg.Program}
	if len(cfg.Env) > 0 {
		words = []string{"env"}
		for _, e := range cfg.Env {
			words = append(words, e.Name+"="+e.Value)
		}
		words = append(words, cfg.Program)
	}
	words = append(words, cfg.Args...)
	for i, w := range words {
		words[i] = execQuote(w)
	}
	return fmt.Sprintf(`# Written by "berth agent install", which replaces it.
[Desktop Entry]
Type=Application
Name=%s
Comment=%s
Exec=%s
%s%s
NoDisplay=true
Terminal=false
X-GNOME-Autostart-enabled=true
`, desktopText(cfg.Name), desktopText(cfg.Description), desktopText(strings.Join(words, " ")), programKey, desktopText(cfg.Program))
}

// execQuote quotes one word of an Exec line: within double quotes these four
// characters are escaped, and a percent sign is always doubled.
func execQuote(s string) string {
	s = strings.ReplaceAll(s, "%", "%%")
	if s != "" && !strings.ContainsAny(s, " \t\n\"'\\><~|&;$*?#()`") {
		return s
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "`", "\\`", `$`, `\$`).Replace(s) + `"`
}

// desktopText escapes a value of type string: the escapes of the file format
// come on top of those of the Exec line.
func desktopText(s string) string {
	return strings.NewReplacer(`\`, `\\`, "\n", `\n`, "\t", `\t`, "\r", `\r`).Replace(s)
}

// desktopProgram finds in an entry what it starts.
func desktopProgram(entry string) string {
	for line := range strings.Lines(entry) {
		if value, ok := strings.CutPrefix(strings.TrimRight(line, "\r\n"), programKey); ok {
			return strings.NewReplacer(`\\`, `\`, `\n`, "\n", `\t`, "\t", `\r`, "\r").Replace(value)
		}
	}
	return ""
}

// desktopDisabled reports whether the user has switched an entry off, in one
// of the two ways desktops do that.
func desktopDisabled(entry string) bool {
	for line := range strings.Lines(entry) {
		switch strings.TrimSpace(line) {
		case "Hidden=true", "X-GNOME-Autostart-enabled=false":
			return true
		}
	}
	return false
}
