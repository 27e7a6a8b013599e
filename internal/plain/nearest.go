package plain

import (
	"fmt"
	"strings"
)

// DidYouMean asks whether one of choices was meant by got: the nearest one, else those,
// few, that have it within them. It is empty when nothing is alike.
func DidYouMean(got string, choices []string) string {
	if near := Nearest(got, choices, strings.ToLower); near != "" {
		return fmt.Sprintf("did you mean %q?", near)
	}
	var found []string
	for _, c := range choices {
		if len(got) >= minWithin && strings.Contains(strings.ToLower(c), strings.ToLower(got)) {
			found = append(found, fmt.Sprintf("%q", c))
		}
	}
	if last := len(found) - 1; last >= 0 && last < maxWithin {
		head := strings.Join(found[:last], ", ")
		return "did you mean " + strings.TrimPrefix(head+" or "+found[last], " or ") + "?"
	}
	return ""
}

const (
	minWithin = 2 // bytes: a letter alone is in most names
	maxWithin = 3 // names: more are a list, which has a command of its own
)

// Nearest returns the one of choices that got was probably meant to be, letter for
// letter as norm has them; empty when none is near.
func Nearest(got string, choices []string, norm func(string) string) string {
	g := []rune(norm(Head(got, maxNearest)))
	if len(g) == 0 {
		return ""
	}
	best, bestDist := "", 1+max(1, len(g)/3)
	for _, c := range choices {
		if d := distance(g, []rune(norm(Head(c, maxNearest)))); d < bestDist {
			best, bestDist = c, d
		}
	}
	return best
}

// maxNearest bounds the bytes that are compared: the time grows with their square.
const maxNearest = 64

// distance is the number of letters to insert, delete, replace or swap with
// their neighbour that turns a into b.
func distance(a, b []rune) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			d := min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d = min(d, rows[i-2][j-2]+1)
			}
			rows[i][j] = d
		}
	}
	return rows[len(a)][len(b)]
}
