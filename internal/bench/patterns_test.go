package main

import (
	"strings"
	"testing"
	"time"

	"berth/internal/patterns/direct"
	"berth/internal/patterns/tsh"
)

func TestLinked(t *testing.T) {
	packages, of, err := linked(t.Context(), "berth/internal/patterns/cmd/direct", "berth/internal/patterns/direct")
	if err != nil {
		t.Fatal(err)
	}
	if packages < 10 || of.own < 400 || of.generated < 1000 || of.beneath != 0 {
		t.Errorf("%d packages, %+v: want many, own lines with those of .proto files, generated ones, and none of berth beneath", packages, of)
	}
	_, of, err = linked(t.Context(), "berth/internal/patterns/cmd/tsh", "berth/internal/patterns/tsh")
	if err != nil || of.generated != 0 || of.beneath < 500 {
		t.Errorf("tsh has %+v, %v: want lines of berth beneath it, and none generated", of, err)
	}
}

func TestPatternsTable(t *testing.T) {
	once := []time.Duration{2 * time.Second}
	some := func(name string) *pattern {
		return &pattern{
			name: name, size: 5e6, first: once, list: once, latency: once, idle: unused{memory: memory{rss: 7e6, file: 2e6}, core: 0.01},
		}
	}
	a, b := some("tsh"), some("direct")
	a.features, b.features, b.lines.generated = tsh.Features, direct.Features, 3
	text := patternsTable([]*pattern{a, b}, "a cluster", 100e6, 64e6, time.Minute)
	for _, want := range []string{
		"| on a cluster | tsh | direct |\n| --- | --- | --- |\n",
		"| program, without debug tables | 5.0 MB, and tsh itself 100.0 MB | 5.0 MB |\n",
		"| memory while it watches | 7.0 MB (5.0 MB without its file's pages), and at each question 64.0 MB | 7.0 MB (5.0 MB without its file's pages) |\n",
		"| CPU while nothing happens, over 60 s | 1.00 % of a core | 1.00 % of a core |\n",
		"| watches | no: asks every 5 s | yes |\n",
		"| lines of berth beneath them | 0 | 0, and 3 generated |\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no line %q in\n%s", want, text)
		}
	}
}
