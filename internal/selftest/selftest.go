// Package selftest tries berth on the machine it runs on, for a report that
// whoever helps can be sent: agent, control socket, tunnels, tray, notification,
// keychain and service manager, each for real.
//
// All of it happens in a folder of its own with a BERTH_HOME of its own, and is
// taken back; what a killed self-test leaves, the next one removes. The user's config, sessions, agent and service are not touched.
// With a berth-demo at hand the tunnels lead to its simulated cluster. [Run] ends
// within [MaxTime], and what it returns names neither the user nor their folders.
package selftest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"berth/agent/ipc/client"
	"berth/internal/paths"
	"berth/internal/plain"
)

// MaxTime is how long Run takes at most, after it has removed what an earlier one left.
const MaxTime = 3 * time.Minute

// cleanTime is how much of MaxTime is kept for taking everything back.
const cleanTime = 30 * time.Second

// maxText is how many columns a reason or a next step may have.
const maxText = 400

// Status is how a check ended.
type Status string

// The statuses.
const (
	OK      Status = "ok"
	Failed  Status = "failed"
	Skipped Status = "skipped" // this machine has not what it takes
)

// Result is how one check ended.
type Result struct {
	Check  string `json:"check"` // stable, unlike the words
	Status Status `json:"status"`
	Text   string `json:"text"`
	Next   string `json:"next"` // the next step; empty when there is none
	TookMS int64  `json:"took_ms"`
}

// Config says what to try.
type Config struct {
	Program string // berth
	Demo    string // berth-demo; empty when there is none
	Version string // of Program
	Icon    []byte // of the notification, a PNG
	Environ []string
	// Progress is called before each check, and once at the end; nil means not
	// at all.
	Progress func(done, total int)
}

// verdict is what a check says.
type verdict struct {
	status     Status
	text, next string
}

func ok(format string, args ...any) verdict { return verdict{OK, fmt.Sprintf(format, args...), ""} }

func skipped(text, next string) verdict { return verdict{Skipped, text, next} }

// failed words an error, whose hint, if it has one, is the next step.
func failed(err error, next string) verdict {
	var hinter interface{ Hint() string }
	if errors.As(err, &hinter) && hinter.Hint() != "" {
		next = hinter.Hint()
	}
	return verdict{Failed, err.Error(), next}
}

// check is one thing that is tried.
type check struct {
	name  string
	limit time.Duration
	needs string // the check without which this one makes no sense
	try   func(context.Context) verdict
}

// run is one self-test.
type run struct {
	Config
	dir    string // removed in the end
	paths  paths.Paths
	demo   *child
	agent  *child
	client *client.Client
	// ownConfig says that what is started has a config folder of the test's.
	ownConfig bool
	// undo is what is left to take back, the newest last.
	undo []func(context.Context) error
}

