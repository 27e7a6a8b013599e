package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"strings"
	"testing"
	"time"

	apievents "github.com/gravitational/teleport/api/types/events"
	"github.com/gravitational/trace"

	"berth/agent/ipc"
	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/internal/simcluster"
	"berth/internal/testneeds"
	"berth/internal/testwait"
)

// sessionID returns the id of a test's n'th session.
func sessionID(n int) string { return fmt.Sprintf("%08x-1111-4222-8333-444444444444", n) }

// loggedIn starts an agent with a session, and returns a front end of it.
func loggedIn(e *env) *client.Client {
	e.t.Helper()
	e.Login()
	e.config()
	e.start()
	e.Await("a session", func(s state.Snapshot) bool { return len(s.Profiles) == 1 && s.Profiles[0].ValidUntil != nil })
	return e.Client()
}

// readRecording returns all that a recording's stream brings.
func readRecording(t *testing.T, c *client.Client, want client.RecordingRead) (events []state.RecordingEvent, last client.RecordingPart, states []string, err error) {
	t.Helper()
	return readRecordingThen(t, c, want, func(state.RecordingState) {})
}

// readRecordingThen does so, and calls then with each state that it brings.
func readRecordingThen(
	t *testing.T, c *client.Client, want client.RecordingRead, then func(state.RecordingState),
) (events []state.RecordingEvent, last client.RecordingPart, states []string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	for part, err := range c.ReadRecording(ctx, want) {
		if err != nil {
			return events, last, states, err
		}
		events = append(events, part.Events...)
		last = part
		if len(part.Events) == 0 {
			states = append(states, string(part.State))
			then(part.State)
		}
	}
	return events, last, states, nil
}

func printed(events []state.RecordingEvent) string {
	var b bytes.Buffer
	for _, ev := range events {
		b.Write(ev.Data)
	}
	return b.String()
}

func TestRecordingsAreListed(t *testing.T) {
	t.Parallel()
	e := newEnv(t, simcluster.Config{Users: []simcluster.User{
		{Name: "alice"}, {Name: "bob", Password: "b"},
	}})
	now := time.Now()
	for i := range 450 { // more than two pages of the cluster's
		e.Sim.Record(simcluster.PrintedSession(sessionID(i), "alice", now.Add(-time.Duration(i)*time.Second), time.Second, "hello"))
	}
	e.Sim.Record(simcluster.PrintedSession(sessionID(1000), "bob", now.Add(-30*24*time.Hour), time.Second, "old"))
	live := simcluster.PrintedSession(sessionID(1001), "alice", now, time.Second, "now")
	live.Running = true
	e.Sim.Record(live)
	c := loggedIn(e)

	list, err := c.Recordings(t.Context(), client.RecordingQuery{})
	if err != nil || len(list.Recordings) != 451 || list.More || len(list.Notes) != 0 {
		t.Fatalf("%d recordings, more %v, notes %q, %v", len(list.Recordings), list.More, list.Notes, err)
	}
	if first := list.Recordings[0]; !first.Live || first.ID != sessionID(1001) {
		t.Errorf("the first is %+v", first)
	}
	if second := list.Recordings[1]; second.ID != sessionID(0) || second.Kind != state.RecordingSSH || second.Where != "sim-host" || second.Login != "dev" {
		t.Errorf("the second is %+v", second)
	}
	if d, ok := list.Recordings[1].Duration(); !ok || d != time.Second {
		t.Errorf("it took %v", d)
	}
	long := now.Add(-60 * 24 * time.Hour)
	for name, tc := range map[string]struct {
		q    client.RecordingQuery
		want int
		more bool
	}{
		"limit":     {client.RecordingQuery{Limit: 10}, 10, true},
		"user":      {client.RecordingQuery{User: "BOB", Since: &long}, 1, false},
		"kind":      {client.RecordingQuery{Kind: "kube"}, 0, false},
		"host":      {client.RecordingQuery{Host: "sim-host", Since: &long}, 452, false},
		"elsewhere": {client.RecordingQuery{Host: "x"}, 0, false},
		"live":      {client.RecordingQuery{LiveOnly: true}, 1, false},
	} {
		list, err := c.Recordings(t.Context(), tc.q)
		if err != nil || len(list.Recordings) != tc.want || list.More != tc.more {
			t.Errorf("%s: %d recordings, more %v, %v", name, len(list.Recordings), list.More, err)
		}
	}
	var wrong *ipc.Error
	if _, err := c.Recordings(t.Context(), client.RecordingQuery{Kind: "films"}); !errors.As(err, &wrong) || wrong.Code != ipc.CodeInvalid {
		t.Errorf("a kind that does not exist: %v", err)
	}
	future := now.Add(48 * time.Hour)
	if _, err := c.Recordings(t.Context(), client.RecordingQuery{Since: &future}); !errors.As(err, &wrong) || wrong.Code != ipc.CodeInvalid {
		t.Errorf("a time in the future: %v", err)
	}
}

