package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// row is one line of the table.
type row struct {
	Fault      string    `json:"fault"`
	Tried      int       `json:"tried"`
	Missing    string    `json:"missing,omitempty"` // why it was not tried
	Clients    int       `json:"clients_affected"`
	Allowed    int       `json:"lost_allowed"`
	Needless   int       `json:"lost_needless"`
	Wrong      int       `json:"wrong_answers"`
	Recoveries []float64 `json:"recoveries_s"`
	Readied    []float64 `json:"tunnels_ready_s"`
}

// report is what a run found.
type report struct {
	Seed        uint64    `json:"seed"`
	Began       time.Time `json:"began"`
	Seconds     float64   `json:"seconds"`
	Where       string    `json:"where"` // simulated, or the release of a real Teleport
	Tunnels     int       `json:"tunnels"`
	Clients     int       `json:"clients"`
	Asked       int       `json:"asked"`
	Rows        []row     `json:"faults"`
	Faults      int       `json:"faults_made"`
	Overlapping int       `json:"faults_overlapping"` // of those: while another one was there
	Lost        []lost    `json:"lost"`
	Sizes       []size    `json:"sizes"`
	AtRest      [2]size   `json:"at_rest"` // before the clients, and after them
	Starts      int       `json:"agent_starts"`
	Load        [2]string `json:"load"` // of the machine: at the beginning, and at the end
	Failures    []string  `json:"failures"`
}

// rows makes the table of a ledger: of the faults in their order, and of calm
// weather where something was lost in it.
func (l *ledger) rows(names []string, missing map[string]string) []row {
	l.mu.Lock()
	defer l.mu.Unlock()
	byName := make(map[string]*row)
	for _, name := range names {
		byName[name] = &row{Fault: name, Missing: missing[name], Clients: len(l.affected[name])}
		for _, d := range l.recoveries[name] {
			byName[name].Recoveries = append(byName[name].Recoveries, d.Seconds())
		}
		for _, d := range l.readied[name] {
			byName[name].Readied = append(byName[name].Readied, d.Seconds())
		}
	}
	for _, w := range l.windows {
		byName[w.fault].Tried++
	}
	calm := &row{Fault: "none"}
	for _, entry := range l.lost {
		r := byName[entry.Fault]
		if r == nil {
			r = calm
		}
		switch {
		case entry.Wrong:
			r.Wrong++
		case entry.Allowed:
			r.Allowed++
		default:
			r.Needless++
		}
	}
	var all []row
	for _, name := range names {
		all = append(all, *byName[name])
	}
	if calm.Wrong+calm.Needless > 0 {
		all = append(all, *calm)
	}
	return all
}

// bad counts what may not be.
func (r report) bad() (needless, wrong int) {
	for _, row := range r.Rows {
		needless, wrong = needless+row.Needless, wrong+row.Wrong
	}
	return needless, wrong
}

// quantile is the value below which the share q of the values lies.
func quantile(values []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

// write prints the report as a table in Markdown.
func (r report) write(out io.Writer) {
	fmt.Fprintf(out, "\n| fault | tried | clients affected | lost, allowed | lost, needless | wrong answers | clients served, p50 / p95 / max | tunnels ready |\n")
	fmt.Fprintf(out, "|---|---|---|---|---|---|---|---|\n")
	var served, readied []float64
	for _, row := range r.Rows {
		if row.Missing != "" {
			fmt.Fprintf(out, "| %s | not here: %s | | | | | | |\n", row.Fault, row.Missing)
			continue
		}
		if row.Tried == 0 && row.Fault != "none" {
			fmt.Fprintf(out, "| %s | 0: no time was left | | | | | | |\n", row.Fault)
			continue
		}
		fmt.Fprintf(out, "| %s | %d | %d | %d | %d | %d | %s | %s |\n", row.Fault, row.Tried, row.Clients,
			row.Allowed, row.Needless, row.Wrong, recovery(row.Recoveries), recovery(row.Readied))
		served, readied = append(served, row.Recoveries...), append(readied, row.Readied...)
	}
	needless, wrong := r.bad()
	fmt.Fprintf(out, "| all | | | | %d | %d | %s | %s |\n\n", needless, wrong, recovery(served), recovery(readied))
	fmt.Fprintf(out, "%d faults, %d of them overlapping. ", r.Faults, r.Overlapping)
	fmt.Fprintf(out, "Seed %d, %s, %s: %d tunnels, %d clients, %d questions (%.1f a second); load %s, then %s.\n",
		r.Seed, time.Duration(r.Seconds*float64(time.Second)).Round(time.Second), r.Where, r.Tunnels, r.Clients, r.Asked,
		float64(r.Asked)/max(r.Seconds, 1), r.Load[0], r.Load[1])
	fmt.Fprintf(out, "Growth an hour: %+.1f MB, %+.1f goroutines, %+.1f descriptors. At rest before and after: %s; %s. Starts of the agent: %d.\n",
		perHour(r.Sizes, func(s size) float64 { return s.RSS }), perHour(r.Sizes, func(s size) float64 { return s.Goroutines }),
		perHour(r.Sizes, func(s size) float64 { return s.Descriptors }), r.AtRest[0], r.AtRest[1], r.Starts)
	for _, entry := range r.Lost {
		if entry.Wrong || !entry.Allowed {
			kind := "lost"
			if entry.Wrong {
				kind = "WRONG"
			}
			fmt.Fprintf(out, "%s: %s, after %.1f s, during %s: %s\n", kind, entry.Client, entry.After, entry.Fault, strings.ReplaceAll(entry.Error, "\n", " "))
		}
	}
	for _, f := range r.Failures {
		fmt.Fprintln(out, "FAILED:", f)
	}
}

func recovery(values []float64) string {
	if len(values) == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f / %.2f / %.2f s", quantile(values, 0.5), quantile(values, 0.95), slices.Max(values))
}

// writeJSON prints the report for programs.
func (r report) writeJSON(out io.Writer) error {
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

// size is how large the agent is at a moment.
type size struct {
	At          time.Time `json:"at"`
	PID         int       `json:"pid"`
	RSS         float64   `json:"rss_mb"`
	Goroutines  float64   `json:"goroutines"`
	Descriptors float64   `json:"descriptors"`
}

func (s size) String() string {
	return fmt.Sprintf("%.1f MB, %.0f goroutines, %.0f descriptors", s.RSS, s.Goroutines, s.Descriptors)
}

// perHour is the slope of the straight lines that fit the sizes best, one for each
// process: a new one begins small.
func perHour(all []size, of func(size) float64) float64 {
	byPID := make(map[int][]size)
	for _, s := range all {
		byPID[s.PID] = append(byPID[s.PID], s)
	}
	var sxx, sxy float64
	for _, sizes := range byPID {
		var mx, my float64
		for _, s := range sizes {
			mx += s.At.Sub(all[0].At).Hours() / float64(len(sizes))
			my += of(s) / float64(len(sizes))
		}
		for _, s := range sizes {
			x := s.At.Sub(all[0].At).Hours() - mx
			sxx, sxy = sxx+x*x, sxy+x*(of(s)-my)
		}
	}
	if sxx > 0 {
		return sxy / sxx
	}
	return 0
}
