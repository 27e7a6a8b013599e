package clientfiles

import (
	"fmt"
	"regexp"
	"strings"
)

// secretValue matches the value of a setting that may be secret, in JSON and in
// option files.
var secretValue = regexp.MustCompile(`(?i)((?:pass|pwd|secret|token|key)[a-z_-]*"?\s*[:=]\s*)("(?:[^"\\]|\\.)*"|[^",}\s]+)`)

// Diff shows the lines that differ between two contents, as diff does: removed
// ones after "-", added ones after "+". Values that look secret are masked: what
// is shown may end up in a log.
func Diff(before, after []byte) string {
	a, b := splitLines(before), splitLines(after)
	head := 0
	for head < len(a) && head < len(b) && a[head] == b[head] {
		head++
	}
	tail := 0
	for tail < len(a)-head && tail < len(b)-head && a[len(a)-1-tail] == b[len(b)-1-tail] {
		tail++
	}
	var out strings.Builder
	fmt.Fprintf(&out, "@@ line %d @@\n", head+1)
	for _, line := range a[head : len(a)-tail] {
		out.WriteString("-" + mask(line) + "\n")
	}
	for _, line := range b[head : len(b)-tail] {
		out.WriteString("+" + mask(line) + "\n")
	}
	return out.String()
}

func splitLines(data []byte) []string {
	text := strings.ReplaceAll(string(data), "\r\n", "\n")
	if text == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}

func mask(line string) string {
	return secretValue.ReplaceAllStringFunc(line, func(setting string) string {
		m := secretValue.FindStringSubmatch(setting)
		if strings.Trim(m[2], `"`) == "" {
			return setting // an empty value is no secret
		}
		return m[1] + "***"
	})
}
