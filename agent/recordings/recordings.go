package recordings

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/gravitational/teleport/api/types"
	apievents "github.com/gravitational/teleport/api/types/events"

	"berth/agent/cluster"
	"berth/agent/ipc"
	"berth/agent/sessions"
	"berth/agent/state"
	"berth/internal/plain"
)

var _ ipc.RecordingBackend = (*Recordings)(nil)

const (
	// defaultSpan is how far back a list goes unless more is asked for.
	defaultSpan = 24 * time.Hour
	// idSpan is how far back the beginning of an id is looked for.
	idSpan = 90 * 24 * time.Hour
	// ahead is how far in the future a session may have ended: clocks differ, by a
	// time zone where one was set wrongly.
	ahead = 24 * time.Hour
	// pageSize is how many sessions a page of the cluster's has at most.
	pageSize = 200
	// defaultLimit and maxLimit bound a list.
	defaultLimit = 1000
	maxLimit     = 20_000
)

// Sessions is what is asked of the login sessions.
type Sessions interface {
	// Clusters returns the clusters that the valid sessions lead to.
	Clusters(ctx context.Context, now time.Time) []string
	// Discover returns the session that leads to a cluster.
	Discover(ctx context.Context, name, user string, now time.Time) sessions.Session
}

// Config is what Recordings is handed.
type Config struct {
	Sessions Sessions
	// Word words an error of a cluster for a person.
	Word func(err error, cluster string) error
	// Dir is where a recording is kept while it is read.
	Dir    string
	Logger *slog.Logger
}

// Recordings finds and reads recordings. Its methods are safe for concurrent use.
type Recordings struct {
	cfg Config
	log *slog.Logger
	ctx context.Context

	mu      sync.Mutex
	streams map[key]*stream
	pace    pace
	spool   func(dir string) (*spool, error)
}

// key names a recording.
type key struct{ cluster, id string }

// New returns the room; nothing runs yet. ctx ends what it reads.
func New(ctx context.Context, cfg Config) *Recordings {
	clean(cfg.Dir)
	return &Recordings{
		cfg: cfg, log: cfg.Logger.With("component", "recordings"), ctx: ctx, streams: make(map[key]*stream), pace: usualPace,
		spool: newSpool,
	}
}

// session returns the live connection that leads to a cluster.
func (rs *Recordings) session(ctx context.Context, name string) (sessions.Session, error) {
	now := time.Now()
	f := rs.cfg.Sessions.Discover(ctx, name, "", now)
	switch {
	case f.Profile == nil:
		return f, rs.cfg.Word(sessions.ErrNoProfile, name)
	case !f.Valid(now) || f.Cluster == nil:
		return f, rs.cfg.Word(sessions.ErrLoginNeeded, name)
	}
	return f, nil
}

// clusters returns the clusters to ask: the named one, or all.
func (rs *Recordings) clusters(ctx context.Context, name string) ([]string, error) {
	if name != "" {
		return []string{name}, nil
	}
	names := rs.cfg.Sessions.Clusters(ctx, time.Now())
	if len(names) == 0 {
		return nil, rs.cfg.Word(sessions.ErrLoginNeeded, "")
	}
	return names, nil
}

// ListRecordings lists recordings, the sessions under way first, then the newest
// first. A cluster that cannot be asked is an error where it is the only one,
// else a note.
func (rs *Recordings) ListRecordings(ctx context.Context, q ipc.RecordingQuery) (ipc.RecordingList, error) {
	list := ipc.RecordingList{Recordings: []state.Recording{}, Notes: []string{}}
	if q.Kind != "" && !slices.Contains(state.RecordingKinds, q.Kind) {
		return list, &ipc.Error{
			Code: ipc.CodeInvalid, Message: fmt.Sprintf("unknown kind of recording %q", q.Kind),
			Hint: "kinds are " + strings.Join(state.RecordingKinds, ", "),
		}
	}
	q, err := withDefaults(q, time.Now())
	if err != nil {
		return list, err
	}
	names, err := rs.clusters(ctx, q.Cluster)
	if err != nil {
		return list, err
	}
	for _, name := range names {
		found, err := rs.listOf(ctx, name, q)
		switch {
		case err != nil && len(names) == 1:
			return list, err
		case err != nil:
			list.Notes = append(list.Notes, name+": "+err.Error())
		}
		list.Recordings = append(list.Recordings, found.Recordings...)
		list.Notes = append(list.Notes, found.Notes...)
		list.More = list.More || found.More
	}
	slices.SortStableFunc(list.Recordings, newestFirst)
	if len(list.Recordings) > q.Limit {
		list.Recordings, list.More = list.Recordings[:q.Limit], true
	}
	return list, nil
}

func withDefaults(q ipc.RecordingQuery, now time.Time) (ipc.RecordingQuery, error) {
	if q.Until == nil {
		until := now.Add(ahead)
		q.Until = &until
	}
	if q.Since == nil {
		since := now.Add(-defaultSpan)
		q.Since = &since
	}
	if !q.Since.Before(*q.Until) {
		return q, &ipc.Error{Code: ipc.CodeInvalid, Message: "the time to begin is not before the time to end", Hint: "see --since and --until"}
	}
	if q.Limit <= 0 {
		q.Limit = defaultLimit
	}
	q.Limit = min(q.Limit, maxLimit)
	return q, nil
}

