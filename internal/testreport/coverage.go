package main

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
)

// wanted is the coverage below which a package is named, in percent.
const wanted = 70

// share is how many of a package's statements are covered.
type share struct{ covered, all int }

func (s share) percent() float64 { return 100 * float64(s.covered) / float64(s.all) }

// printCoverage prints a line for each package of a profile, the least covered
// first, and names those below what is wanted.
func printCoverage(out io.Writer, profile string) error {
	f, err := os.Open(profile)
	if err != nil {
		return fmt.Errorf("read coverage: %w", err)
	}
	defer f.Close()
	shares, err := coverage(f)
	if err != nil {
		return fmt.Errorf("read coverage: %w", err)
	}
	fmt.Fprint(out, "\ncovered by all tests together, in percent of a package's statements:\n")
	var low []string
	for _, pkg := range slices.SortedFunc(maps.Keys(shares), func(a, b string) int {
		return cmp.Or(cmp.Compare(shares[a].percent(), shares[b].percent()), cmp.Compare(a, b))
	}) {
		percent := shares[pkg].percent()
		fmt.Fprintf(out, "%6.1f  %s\n", percent, pkg)
		if percent < wanted {
			low = append(low, pkg)
		}
	}
	if len(low) > 0 {
		fmt.Fprintf(out, "under %d %%: %s\n", wanted, strings.Join(low, " "))
	}
	return nil
}

// coverage reads a profile. A block is in it once for each test program that
// links it, and is covered if any of them runs it.
func coverage(profile io.Reader) (map[string]share, error) {
	blocks := make(map[string]bool) // covered, by place and size
	lines := bufio.NewScanner(profile)
	for lines.Scan() {
		block, count, ok := cutLast(lines.Text(), " ")
		if strings.HasPrefix(lines.Text(), "mode: ") || !ok {
			continue
		}
		blocks[block] = blocks[block] || count != "0"
	}
	shares := make(map[string]share)
	for block, covered := range blocks {
		place, size, _ := cutLast(block, " ")
		file, _, _ := cutLast(place, ":")
		var n int
		if _, err := fmt.Sscan(size, &n); err != nil {
			return nil, fmt.Errorf("block %q: %w", block, err)
		}
		s := shares[path.Dir(file)]
		s.all += n
		if covered {
			s.covered += n
		}
		shares[path.Dir(file)] = s
	}
	return shares, lines.Err()
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}