func TestRecordingsOfARole(t *testing.T) {
	testneeds.Time(t, "each role lists recordings of its own")
	t.Parallel()
	for rule, want := range map[string]struct {
		note, err string
		seen      int
	}{
		simcluster.RecordingsOwn:  {note: "only sessions of sim.test in which you took part", seen: 1},
		simcluster.RecordingsNone: {err: "your roles do not let you see recordings of sim.test"},
	} {
		t.Run(rule, func(t *testing.T) {
			t.Parallel()
			e := newEnv(t, simcluster.Config{Roles: []simcluster.Role{{Name: "access", Recordings: rule}}})
			e.Sim.Record(simcluster.PrintedSession(sessionID(1), "alice", time.Now(), time.Second, "mine"))
			e.Sim.Record(simcluster.PrintedSession(sessionID(2), "bob", time.Now(), time.Second, "not mine"))
			c := loggedIn(e)
			list, err := c.Recordings(t.Context(), client.RecordingQuery{})
			if got := fmt.Sprint(err); want.err != "" && !strings.Contains(got, want.err) || want.err == "" && err != nil {
				t.Errorf("error %v", err)
			}
			if len(list.Recordings) != want.seen || !strings.Contains(strings.Join(list.Notes, " "), want.note) {
				t.Errorf("%d recordings, notes %q", len(list.Recordings), list.Notes)
			}
			_, _, _, err = readRecording(t, c, client.RecordingRead{ID: sessionID(2)})
			if err == nil {
				t.Error("another user's recording was read")
			}
		})
	}
}