// newestFirst orders a list: what goes on, then what ended last.
func newestFirst(a, b state.Recording) int {
	if a.Live != b.Live {
		if a.Live {
			return -1
		}
		return 1
	}
	return cmp.Or(instant(b).Compare(instant(a)), strings.Compare(a.ID, b.ID))
}

func instant(r state.Recording) time.Time {
	switch {
	case r.EndedAt != nil:
		return *r.EndedAt
	case r.StartedAt != nil:
		return *r.StartedAt
	default:
		return time.Time{}
	}
}

// listOf lists the recordings of one cluster.
func (rs *Recordings) listOf(ctx context.Context, name string, q ipc.RecordingQuery) (list ipc.RecordingList, err error) {
	f, err := rs.session(ctx, name)
	if err != nil {
		return list, err
	}
	tracked, err := rs.tracked(ctx, f.Cluster, name)
	if err != nil {
		return list, rs.cfg.Word(err, name)
	}
	found := make(map[string]bool)
	for _, r := range tracked {
		if r.Live && matches(r, q) && within(r, q) {
			found[r.ID] = true // it outlives its session for a moment
			list.Recordings = append(list.Recordings, r)
		}
	}
	if q.LiveOnly {
		return list, nil
	}
	ended, before := 0, len(list.Recordings)
	take := func(r state.Recording) bool {
		if matches(r, q) && !found[r.ID] {
			found[r.ID] = true
			list.Recordings = append(list.Recordings, r)
			ended++
		}
		return ended < q.Limit
	}
	list.More, err = rs.pages(ctx, name, q, f.Cluster.RecordedSessions, take)
	if err != nil {
		return list, rs.word(err, name)
	}
	if q.Kind == "" || q.Kind == state.RecordingDB {
		fromDBs := func(r state.Recording) bool { return r.Kind == state.RecordingDB }
		if !slices.ContainsFunc(list.Recordings[before:], fromDBs) {
			ended = 0 // they may be newer
			more, notes, err := rs.databases(ctx, f.Cluster, name, q, take)
			list.More, list.Notes = list.More || more, append(list.Notes, notes...)
			if err == nil {
				tracked = nil // of these it is not known when they ended
			}
		}
		for _, r := range tracked {
			if !r.Live && within(r, q) {
				take(r)
			}
		}
	}
	if where, err := f.Cluster.RecordingScope(ctx, name); err == nil && where != "" {
		list.Notes = append(list.Notes, scopeNote(where, name))
	}
	return list, nil
}

// within reports whether a session lies in the span that is asked for, as far as
// that is known: one under way has no end.
func within(r state.Recording, q ipc.RecordingQuery) bool {
	at := instant(r)
	return at.IsZero() || !at.After(*q.Until) && (r.Live || !at.Before(*q.Since))
}

// databases shows the sessions of databases, which version 16 lists apart, until
// show returns false; more says that it was show. notes are for a person.
func (rs *Recordings) databases(
	ctx context.Context, c *cluster.Cluster, name string, q ipc.RecordingQuery, show func(state.Recording) bool,
) (more bool, notes []string, err error) {
	more, err = rs.pages(ctx, name, q, c.DatabaseSessions, show)
	switch denied := (*cluster.AccessDeniedError)(nil); {
	case errors.As(err, &denied) && q.Kind == state.RecordingDB:
		notes = []string{name + " may list sessions of databases only to a role that may list events, apart from those of the last half hour"}
	case errors.As(err, &denied):
	case err != nil:
		notes = []string{name + ": sessions of databases are not all listed: " + err.Error()}
	}
	return more, notes, err
}

// ownSessions is the condition of Teleport's preset role access.
const ownSessions = "contains(session.participants, user.metadata.name)"

// scopeNote says that the roles show a part of the recordings only.
func scopeNote(where, cluster string) string {
	if strings.ReplaceAll(where, " ", "") == strings.ReplaceAll(ownSessions, " ", "") {
		return "your roles show you only sessions of " + cluster + " in which you took part"
	}
	return "your roles show you only sessions of " + cluster + " for which this holds: " + plain.Line(where)
}

// word words an error; without the right it names what is missing.
func (rs *Recordings) word(err error, name string) error {
	if denied, ok := errors.AsType[*cluster.AccessDeniedError](err); ok {
		return &ipc.Error{
			Code: ipc.CodeDenied, Message: "your roles do not let you see recordings of " + name + ": " + denied.Err.Error(),
			Hint: "ask for a role that may list and read sessions: berth request create --help",
		}
	}
	return rs.cfg.Word(err, name)
}

func matches(r state.Recording, q ipc.RecordingQuery) bool {
	same := func(want, got string) bool { return want == "" || strings.EqualFold(want, got) }
	return same(q.Kind, r.Kind) && same(q.Host, r.Where) &&
		(same(q.User, r.User) || slices.ContainsFunc(r.Participants, func(p string) bool { return same(q.User, p) }))
}

