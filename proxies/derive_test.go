package proxies

import (
	"fmt"
	"testing"
)

func TestDerivePortIsStable(t *testing.T) {
	// These numbers are in people's clients: they must never change.
	tests := []struct {
		cluster, kind, resource string
		want                    int
	}{
		{"example.com", "db", "pg-prod", 19296},
		{"example.com", "kube", "pg-prod", 17850},
		{"leaf.example.com", "db", "pg-prod", 28053},
		{"", "", "", 18966},
	}
	for _, tt := range tests {
		if got := DerivePort(tt.cluster, tt.kind, tt.resource, nil); got != tt.want {
			t.Errorf("DerivePort(%q, %q, %q) = %d, want %d", tt.cluster, tt.kind, tt.resource, got, tt.want)
		}
	}
}

func TestDerivePortOfManyResources(t *testing.T) {
	used := map[int]string{}
	taken := func(port int) bool { return used[port] != "" }
	for i := range 1000 {
		name := fmt.Sprintf("db-%d", i)
		port := DerivePort("example.com", "db", name, taken)
		if port < FirstDerivedPort || port > lastDerivedPort {
			t.Fatalf("%s: port %d is out of range", name, port)
		}
		if what := wellKnown[port]; what != "" {
			t.Errorf("%s: port %d is %s", name, port, what)
		}
		if other := used[port]; other != "" {
			t.Errorf("%s and %s both have port %d", name, other, port)
		}
		used[port] = name
	}
}

func TestDerivePortSpreads(t *testing.T) {
	// 100 resources without looking at each other: by the birthday rule about
	// a third of a collision is expected in 15,000 ports.
	seen := map[int]int{}
	for i := range 100 {
		seen[DerivePort("example.com", "db", fmt.Sprintf("orders-%d", i), nil)]++
	}
	if len(seen) < 97 {
		t.Errorf("100 resources share %d ports", len(seen))
	}
}

func TestDerivePortPassesOver(t *testing.T) {
	first := DerivePort("c", "db", "r", nil)
	second := DerivePort("c", "db", "r", func(p int) bool { return p == first })
	if second == first || second == 0 {
		t.Errorf("with %d taken: %d", first, second)
	}
	if got := DerivePort("c", "db", "r", func(int) bool { return true }); got != 0 {
		t.Errorf("with all taken: %d, want 0", got)
	}
	// The last free port is found wherever it is, and never a well-known one.
	const last = 15002
	if got := DerivePort("c", "db", "r", func(p int) bool { return p != last }); got != last {
		t.Errorf("with all but %d taken: %d", last, got)
	}
	if got := DerivePort("c", "db", "r", func(p int) bool { return wellKnown[p] == "" }); got != 0 {
		t.Errorf("with only well-known ports free: %d, want 0", got)
	}
}

func TestWellKnownPortsAreInRange(t *testing.T) {
	for port, what := range wellKnown {
		if port < FirstDerivedPort || port > lastDerivedPort || what == "" {
			t.Errorf("%d (%q) does not belong in the list", port, what)
		}
	}
}
