package tray

import (
	"strings"

	"berth/internal/plain"
)

// The widths at which other people's text is cut, in columns.
const (
	maxName   = 40
	maxReason = 48
	maxLabel  = 96   // of a whole line
	maxTip    = 120  // of the icon's words: Windows shows 127 characters
	maxTold   = 1000 // of what a notification says
)

// escape writes a label so that the system shows it as it is: each reads one
// character as a mark of the key that chooses the line.
func escape(goos, label string) string {
	switch goos {
	case "windows":
		// A tab would part the label from its shortcut; plain took it away.
		return strings.ReplaceAll(label, "&", "&&")
	case "darwin":
		return label
	default:
		return strings.ReplaceAll(label, "_", "__")
	}
}

// words turns a state's name into words.
func words[T ~string](s T) string { return plain.Words(strings.ReplaceAll(string(s), "_", " ")) }

// hostOf drops the usual port of a proxy's address.
func hostOf(proxy string) string { return strings.TrimSuffix(proxy, ":443") }