// tracked returns the sessions under way in a cluster, and those of databases
// that ended lately: version 16 keeps them out of its list of recordings.
func (rs *Recordings) tracked(ctx context.Context, c *cluster.Cluster, name string) ([]state.Recording, error) {
	trackers, err := c.SessionTrackers(ctx, name)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(trackers, func(a, b types.SessionTracker) int { return b.GetCreated().Compare(a.GetCreated()) })
	var list []state.Recording
	for _, t := range trackers {
		r := trackedOf(name, t)
		if r.Live || r.Kind == state.RecordingDB {
			list = append(list, r)
		}
	}
	return list, nil
}

// pager asks a cluster for a page of events by which sessions ended.
type pager func(ctx context.Context, name string, p cluster.RecordingPage) (ended []apievents.AuditEvent, next string, err error)

// pages shows the sessions that ended, the newest first, until there are none
// left or show returns false; more says that it was show.
func (rs *Recordings) pages(
	ctx context.Context, name string, q ipc.RecordingQuery, next pager, show func(state.Recording) bool,
) (more bool, err error) {
	seen := make(map[string]bool)
	for page := (cluster.RecordingPage{From: *q.Since, To: *q.Until, Limit: pageSize}); ; {
		var ended []apievents.AuditEvent
		if ended, page.Key, err = next(ctx, name, page); err != nil {
			return false, err
		}
		for _, ev := range ended {
			r, ok := recordingOf(name, ev)
			if !ok || seen[r.ID] {
				continue
			}
			seen[r.ID] = true
			if !show(r) {
				return true, nil
			}
		}
		if page.Key == "" {
			return false, nil
		}
	}
}

// find returns the recording that an id, or its beginning, names.
func (rs *Recordings) find(ctx context.Context, clusterName, id string) (state.Recording, error) {
	whole := uuid.Validate(id) == nil && len(id) == len(uuid.Nil.String())
	if !whole && (len(id) < 4 || strings.Trim(strings.ToLower(id), "0123456789abcdef-") != "") {
		return state.Recording{}, &ipc.Error{
			Code: ipc.CodeInvalid, Message: fmt.Sprintf("%q is no session id", plain.Line(id)),
			Hint: `write the id that "berth recording ls" prints, or at least its first four characters`,
		}
	}
	names, err := rs.clusters(ctx, clusterName)
	if err != nil {
		return state.Recording{}, err
	}
	var found []state.Recording
	var failed error
	for _, name := range names {
		list, err := rs.findIn(ctx, name, strings.ToLower(id), whole)
		if err != nil {
			failed = err
		}
		found = append(found, list...)
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return state.Recording{}, ambiguous(id, found)
	case whole && len(names) == 1: // older than was looked for, or it may be read and not listed
		return state.Recording{ID: strings.ToLower(id), Cluster: names[0]}, nil
	case failed != nil:
		return state.Recording{}, failed
	}
	return state.Recording{}, unknown(id)
}

// findIn returns the sessions of a cluster whose id begins so.
func (rs *Recordings) findIn(ctx context.Context, name, id string, whole bool) (found []state.Recording, err error) {
	f, err := rs.session(ctx, name)
	if err != nil {
		return nil, err
	}
	take := func(r state.Recording) bool {
		known := slices.ContainsFunc(found, func(o state.Recording) bool { return o.ID == r.ID })
		if strings.HasPrefix(strings.ToLower(r.ID), id) && !known {
			found = append(found, r)
		}
		return !whole || len(found) == 0
	}
	tracked, err := rs.tracked(ctx, f.Cluster, name)
	if err != nil {
		return nil, rs.cfg.Word(err, name)
	}
	for _, r := range tracked {
		take(r)
	}
	if whole && len(found) > 0 {
		return found, nil
	}
	now := time.Now()
	since, until := now.Add(-idSpan), now.Add(ahead)
	q := ipc.RecordingQuery{Since: &since, Until: &until}
	if _, err := rs.pages(ctx, name, q, f.Cluster.RecordedSessions, take); err != nil {
		return found, rs.word(err, name)
	}
	if len(found) == 0 {
		_, _, _ = rs.databases(ctx, f.Cluster, name, q, take) // without the right there is nothing to find
	}
	return found, nil
}

func unknown(id string) error {
	return &ipc.Error{
		Code: ipc.CodeNotFound, Message: fmt.Sprintf("there is no recording %q that you may see", plain.Line(id)),
		Hint: `see "berth recording ls --since 30d"`,
	}
}

func ambiguous(id string, found []state.Recording) error {
	const most = 4
	var ids []string
	for _, r := range found[:min(len(found), most)] {
		ids = append(ids, r.ID)
	}
	listed := strings.Join(ids, ", ")
	if more := len(found) - len(ids); more > 0 {
		listed += fmt.Sprintf(" and %d more", more)
	}
	return &ipc.Error{
		Code: ipc.CodeInvalid, Message: fmt.Sprintf("%d recordings begin with %q: %s", len(found), plain.Line(id), plain.Line(listed)),
		Hint: "write more of the id",
	}
}
