package access

import (
	"fmt"

	"berth/internal/plain"
)

// The most that is kept of what others wrote, in bytes.
const (
	maxReason = 1000
	maxName   = 200
)

// Clean returns the words of a text that another person wrote, at most limit
// bytes of them. If some are cut off, the size of the whole follows:
// "… (64 KiB)".
func Clean(s string, limit int) string {
	words := plain.Words(s)
	if len(words) <= limit {
		return words
	}
	return fmt.Sprintf("%s… (%s)", plain.Head(words, limit), sizeOf(len(s)))
}

func sizeOf(n int) string {
	if n < 1024 {
		return fmt.Sprintf("%d bytes", n)
	}
	return fmt.Sprintf("%d KiB", (n+512)/1024)
}

// CleanName is what is left of a name that others have chosen.
func CleanName(s string) string { return Clean(s, maxName) }

// cleanNames cleans a list; it returns no nil.
func cleanNames(list []string) []string {
	out := make([]string, 0, len(list))
	for _, s := range list {
		out = append(out, CleanName(s))
	}
	return out
}