func TestRecordingIsRead(t *testing.T) {
	testneeds.Time(t, "it follows a recording")
	t.Parallel()
	e := newEnv(t, simcluster.Config{})
	text := []string{"one ", "two ", "thr", "ee ", "four"}
	now := time.Now()
	whole := simcluster.PrintedSession(sessionID(1), "alice", now, time.Second, text...)
	e.Sim.Record(whole)
	broken := simcluster.PrintedSession(sessionID(2), "alice", now, time.Second, text...)
	broken.BreakAt, broken.Breaks = 4, 2
	e.Sim.Record(broken)
	cut := simcluster.PrintedSession(sessionID(3), "alice", now, time.Second, text...)
	cut.BreakAt, cut.Error = 4, trace.BadParameter("unexpected EOF in the archive")
	e.Sim.Record(cut)
	late := simcluster.PrintedSession(sessionID(4), "alice", now, time.Second, text...)
	late.UploadedAt = now.Add(time.Hour)
	e.Sim.Record(late)
	live := simcluster.PrintedSession(sessionID(5), "alice", now, time.Second, text...)
	live.Running = true
	e.Sim.Record(live)
	empty := simcluster.PrintedSession(sessionID(6), "alice", now, time.Second, text...)
	empty.Vague = true
	empty.Events = nil
	e.Sim.Record(empty)
	strange := simcluster.PrintedSession(sessionID(7), "alice", now, time.Second, text...)
	strange.Events[2] = nil // of a later version
	e.Sim.Record(strange)
	twin := simcluster.PrintedSession("00000007-2222-4222-8333-444444444444", "alice", now, time.Second, "twin")
	e.Sim.Record(twin)
	c := loggedIn(e)

	all := strings.Join(text, "")
	events, last, _, err := readRecording(t, c, client.RecordingRead{ID: sessionID(1)})
	if err != nil || printed(events) != all || last.State != state.RecordingComplete {
		t.Fatalf("%q, %+v, %v", printed(events), last, err)
	}
	if ev := events[3]; ev.Seq != 3 || ev.At != 3*time.Second || ev.Kind != state.EventPrint {
		t.Errorf("the fourth event is %+v", ev)
	}
	if ev := events[0]; ev.Cols != 80 || ev.Rows != 24 || !strings.Contains(ev.Fields, `"session.start"`) {
		t.Errorf("the first event is %+v", ev)
	}
	if events, _, _, err = readRecording(t, c, client.RecordingRead{ID: sessionID(1), From: 4}); err != nil || printed(events) != "ee four" {
		t.Errorf("from 4: %q, %v", printed(events), err)
	}
	if events, _, _, err = readRecording(t, c, client.RecordingRead{ID: sessionID(1), From: 99}); err != nil || len(events) != 0 {
		t.Errorf("from beyond its end: %q, %v", printed(events), err)
	}

	t.Run("resumed", func(t *testing.T) {
		events, last, _, err := readRecording(t, c, client.RecordingRead{ID: sessionID(2)})
		if err != nil || printed(events) != all || last.State != state.RecordingComplete || len(events) != 7 {
			t.Errorf("%q, %+v, %v", printed(events), last, err)
		}
	})
	t.Run("cut", func(t *testing.T) {
		events, last, _, err := readRecording(t, c, client.RecordingRead{ID: sessionID(3)})
		if err != nil || printed(events) != "one two thr" || last.State != state.RecordingDamaged || !strings.Contains(last.Text, "unexpected EOF") {
			t.Errorf("%q, %+v, %v", printed(events), last, err)
		}
	})
	t.Run("awaited", func(t *testing.T) {
		events, last, states, err := readRecordingThen(t, c, client.RecordingRead{ID: sessionID(4)}, func(now state.RecordingState) {
			if now == state.RecordingAwaited { // and now it arrives
				late.UploadedAt = time.Time{}
				e.Sim.Record(late)
			}
		})
		if err != nil || printed(events) != all || last.State != state.RecordingComplete || !strings.Contains(strings.Join(states, " "), "waiting_upload") {
			t.Errorf("%q, %+v, %q, %v", printed(events), last, states, err)
		}
	})
	t.Run("under way", func(t *testing.T) {
		_, _, _, err := readRecording(t, c, client.RecordingRead{ID: sessionID(5)})
		var said *client.Error
		if !errors.As(err, &said) || !strings.Contains(said.Hint, "tsh join --cluster=sim.test "+sessionID(5)) {
			t.Errorf("%v", err)
		}
	})
	t.Run("empty", func(t *testing.T) {
		events, last, _, err := readRecording(t, c, client.RecordingRead{ID: sessionID(6)})
		if err != nil || len(events) != 0 || last.State != state.RecordingComplete || last.Text != "the recording is empty" {
			t.Errorf("%q, %+v, %v", printed(events), last, err)
		}
	})
	t.Run("unknown event", func(t *testing.T) {
		events, last, _, err := readRecording(t, c, client.RecordingRead{ID: sessionID(7)})
		if err != nil || printed(events) != "one thr"+"ee four" || last.State != state.RecordingComplete || events[2].Kind != "unknown" {
			t.Errorf("%q, %+v, %v", printed(events), last, err)
		}
	})
	for id, code := range map[string]ipc.Code{
		"00000007":                             ipc.CodeInvalid, // two
		"0000000":                              ipc.CodeInvalid,
		"ab":                                   ipc.CodeInvalid,
		"x; rm -rf /":                          ipc.CodeInvalid,
		"abcdef01":                             ipc.CodeNotFound,
		"99999999-1111-4222-8333-444444444444": ipc.CodeNotFound,
	} {
		_, _, _, err := readRecording(t, c, client.RecordingRead{ID: id})
		var said *client.Error
		if !errors.As(err, &said) || said.Code != code {
			t.Errorf("id %q: %v", id, err)
		}
	}
	if events, _, _, err := readRecording(t, c, client.RecordingRead{ID: "00000001"}); err != nil || printed(events) != all {
		t.Errorf("by the beginning of its id: %v", err)
	}
}

