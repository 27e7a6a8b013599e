package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/shirou/gopsutil/v4/cpu"
)

func TestParse(t *testing.T) {
	tests := []struct {
		name string
		args string
		only []string
		err  string // part of it
	}{
		{"nothing", "", nil, ""},
		{"groups", "-only swap,\topen", []string{"swap", "open"}, ""},
		{"unknown_group", "-only swap,speed", nil, "there is no such group"},
		{"write_in_full", "-write x.md", nil, ""},
		{"write_a_part", "-write x.md -only swap", []string{"swap"}, ""},
		{"write_in_haste", "-write x.md -quick", nil, "-write is for figures"},
		{"a_word_too_many", "now", nil, `unexpected argument "now"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o, err := parse(strings.FieldsFunc(tt.args, func(r rune) bool { return r == ' ' }), &bytes.Buffer{})
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("parse(%q) = %v, want an error with %q", tt.args, err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.only, o.only); diff != "" {
				t.Errorf("groups of %q (-want +got):\n%s", tt.args, diff)
			}
		})
	}
}

func TestParseStatus(t *testing.T) {
	const whole = "Name:\tberth\nVmHWM:\t   50000 kB\nVmRSS:\t   41000 kB\nRssAnon:\t   13000 kB\nRssFile:\t   28000 kB\nThreads:\t9\n"
	tests := []struct {
		name string
		text string
		want memory
		err  string
	}{
		{"whole", whole, memory{rss: 41000 << 10, file: 28000 << 10}, ""},
		{"a_process_that_ended", "Name:\tberth\nState:\tZ (zombie)\nThreads:\t1\n", memory{}, "in the process's status"},
		{"another_unit", strings.ReplaceAll(whole, "28000 kB", "28 MB"), memory{}, "not in kB"},
		{"no_number", strings.ReplaceAll(whole, "28000 kB", "many kB"), memory{}, "RssFile"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseStatus([]byte(tt.text))
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("parseStatus = %v, want an error with %q", err, tt.err)
				}
				return
			}
			if err != nil || got != tt.want {
				t.Errorf("parseStatus = %+v, %v, want %+v", got, err, tt.want)
			}
		})
	}
}

func TestUsageOfSelf(t *testing.T) {
	before, err := cpuOf(self())
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	after := before
	for after-before < 50*time.Millisecond { // burn
		if time.Since(began) > time.Minute {
			t.Fatalf("the CPU time went from %v to %v in a minute of work", before, after)
		}
		if after, err = cpuOf(self()); err != nil {
			t.Fatal(err)
		}
	}
	m, err := memoryOf(self())
	if err != nil {
		t.Fatal(err)
	}
	if m.rss < 1<<20 || m.rss > 1<<34 || m.file > m.rss {
		t.Errorf("memoryOf(self) = %+v", m)
	}
}

func TestOthersShare(t *testing.T) {
	from := cpu.TimesStat{User: 100, Idle: 900}
	tests := []struct {
		name string
		to   cpu.TimesStat
		own  float64
		want float64
	}{
		{"idle", cpu.TimesStat{User: 100, Idle: 1000}, 0, 0},
		{"all_ours", cpu.TimesStat{User: 150, Idle: 950}, 50, 0},
		{"half_ours", cpu.TimesStat{User: 150, Idle: 950}, 25, 0.25},
		{"stolen", cpu.TimesStat{User: 100, Idle: 950, Steal: 50}, 0, 0.5},
		{"waiting_for_disks", cpu.TimesStat{User: 100, Idle: 950, Iowait: 50}, 0, 0},
		{"coarse_clocks", cpu.TimesStat{User: 110, Idle: 990}, 11, 0},
		{"no_time", from, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := othersShare(from, tt.to, tt.own); got != tt.want {
				t.Errorf("othersShare = %v, want %v", got, tt.want)
			}
		})
	}
}

func TestQuantile(t *testing.T) {
	tests := []struct {
		name   string
		values []int
		q      float64
		want   int
	}{
		{"one", []int{7}, 0.5, 7},
		{"odd", []int{9, 1, 5}, 0.5, 5},
		{"even", []int{4, 1, 3, 2}, 0.5, 3},
		{"least", []int{9, 1, 5}, 0, 1},
		{"most", []int{9, 1, 5}, 1, 9},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := quantile(tt.values, tt.q); got != tt.want {
				t.Errorf("quantile(%v, %v) = %v, want %v", tt.values, tt.q, got, tt.want)
			}
		})
	}
}

func TestMS(t *testing.T) {
	for d, want := range map[time.Duration]string{
		491 * time.Microsecond:    "0.49 ms",
		24_880 * time.Microsecond: "24.9 ms",
		332 * time.Millisecond:    "332 ms",
		30 * time.Second:          "30000 ms",
	} {
		if got := ms(d); got != want {
			t.Errorf("ms(%v) = %q, want %q", d, got, want)
		}
	}
}

func TestVerdicts(t *testing.T) {
	tests := []struct {
		name string
		got  verdict
		want verdict
	}{
		{"less", within(44e6, 45e6), met},
		{"just", within(45e6, 45e6), met},
		{"more", within(46e6, 45e6), missed},
		{"enough", atLeast(0.96, 0.95), met},
		{"just_enough", atLeast(0.95, 0.95), met},
		{"too_little", atLeast(0.94, 0.95), missed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.got != tt.want {
				t.Errorf("verdict %q, want %q", tt.got, tt.want)
			}
		})
	}
}

func TestTable(t *testing.T) {
	got := table([]row{
		{what: "memory", measured: "41.0 MB", budget: "≤ 45 MB", verdict: met},
		{what: "a | b", measured: "two\nlines"},
	})
	want := `| what | measured | budget | met? |
|---|---|---|---|
| memory | 41.0 MB | ≤ 45 MB | yes |
| a \| b | two lines |  |  |
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
}

func TestRewrite(t *testing.T) {
	begin, end := marks("")
	beginIdle, endIdle := marks("idle,cli")
	tests := []struct {
		name, text, groups, want, err string
	}{
		{"full", "# head\n" + begin + "old\n" + end + "tail\n", "", "# head\n" + begin + "\nnew\n\n" + end + "tail\n", ""},
		{"twice_the_same", begin + "\nnew\n\n" + end, "", begin + "\nnew\n\n" + end, ""},
		{
			"a_part", begin + "all\n" + end + beginIdle + "old\n" + endIdle, "idle,cli",
			begin + "all\n" + end + beginIdle + "\nnew\n\n" + endIdle, "",
		},
		{"another_part", begin + end + beginIdle + endIdle, "idle", "", "<!-- bench idle -->"},
		{"no_begin", "# head\n" + end, "", "", "<!-- bench -->"},
		{"no_end", "# head\n" + begin, "", "", "<!-- end of bench -->"},
		{"wrong_order", end + begin, "", "", "<!-- end of bench -->"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "doc.md")
			if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			err := rewrite(path, tt.groups, "new\n")
			want := tt.want
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("rewrite = %v, want an error with %q", err, tt.err)
				}
				want = tt.text
			} else if err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, string(got)); diff != "" {
				t.Errorf("the file (-want +got):\n%s", diff)
			}
		})
	}
}

