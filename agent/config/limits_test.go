package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestLimitsAreKept: a limit has its default, may be what its bounds allow, and is
// refused beyond, in words that name the key and the bounds.
func TestLimitsAreKept(t *testing.T) {
	for _, k := range limitKeys {
		if got := Default().Limit(k.Name); got != k.Default || k.Default < k.Least || k.Default > k.Most {
			t.Errorf("%s is %d by default, of %d to %d", k.Name, got, k.Least, k.Most)
		}
		for _, n := range []int{k.Least, k.Most} {
			c, err := parseText("c.yaml", fmt.Appendf(nil, "limits: {%s: %d}\n", k.Name, n))
			if err != nil || c.Limit(k.Name) != n {
				t.Errorf("%s: %d makes %v", k.Name, n, err)
			}
		}
		for _, n := range []int{k.Least - 1, k.Most + 1, -1} {
			_, err := parseText("c.yaml", fmt.Appendf(nil, "limits: {%s: %d}\n", k.Name, n))
			if want := fmt.Sprintf("%s: %d", k.Name.Path(), n); err == nil || !strings.Contains(err.Error(), k.Name.Path()) ||
				!strings.Contains(err.Error(), fmt.Sprintf("use %d–%d", k.Least, k.Most)) {
				t.Errorf("%s makes %v", want, err)
			}
		}
	}
}

// TestLimitOfTunnels: a file has as many tunnels as it allows itself, and not one more.
func TestLimitOfTunnels(t *testing.T) {
	file := func(limits string, tunnels int) []byte {
		var b strings.Builder
		fmt.Fprintf(&b, "%stunnels:\n", limits)
		for i := range tunnels {
			fmt.Fprintf(&b, "  - {name: t%d, kind: db, cluster: c, resource: r%d}\n", i, i)
		}
		return []byte(b.String())
	}
	for _, c := range []struct {
		limits string
		most   int
	}{{"", Default().Limit(LimitTunnels)}, {"limits: {tunnels: 3}\n", 3}} {
		if _, err := parseText("c.yaml", file(c.limits, c.most)); err != nil {
			t.Errorf("%d tunnels: %v", c.most, err)
		}
		_, err := parseText("c.yaml", file(c.limits, c.most+1))
		if want := fmt.Sprintf("the file has %d tunnels, and limits.tunnels allows %d", c.most+1, c.most); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%d tunnels make %v, want %q", c.most+1, err, want)
		}
	}
}

// TestDocsLimits keeps the table of docs/RELIABILITY.md whole, and its defaults true.
func TestDocsLimits(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "RELIABILITY.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range limitKeys {
		number := strconv.Itoa(k.Default)
		if n := len(number); n > 3 {
			number = number[:n-3] + "," + number[n-3:]
		}
		if want := fmt.Sprintf("`%s`, %s", k.Name.Path(), number); !strings.Contains(string(page), want) {
			t.Errorf("docs/RELIABILITY.md has no %s", want)
		}
	}
}