// TestRecordingFollowed: a cluster that lets one read a session under way.
func TestRecordingFollowed(t *testing.T) {
	t.Parallel()
	e := newEnv(t, simcluster.Config{})
	s := simcluster.PrintedSession(sessionID(1), "alice", time.Now(), time.Second, "one ", "two ", "three")
	whole := s.Events
	s.Running, s.Readable, s.Events = true, true, whole[:2]
	e.Sim.Record(s)
	c := loggedIn(e)
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	var text string
	var states []state.RecordingState
	for part, err := range c.ReadRecording(ctx, client.RecordingRead{ID: s.ID}) {
		if err != nil {
			t.Fatal(err)
		}
		text += printed(part.Events)
		states = append(states, part.State)
		if part.State == state.RecordingWaiting {
			s.Events, s.Running = whole, false
			e.Sim.Record(s)
		}
	}
	if text != "one two three" || states[len(states)-1] != state.RecordingComplete {
		t.Errorf("%q, %v", text, states)
	}
}

// liveHeap returns how much a garbage collection leaves: the least of a few, since
// each counts what others allocate while it runs, which takes long on a busy machine.
func liveHeap() uint64 {
	runtime.GC() // pools survive the first
	least := uint64(math.MaxUint64)
	for range 4 {
		runtime.GC()
		live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		metrics.Read(live)
		least = min(least, live[0].Value.Uint64())
	}
	return least
}

// TestRecordingIsSharedAndSmall: several readers of a large recording share one
// stream, the memory does not grow with it, and nothing is left of it.
func TestRecordingIsSharedAndSmall(t *testing.T) {
	if testing.Short() {
		testneeds.Time(t, "reads 50 MB twice")
	}
	e := newEnv(t, simcluster.Config{})
	chunk := strings.Repeat("0123456789abcdef", 256) // 4 KiB, as much as a terminal is read at a time
	chunks := make([]string, 12_800)                 // 50 MiB
	for i := range chunks {
		chunks[i] = chunk
	}
	s := simcluster.PrintedSession(sessionID(1), "alice", time.Now(), time.Millisecond, chunks...)
	e.Sim.Record(s)
	c := loggedIn(e)
	before := liveHeap()
	ctx := t.Context()
	other := make(chan int)
	go func() {
		n := 0
		for part, err := range c.ReadRecording(ctx, client.RecordingRead{ID: s.ID}) {
			if err != nil {
				break
			}
			for _, ev := range part.Events {
				n += len(ev.Data)
			}
		}
		other <- n
	}()
	n, next, peak := 0, 0, uint64(0)
	for part, err := range c.ReadRecording(ctx, client.RecordingRead{ID: s.ID}) {
		if err != nil {
			t.Fatal(err)
		}
		for _, ev := range part.Events {
			n += len(ev.Data)
		}
		if n > next {
			next += 10 << 20
			peak = max(peak, liveHeap())
		}
	}
	if got := <-other; n != len(chunk)*len(chunks) || got != n {
		t.Errorf("read %d and %d bytes of %d", n, got, len(chunk)*len(chunks))
	}
	grown := (int64(peak) - int64(before)) >> 20
	t.Logf("the heap of agent, cluster and reader together grew by %d MiB for a recording of %d MiB", grown, n>>20)
	if grown > 32 { // the cluster's part, two readers', and what was allocated while the collection ran
		t.Errorf("the heap grew by %d MiB", grown)
	}
	if got := e.Sim.StreamsOf(s.ID); got != 1 {
		t.Errorf("the cluster sent it %d times", got)
	}
	if left, err := filepath.Glob(filepath.Join(e.Paths.StateDir, "recordings", "*")); err != nil || len(left) != 0 && runtime.GOOS != "windows" {
		t.Errorf("left: %q, %v", left, err)
	}
}

// TestRecordingReaderLeaves: the stream ends with its reader.
func TestRecordingReaderLeaves(t *testing.T) {
	t.Parallel()
	e := newEnv(t, simcluster.Config{})
	s := simcluster.PrintedSession(sessionID(1), "alice", time.Now(), time.Second, "one")
	s.Running, s.Readable, s.Events = true, true, s.Events[:2]
	e.Sim.Record(s)
	c := loggedIn(e)
	for part, err := range c.ReadRecording(t.Context(), client.RecordingRead{ID: s.ID}) {
		if err != nil || part.State == state.RecordingWaiting {
			break
		}
	}
	quiet, since := -1, time.Now()
	if !testwait.Until(func() bool {
		if n := e.Sim.StreamsOf(s.ID); n != quiet {
			quiet, since = n, time.Now()
		}
		return time.Since(since) > 2500*time.Millisecond // it looked every second
	}) {
		t.Errorf("the cluster is still asked, %d times by now", quiet)
	}
	if _, err := os.Stat(filepath.Join(e.Paths.StateDir, "recordings")); err != nil {
		t.Error(err)
	}
}

