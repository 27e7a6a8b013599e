package telemetry

import (
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
)

const (
	format = 1
	// maxDays is how many days are kept, and how old a day may become. maxNames is how
	// many different things of one sort a day has: the file stays below maxSize.
	maxDays, maxNames = 90, 20
	maxSize           = 1 << 20
	// other stands for whatever is beyond maxNames.
	other = "other"
)

// Kept is everything that is kept.
type Kept struct {
	Format int   `json:"format"`
	Days   []Day `json:"days"` // the oldest first
}

// Day is what happened on one day, in UTC.
type Day struct {
	Day      string   `json:"day"` // 2026-05-01
	Versions []string `json:"versions,omitempty"`
	Features counts   `json:"features,omitempty"`
	Tunnels  counts   `json:"tunnels,omitempty"`
	Clients  counts   `json:"clients,omitempty"`
	Refusals counts   `json:"refusals,omitempty"`
	Clusters counts   `json:"clusters,omitempty"`
	Users    counts   `json:"users,omitempty"`
}

// Fields says what each key of a Day is, in their order.
var Fields = []struct{ Key, Text string }{
	{"day", "the date, in UTC; days without an event are not there"},
	{"versions", "the versions of berth that ran"},
	{"features", "login_ok, login_failed: logins that berth ran; assume: requests whose roles were taken; hold: clients that were held and then served"},
	{"tunnels", "the most tunnels of each protocol that the config had at once"},
	{"clients", "what was served, by protocol: connections to databases, requests to Kubernetes"},
	{"refusals", "clients that were refused, by the code of the reason, as in berth status --json"},
	{"clusters", "the same by cluster, a pseudonym instead of its name"},
	{"users", "the same by Teleport user, a pseudonym instead of their name"},
}

// plausible reports whether berth can have written k: whatever else is in the file
// must not reach a terminal or an export.
func (k Kept) plausible() bool {
	for _, d := range k.Days {
		if _, err := time.Parse(time.DateOnly, d.Day); err != nil || slices.ContainsFunc(d.Versions, hasControls) {
			return false
		}
		for _, c := range []counts{d.Features, d.Tunnels, d.Clients, d.Refusals, d.Clusters, d.Users} {
			for name, n := range c {
				if n < 0 || hasControls(name) {
					return false
				}
			}
		}
	}
	return k.Days != nil
}

func hasControls(s string) bool { return strings.ContainsFunc(s, unicode.IsControl) }

// counts are numbers by name; nil is empty.
type counts map[string]int64

// of returns a name's place: that of other when there are too many names.
func (c *counts) of(name string) string {
	if *c == nil {
		*c = make(counts)
	}
	if _, known := (*c)[name]; !known && len(*c) >= maxNames {
		return other
	}
	return name
}

func (c *counts) add(name string, n int64) { (*c)[c.of(name)] += n }

func (c *counts) atLeast(name string, n int64) {
	name = c.of(name)
	(*c)[name] = max((*c)[name], n)
}

// sum adds what from has, under other names.
func (c *counts) sum(from counts, rename func(string) string) {
	for _, name := range slices.Sorted(maps.Keys(from)) { // the same ones are beyond maxNames each time
		to := name
		if name != other {
			to = rename(name)
		}
		c.add(to, from[name])
	}
}

// day returns the day called date, which is made where there is none.
func (k *Kept) day(date string) *Day {
	i, there := slices.BinarySearchFunc(k.Days, date, func(d Day, date string) int { return strings.Compare(d.Day, date) })
	if !there {
		k.Days = slices.Insert(k.Days, i, Day{Day: date})
	}
	return &k.Days[i]
}

// forget drops the days that are too old, or too many.
func (k *Kept) forget(now time.Time) {
	oldest := now.UTC().AddDate(0, 0, 1-maxDays).Format(time.DateOnly)
	k.Days = slices.DeleteFunc(k.Days, func(d Day) bool { return d.Day < oldest })
	k.Days = k.Days[max(0, len(k.Days)-maxDays):]
}

// add adds what others has, with pseudonyms in place of names.
func (k *Kept) add(others Kept, pseudonym func(sort, name string) string) {
	itself := func(name string) string { return name }
	of := func(sort string) func(string) string {
		return func(name string) string { return pseudonym(sort, name) }
	}
	for _, from := range others.Days {
		d := k.day(from.Day)
		for _, v := range from.Versions {
			d.ran(v)
		}
		for name, n := range from.Tunnels {
			d.Tunnels.atLeast(name, n)
		}
		d.Features.sum(from.Features, itself)
		d.Clients.sum(from.Clients, itself)
		d.Refusals.sum(from.Refusals, itself)
		d.Clusters.sum(from.Clusters, of("cluster"))
		d.Users.sum(from.Users, of("user"))
	}
}

// ran notes a version of berth.
func (d *Day) ran(version string) {
	if !slices.Contains(d.Versions, version) && len(d.Versions) < maxNames {
		d.Versions = append(d.Versions, version)
	}
}