func TestIsReady(t *testing.T) {
	for message, want := range map[string]bool{
		"READY=1":                       true,
		"STATUS=Ports bound\nREADY=1\n": true,
		"STATUS=READY=1":                false,
		"STOPPING=1":                    false,
		"":                              false,
	} {
		if got := isReady(message); got != want {
			t.Errorf("isReady(%q) = %v, want %v", message, got, want)
		}
	}
}

// TestFlow checks what is made of two readings: the first process is the
// runner, the second the agent.
func TestFlow(t *testing.T) {
	began := time.Now()
	from := reading{at: began, bytes: 1e9, cpu: []time.Duration{time.Second, time.Second}}
	to := reading{at: began.Add(2 * time.Second), bytes: 3e9, cpu: []time.Duration{3 * time.Second, 2 * time.Second}}
	want := flow{rate: 1000, cpuAll: 1.5, cpuOwn: 0.5, core: 0.5}
	if got := to.since(from); got != want {
		t.Errorf("flow with an agent = %+v, want %+v", got, want)
	}
	from.cpu, to.cpu = from.cpu[:1], to.cpu[:1]
	want = flow{rate: 1000, cpuAll: 1}
	if got := to.since(from); got != want {
		t.Errorf("flow without an agent = %+v, want %+v", got, want)
	}
}

// TestFreePorts: agents that are started one after another have ports, however many
// there are.
func TestFreePorts(t *testing.T) {
	for range 10 {
		ports, err := freePorts(2000)
		if err != nil {
			t.Fatal(err)
		}
		if low, high := slices.Min(ports), slices.Max(ports); len(ports) != 2000 || low < firstPort || high >= lastPort {
			t.Fatalf("%d ports from %d to %d", len(ports), low, high)
		}
	}
}