// databaseSession is a session of a database, as Teleport records one.
func databaseSession(id, user string, ended time.Time) simcluster.RecordedSession {
	meta := func(kind string, index int64, at time.Time) apievents.Metadata {
		return apievents.Metadata{Type: kind, Index: index, Time: at.UTC(), ClusterName: "sim.test"}
	}
	session, who := apievents.SessionMetadata{SessionID: id}, apievents.UserMetadata{User: user}
	db := apievents.DatabaseMetadata{DatabaseService: "orders", DatabaseUser: "app", DatabaseProtocol: "postgres"}
	start := ended.Add(-time.Minute)
	return simcluster.RecordedSession{ID: id, User: user, Events: []apievents.AuditEvent{
		&apievents.DatabaseSessionStart{Metadata: meta("db.session.start", 0, start), UserMetadata: who, SessionMetadata: session, DatabaseMetadata: db},
		&apievents.DatabaseSessionEnd{
			Metadata: meta("db.session.end", 1, ended), UserMetadata: who, SessionMetadata: session, DatabaseMetadata: db,
			StartTime: start.UTC(), EndTime: ended.UTC(),
		},
	}}
}

// TestRecordingsOfDatabases: version 16 lists them apart, in pages, too.
func TestRecordingsOfDatabases(t *testing.T) {
	t.Parallel()
	e := newEnv(t, simcluster.Config{Version: simcluster.V16, Roles: []simcluster.Role{{Name: "access", ListEvents: true}}})
	now := time.Now()
	for i := range 450 {
		e.Sim.Record(databaseSession(sessionID(i), "alice", now.Add(-time.Duration(i)*time.Minute)))
	}
	unlisted := databaseSession(sessionID(5000), "alice", now.Add(-time.Hour))
	unlisted.Vague = true
	e.Sim.Record(unlisted)
	c := loggedIn(e)
	until := now.Add(-100*time.Minute - 30*time.Second)
	young := now.Add(-5*time.Minute - 30*time.Second)
	for name, tc := range map[string]struct {
		q    client.RecordingQuery
		want int
		more bool
	}{
		"all":                {client.RecordingQuery{}, 450, false},
		"of a kind":          {client.RecordingQuery{Kind: "db"}, 450, false},
		"until":              {client.RecordingQuery{Until: &until}, 349, false},
		"older than minutes": {client.RecordingQuery{Until: &young}, 444, false},
		"limit":              {client.RecordingQuery{Limit: 300}, 300, true},
	} {
		list, err := c.Recordings(t.Context(), tc.q)
		if err != nil || len(list.Recordings) != tc.want || list.More != tc.more {
			t.Errorf("%s: %d recordings, more %v, notes %q, %v", name, len(list.Recordings), list.More, list.Notes, err)
		}
		if len(list.Recordings) == 0 {
			continue
		}
		if list.Recordings[0].Kind != state.RecordingDB || tc.q.Until != nil && list.Recordings[0].EndedAt.After(*tc.q.Until) {
			t.Errorf("%s: the first is %+v", name, list.Recordings[0])
		}
	}

	// A beginning far down the pages, and an id that no list has.
	for id, whole := range map[string]string{sessionID(449)[:8]: sessionID(449), sessionID(5000): sessionID(5000)} {
		events, _, _, err := readRecording(t, c, client.RecordingRead{ID: id})
		if err != nil || len(events) != 2 {
			t.Fatalf("%s: %d events, %v", id, len(events), err)
		}
		for part, err := range c.ReadRecording(t.Context(), client.RecordingRead{ID: id}) {
			if err != nil {
				t.Fatal(err)
			}
			if r := part.Recording; r == nil || r.ID != whole || r.Kind != state.RecordingDB || r.User != "alice" || r.Where != "orders" || r.Login != "app" {
				t.Errorf("%s is %+v", id, r)
			}
			break
		}
	}
}
