package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"berth/agent/state"
	"berth/certwatch"
	"berth/internal/wake"
)

// maxProfiles is how many profiles of a home are listed one by one.
const maxProfiles = 20

// tsh writes its files one by one: a home is read that often in such a time.
const (
	maxTries = 5
	tryAgain = 200 * time.Millisecond
)

// homePaths are the TELEPORT_HOME folders that the agent watches.
func (d *doctor) homePaths(ctx context.Context) ([]string, error) {
	conf, err := d.config.get(ctx)
	if err != nil {
		return nil, err
	}
	if homes := conf.cfg.HomePaths(); len(homes) > 0 {
		return homes, nil
	}
	home, err := certwatch.DefaultHome()
	return []string{home}, err
}

func (d *doctor) loadHomes(ctx context.Context) []homeFacts {
	homes, err := d.homePaths(ctx)
	if err != nil {
		return []homeFacts{{err: err}}
	}
	found := make([]homeFacts, len(homes))
	var wg sync.WaitGroup
	for i, path := range homes {
		wg.Go(func() {
			found[i].path = path
			found[i].profiles, found[i].err = loadSettled(ctx, path)
		})
	}
	wg.Wait()
	return found
}

// loadSettled reads a home, and again for a moment while something writes it.
func loadSettled(ctx context.Context, path string) ([]*certwatch.Profile, error) {
	for try := 0; ; try++ {
		profiles, err := certwatch.Load(path)
		if try == maxTries || !slices.ContainsFunc(profiles, func(p *certwatch.Profile) bool { return p.Settling }) {
			return profiles, err
		}
		if !wake.Sleep(ctx, tryAgain) {
			return profiles, err
		}
	}
}

func (d *doctor) checkHomes(ctx context.Context) []Finding {
	homes, err := d.homes.get(ctx)
	if err != nil {
		return one("home", Fail, "the homes of tsh cannot be read in time", "see whether their file system answers")
	}
	if conf, ok := d.config.peek(); ok && conf.unknown && !slices.ContainsFunc(homes, func(h homeFacts) bool { return len(h.profiles) > 0 }) {
		return skipUnknown("home", "which homes of tsh there are")
	}
	var found []Finding
	for _, h := range homes {
		found = append(found, d.checkHome(h)...)
	}
	return found
}

func (d *doctor) checkHome(h homeFacts) []Finding {
	if h.err != nil {
		return one("home", Fail, h.err.Error(), "make it readable for you, or correct homes in the config")
	}
	if _, err := os.Stat(h.path); errors.Is(err, fs.ErrNotExist) {
		return one("home", Warn, fmt.Sprintf("%s does not exist: no login yet", h.path), "berth login PROXY, or tsh login")
	}
	if len(h.profiles) == 0 {
		return one("home", Warn, fmt.Sprintf("%s holds no profile: no login yet", h.path), "berth login PROXY, or tsh login")
	}
	var layouts []string
	var profiles []Finding
	for _, p := range h.profiles {
		if p.Session != nil && !slices.Contains(layouts, p.Session.Layout.String()) {
			layouts = append(layouts, p.Session.Layout.String())
		}
		profiles = append(profiles, d.checkProfile(p)...)
	}
	slices.Sort(layouts)
	layout := "no session"
	if len(layouts) > 0 {
		layout = "layout " + strings.Join(layouts, " and ")
	}
	found := one("home", OK, fmt.Sprintf("%s: %s, %s", h.path, count(len(h.profiles), "profile"), layout), "")
	if aside := countProfiles(h.path) - len(h.profiles); aside > 0 {
		found = append(found, one("home", Warn, fmt.Sprintf("%s: that is as many profiles as berth looks at; %d more are left aside", h.path, aside),
			"log out of clusters that are not used any more: tsh logout")...)
	}
	if more := len(profiles) - maxProfiles; more > 0 {
		profiles = append(profiles[:maxProfiles:maxProfiles], one("profile", Warn,
			fmt.Sprintf("%s: and %d more profiles without a session", h.path, more), "tsh status")...)
	}
	return append(found, profiles...)
}

// checkProfile reports on a profile without a complete and valid session.
func (d *doctor) checkProfile(p *certwatch.Profile) []Finding {
	login := "berth login " + p.ProxyAddr
	switch {
	case p.Problem != nil:
		return one("profile", Fail, fmt.Sprintf("the profile of %s in %s is broken: %v", p.Name, p.Home, p.Problem), login)
	case p.Settling:
		return one("profile", Skip, fmt.Sprintf("the profile of %s is being written", p.Name), "")
	case p.Session == nil:
		return one("session", Warn, fmt.Sprintf("not logged in to %s", p.ProxyAddr), login)
	}
	now := d.Now()
	switch s := p.Session; {
	case now.Before(s.ValidFrom.Add(-maxClock)):
		return one("clock", Fail, fmt.Sprintf("the session of %s begins in the future, at %s: the clock of this computer is slow", p.ProxyAddr,
			s.ValidFrom.UTC().Format(time.RFC3339)), "set the clock: switch on its setting over the network")
	case state.ProfileStateAt(now, &s.ValidUntil) == state.ProfileExpired:
		return one("session", Warn, fmt.Sprintf("the session of %s ended at %s", p.ProxyAddr, s.ValidUntil.UTC().Format(time.RFC3339)), login)
	default:
		return nil
	}
}

// count says how many of something there are.
func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// countProfiles counts the profile files of a home.
func countProfiles(home string) int {
	entries, err := os.ReadDir(home)
	if err != nil {
		return 0
	}
	n := 0
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".yaml") && !e.IsDir() && e.Name()[0] != '.' {
			n++
		}
	}
	return n
}
