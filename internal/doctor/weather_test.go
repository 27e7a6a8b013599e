//go:build !windows

package doctor

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/shirou/gopsutil/v4/disk"

	"berth/certwatch"
	"berth/internal/testneeds"
	"berth/internal/testwait"
)

// TestEverythingHangs: what never answers is reported as such, in time.
func TestEverythingHangs(t *testing.T) {
	b := newBench(t, nil)
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		ended := make(chan struct{})
		d := newDoctor(t.Context(), b.cfg)
		ctx, cancel := context.WithTimeout(t.Context(), Limits.Run)
		defer cancel()
		found := d.runAll(ctx, []check{
			{"stuck", func(context.Context) []Finding { defer close(ended); <-release; return nil }},
			{"fine", func(context.Context) []Finding { return one("fine", OK, "evil\x1b[2J\u202etext\nline", "") }},
		})
		close(release)
		<-ended
		if len(found) != 2 || found[0].Check != "stuck" || found[0].Status != Fail || !strings.Contains(found[0].Text, "did not come to an end") {
			t.Errorf("found %+v", found)
		}
		if want := "eviltext line"; found[1].Text != want {
			t.Errorf("text %q, want %q", found[1].Text, want)
		}
	})
}

// TestManyProfiles: a home of 500 profiles is checked in time, and reported in
// few lines.
func TestManyProfiles(t *testing.T) {
	testneeds.Time(t, "it waits for a name server that never answers")
	t.Parallel()
	b := newBench(t, nil)
	text, err := os.ReadFile(filepath.Join(b.Home, "localhost.yaml"))
	b.must(err)
	for i := range 500 {
		host := fmt.Sprintf("p%d.localhost", i)
		b.write(filepath.Join(b.Home, host+".yaml"), strings.ReplaceAll(string(text), "localhost:", host+":"), 0o600)
	}
	b.cfg.Resolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	d := newDoctor(t.Context(), b.cfg)
	d.checkTime = testwait.Patience // what a busy machine takes is judged at the end
	started := time.Now()
	r := Report{Findings: d.runAll(t.Context(), d.checks())}
	testwait.Soon(t, "an examination", time.Since(started), patience*MaxTime)
	wants(t, r, "home", OK, "501 profiles", "")
	wants(t, r, "profile", Warn, "480 more profiles", "")
	wants(t, r, "proxy", Skip, "469 more proxies", "")
	if len(r.Findings) > 80 {
		t.Errorf("%d findings", len(r.Findings))
	}
}

// TestTooManyProfiles: those that berth does not look at are mentioned.
func TestTooManyProfiles(t *testing.T) {
	b := newBench(t, nil)
	profiles, err := certwatch.Load(b.Home)
	b.must(err)
	for _, name := range []string{"a", "b", "c"} {
		b.write(filepath.Join(b.Home, name+".yaml"), "web_proxy_addr: "+name+":443\n", 0o600)
	}
	d := newDoctor(t.Context(), b.cfg)
	found := d.checkHome(homeFacts{path: b.Home, profiles: profiles})
	wants(t, Report{Findings: found}, "home", Warn, "3 more are left aside", "tsh logout")
}

// TestDisk: how much room is left is reported before it is gone.
func TestDisk(t *testing.T) {
	const gb = uint64(1 << 30)
	for name, c := range map[string]struct {
		use    disk.UsageStat
		status Status
		text   string
	}{
		"plenty":             {disk.UsageStat{Free: 12*gb + gb/2, InodesTotal: 100, InodesFree: 1}, OK, "12 GB are free at /x"},
		"enough":             {disk.UsageStat{Free: lowSpace}, OK, "free at /x"},
		"little":             {disk.UsageStat{Free: lowSpace - 1}, Warn, "only 499 MB are left at /x"},
		"still_little":       {disk.UsageStat{Free: noSpace}, Warn, "only 20 MB are left"},
		"none":               {disk.UsageStat{Free: noSpace - 1}, Fail, "no space left at /x"},
		"no_files":           {disk.UsageStat{Free: 12 * gb, InodesTotal: 100}, Fail, "no space left at /x"},
		"files_not_counted":  {disk.UsageStat{Free: 12 * gb}, OK, "12 GB are free"},
		"full_and_no_inodes": {disk.UsageStat{InodesTotal: 100}, Fail, "cannot be written"},
	} {
		t.Run(name, func(t *testing.T) {
			found := space("/x", &c.use)
			if len(found) != 1 || found[0].Status != c.status || !strings.Contains(found[0].Text, c.text) {
				t.Errorf("space() = %+v, want %s, %q", found, c.status, c.text)
			}
			if wantFix := c.status != OK; (found[0].Fix != "") != wantFix {
				t.Errorf("fix %q", found[0].Fix)
			}
		})
	}
}

// TestDiskOfAFolderThatIsNotThere: the room is that of the folder above.
func TestDiskOfAFolderThatIsNotThere(t *testing.T) {
	b := newBench(t, nil)
	b.must(os.RemoveAll(b.cfg.Paths.StateDir))
	d := newDoctor(t.Context(), b.cfg)
	want, _ := filepath.EvalSymlinks(filepath.Dir(b.cfg.Paths.StateDir))
	if got, _ := filepath.EvalSymlinks(existing(b.cfg.Paths.StateDir)); got != want {
		t.Errorf("existing() = %q, want %q", got, want)
	}
	if found := d.checkDisk(t.Context()); len(found) != 1 || strings.Contains(found[0].Text, "not known") {
		t.Errorf("checkDisk() = %+v", found)
	}
}
