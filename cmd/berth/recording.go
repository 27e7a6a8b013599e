package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/internal/plain"
	"berth/internal/when"
)

func (a *app) recordingCommand() *cobra.Command {
	cmd := commandGroup("recording", "List, watch, search and share recorded sessions",
		a.recordingListCommand(), a.recordingPlayCommand(), a.recordingCatCommand(), a.recordingEventsCommand(),
		a.recordingExportCommand(),
	)
	cmd.Aliases = []string{"recordings"}
	return cmd
}

// recordingListOptions are the flags of "berth recording ls".
type recordingListOptions struct {
	client.RecordingQuery

	since, until string
	asJSON       bool
}

func (a *app) recordingListCommand() *cobra.Command {
	var o recordingListOptions
	cmd := &cobra.Command{
		Use:     "ls [flags]",
		Aliases: []string{"list"},
		Short:   "List recorded sessions",
		Long: `List the sessions that Teleport recorded and that your roles let you see: those
under way first, then the newest first. Without --cluster these are of every
cluster that you are logged in to, and of their leaf clusters.`,
		Example: `  berth recording ls --since 7d --kind ssh
  berth recording ls --host web-1 --json | jq -r '.recordings[].id'`,
		Args: noArgs,
		PreRunE: func(cmd *cobra.Command, _ []string) error {
			return noneEmptyFlags(cmd, "user", "kind", "host", "cluster")
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			now := time.Now()
			if err := o.parseTimes(now); err != nil {
				return err
			}
			return a.withAgent(func(c *client.Client) error {
				list, err := c.Recordings(cmd.Context(), o.RecordingQuery)
				switch {
				case err != nil:
					return err
				case o.asJSON:
					return a.printJSON(list)
				default:
					return a.printRecordings(list, o, now)
				}
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.since, "since", "24h", "how far back: a `TIME` as 7d, 36h, 2006-01-02 or in RFC 3339")
	f.StringVar(&o.until, "until", "", "up to when, written as for --since; default: now")
	f.StringVar(&o.User, "user", "", "only sessions in which this Teleport `USER` took part")
	f.StringVar(&o.Kind, "kind", "", "only this `KIND`: "+strings.Join(state.RecordingKinds, ", "))
	f.StringVar(&o.Host, "host", "", "only sessions at this `HOST`, Kubernetes cluster, database, application or desktop")
	f.StringVar(&o.Cluster, "cluster", "", "the cluster to ask (default: all you are logged in to, and their leaves)")
	f.BoolVar(&o.LiveOnly, "live", false, "only sessions under way")
	f.IntVar(&o.Limit, "limit", 0, "list this many at most; 0 means 1000")
	f.BoolVar(&o.asJSON, "json", false, "print the recordings as JSON")
	must(cmd.RegisterFlagCompletionFunc("kind", cobra.FixedCompletions(state.RecordingKinds, noCompletions)))
	must(cmd.RegisterFlagCompletionFunc("cluster", a.completeClusters))
	return cmd
}

func (o *recordingListOptions) parseTimes(now time.Time) error {
	for _, side := range []struct {
		flag, text string
		to         **time.Time
	}{{"since", o.since, &o.Since}, {"until", o.until, &o.Until}} {
		if side.text == "" {
			continue
		}
		at, err := pastTime(side.text, now)
		if err != nil {
			return usageError{withHint(fmt.Errorf("--%s: %w", side.flag, err), "write it as 7d, 36h, 2006-01-02 or 2006-01-02T15:04:05Z")}
		}
		*side.to = &at
	}
	if o.Limit < 0 {
		return usageError{withHint(errors.New("--limit cannot be below 0"), "leave it out, or say how many to list")}
	}
	if o.Since != nil && o.Since.After(now) {
		return usageError{withHint(fmt.Errorf("--since %s is in the future", o.since), "say how far back to look, as in 7d")}
	}
	if o.Since != nil && o.Until != nil && !o.Since.Before(*o.Until) {
		return usageError{withHint(fmt.Errorf("--since %s is not before --until %s", o.since, o.until),
			"--since is 24h where it is left out: give an earlier one")}
	}
	return nil
}

// maxPast bounds how far back a list goes: no cluster is older.
const maxPast = 20 * 366 * 24 * time.Hour

// pastTime reads how long ago something was, or when.
func pastTime(text string, now time.Time) (time.Time, error) {
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, nil
	}
	if day, err := time.ParseInLocation(time.DateOnly, text, time.Local); err == nil {
		return day, nil
	}
	ago, err := time.ParseDuration(text)
	if days, ok := strings.CutSuffix(text, "d"); ok {
		var n float64
		n, err = strconv.ParseFloat(days, 64)
		switch {
		case err == nil && n >= 0: // also false for NaN
			ago = time.Duration(min(n*24*float64(time.Hour), float64(maxPast+time.Hour)))
		default:
			ago = -1
		}
	}
	if err == nil && ago > maxPast {
		return time.Time{}, fmt.Errorf("%q is further back than any recording: 20 years are the most", text)
	}
	if err != nil || ago < 0 {
		return time.Time{}, fmt.Errorf("%q is no time in the past", text)
	}
	return now.Add(-ago), nil
}

func (a *app) printRecordings(list client.RecordingList, o recordingListOptions, now time.Time) error {
	for _, note := range list.Notes {
		fmt.Fprintln(a.err, "berth: "+plain.Line(note))
	}
	if list.More {
		fmt.Fprintf(a.err, "berth: there are more than the %d listed: narrow the list, or raise --limit\n", len(list.Recordings))
	}
	if len(list.Recordings) == 0 {
		what := "No recorded session from that time"
		if o.LiveOnly {
			what = "No session under way"
		}
		_, err := fmt.Fprintln(a.out, what+" matches, or your roles do not let you see any. See \"berth recording ls --help\".")
		return err
	}
	columns := a.width()
	withNote := columns == 0 || columns >= 2*recordingWhereMin
	short := idsApart(list.Recordings)
	rows := make([][]string, 0, len(list.Recordings))
	for _, r := range list.Recordings {
		rows = append(rows, []string{
			short[r.ID], recordingStart(r, now), recordingSpan(r, now), r.Kind,
			listed(r.User), listed(recordingWhere(r, withNote)), listed(otherParticipants(r)),
		})
	}
	return a.table([]string{"ID", "START", "DURATION", "KIND", "USER", "WHERE", "WITH"}, rows, func(column int, cell string) string {
		if column == 2 && strings.HasPrefix(cell, "live") {
			return green
		}
		return ""
	}, "WITH", "KIND", "DURATION", "START")
}

// idsApart shortens ids, each as far as no other in the list begins like it: a
// command takes the beginning of an id only if it names one session.
func idsApart(list []state.Recording) map[string]string {
	ids := make([]string, 0, len(list))
	for _, r := range list {
		ids = append(ids, r.ID)
	}
	slices.Sort(ids)
	ids = slices.Compact(ids) // the same session may be listed for two clusters
	short := make(map[string]string, len(ids))
	for i, id := range ids {
		enough := len(shortID(id))
		for _, near := range ids[max(0, i-1):min(i+2, len(ids))] {
			if near == id {
				continue
			}
			for enough < len(id) && strings.HasPrefix(near, id[:enough]) {
				enough++
			}
		}
		short[id] = id[:enough]
	}
	return short
}

// maxListed is how wide a name may be in a list without a terminal, where each row
// would be as wide as the longest.
const maxListed = 64

func listed(name string) string { return plain.Middle(plain.Line(name), maxListed) }

func recordingStart(r state.Recording, now time.Time) string {
	switch {
	case r.StartedAt != nil:
		return when.Clock(*r.StartedAt, now)
	case r.EndedAt != nil: // version 16 does not say when a database's session began
		return "before " + when.Clock(*r.EndedAt, now)
	default:
		return "-"
	}
}

func recordingSpan(r state.Recording, now time.Time) string {
	d, known := r.Duration()
	switch {
	case r.Live && r.StartedAt != nil:
		return "live, " + when.SpanSeconds(max(0, now.Sub(*r.StartedAt)))
	case r.Live:
		return "live"
	case known:
		return when.SpanSeconds(d)
	default:
		return "-"
	}
}

// recordingWhereMin is about what a host and the note beside it take.
const recordingWhereMin = 32

// recordingWhere says at what a session was, and with a note whether it had no terminal.
// Shortened in a narrow column the note would be what remains, and not the host.
func recordingWhere(r state.Recording, note bool) string {
	where := cmp.Or(r.Where, "-")
	if r.Login != "" {
		where = r.Login + "@" + where
	}
	if note && !r.Interactive && r.Kind == state.RecordingSSH {
		where += " (no terminal)"
	}
	return where
}

// otherParticipants names who took part beside the user.
func otherParticipants(r state.Recording) string {
	var others []string
	for _, p := range r.Participants {
		if p != r.User {
			others = append(others, p)
		}
	}
	return strings.Join(others, ", ")
}

// completeRecordings completes the ids of recent recordings.
func (a *app) completeRecordings(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, noCompletions
	}
	return a.complete(cmd, func(ctx context.Context, c *client.Client) ([]string, error) {
		now := time.Now()
		since := now.Add(-7 * 24 * time.Hour)
		list, err := c.Recordings(ctx, client.RecordingQuery{Since: &since, Limit: 50})
		var ids []string
		for _, r := range list.Recordings {
			text := fmt.Sprintf("%s, %s, %s at %s", r.Kind, recordingStart(r, now), r.User, cmp.Or(r.Where, "-"))
			ids = append(ids, described(r.ID, text))
		}
		return ids, err
	})
}