// Run tries everything, one thing after the other.
func Run(ctx context.Context, cfg Config) ([]Result, error) {
	sweeping, end := context.WithTimeout(ctx, cleanTime)
	swept, sweepErr := sweep(sweeping, cfg)
	end()
	dir, err := os.MkdirTemp("", folderName)
	if err != nil {
		return nil, fmt.Errorf("make the self-test's folder: %w", err)
	}
	r := &run{Config: cfg, dir: dir}
	if err := r.record(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	clean := newScrubber(dir, cfg.Program, cfg.Environ)
	limited, cancel := context.WithTimeoutCause(ctx, MaxTime-cleanTime, errors.New("the self-test has taken too long"))
	results := append(remains(swept, sweepErr, clean), r.each(limited, clean)...)
	cancel()
	ending, end := context.WithTimeout(context.WithoutCancel(ctx), cleanTime)
	defer end()
	if err := r.clean(ending); err != nil {
		results = append(results, Result{
			Check: "clean", Status: Failed, Text: clean.text(fmt.Sprintf("not everything was taken back: %v", err)),
			Next: "look for folders named berth-selftest among the temporary files, and remove them",
		})
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return results, nil
}

// remains says what became of what earlier self-tests had left; mostly nothing.
func remains(swept int, err error, clean *scrubber) []Result {
	switch {
	case err != nil:
		return []Result{{
			Check: "remains", Status: Failed, Next: "look for folders named berth-selftest among the temporary files, and remove them",
			Text: clean.text(fmt.Sprintf("what a self-test that was killed left is still there: %v", err)),
		}}
	case swept > 0:
		return []Result{{Check: "remains", Status: OK, Text: "what a self-test that was killed had left was removed"}}
	}
	return nil
}

func (r *run) checks() []check {
	return []check{
		{"cluster", 45 * time.Second, "", r.tryCluster},
		{"agent", 20 * time.Second, "", r.tryAgent},
		{"control", 15 * time.Second, "agent", r.tryControl},
		{"tunnels", 20 * time.Second, "cluster", r.tryTunnels},
		{"queries", 20 * time.Second, "tunnels", r.tryQueries},
		{"tray", 25 * time.Second, "agent", r.tryTray},
		{"notification", 15 * time.Second, "", r.tryNotification},
		{"keychain", 12 * time.Second, "", r.tryKeychain},
		{"stop", 15 * time.Second, "agent", r.tryStop},
		{"service", 60 * time.Second, "", r.tryService},
	}
}

func (r *run) each(ctx context.Context, clean *scrubber) []Result {
	checks := r.checks()
	ended := make(map[string]Status)
	results := make([]Result, 0, len(checks))
	for i, c := range checks {
		if r.Progress != nil {
			r.Progress(i, len(checks))
		}
		begun := time.Now()
		v := skipped(fmt.Sprintf("this needs %q, which did not succeed", c.needs), "")
		if c.needs == "" || ended[c.needs] == OK {
			limited, cancel := context.WithTimeoutCause(ctx, c.limit, fmt.Errorf("it did not come to an end within %v", c.limit))
			v = c.try(limited)
			if v.status == Failed && limited.Err() != nil {
				if why := context.Cause(limited).Error(); !strings.Contains(v.text, why) {
					v.text += " (" + why + ")"
				}
			}
			cancel()
		}
		ended[c.name] = v.status
		results = append(results, Result{
			Check: c.name, Status: v.status, Text: clean.text(v.text), Next: clean.text(v.next), TookMS: time.Since(begun).Milliseconds(),
		})
	}
	if r.Progress != nil {
		r.Progress(len(checks), len(checks))
	}
	return results
}

// clean takes back what was done, the newest first.
func (r *run) clean(ctx context.Context) error {
	var errs []error
	for _, undo := range slices.Backward(r.undo) {
		errs = append(errs, undo(ctx))
	}
	errs = append(errs, os.RemoveAll(r.dir))
	return errors.Join(errs...)
}

// lookup is the environment of berth's own part of the test.
func (r *run) lookup(name string) string {
	if name == paths.HomeVar {
		return r.home()
	}
	return os.Getenv(name)
}

// home is the BERTH_HOME of the test.
func (r *run) home() string {
	if r.demo != nil {
		return r.demo.home
	}
	return filepath.Join(r.dir, "berth")
}

// FindDemo returns the berth-demo beside a program, or beside the file that its
// path is a link to, else the one on PATH; empty means that there is none.
func FindDemo(program string) string {
	name := "berth-demo" + filepath.Ext(program)
	places := []string{filepath.Join(filepath.Dir(program), name), name}
	if file, err := filepath.EvalSymlinks(program); err == nil {
		places = slices.Insert(places, 1, filepath.Join(filepath.Dir(file), name))
	}
	for _, place := range places {
		if path, err := exec.LookPath(place); err == nil {
			if abs, err := filepath.Abs(path); err == nil { // children run in another folder
				return abs
			}
		}
	}
	return ""
}

// short keeps other people's text on its line, and that of a length to read.
func short(s string) string { return plain.Cut(plain.Line(s), maxText) }
