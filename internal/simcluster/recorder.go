package simcluster

import (
	"bufio"
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/gravitational/teleport/api/client/proto"
	"github.com/gravitational/teleport/api/types"
	apievents "github.com/gravitational/teleport/api/types/events"
	"github.com/gravitational/trace"
	"google.golang.org/protobuf/types/known/emptypb"
)

// golden has recordings made on a real Teleport 16.0.0-dev, cleaned of names: an
// event a line, as Teleport's JSON, and what it printed.
//
//go:embed golden/*.jsonl
var golden embed.FS

// RecordedSession is a session that the cluster recorded, or records.
type RecordedSession struct {
	ID     string
	User   string // who may see it by the condition on their own sessions
	Events []apievents.AuditEvent
	// Running says that it has not ended: it has a tracker and no recording,
	// unless Readable.
	Running bool
	// Readable says that what there is can be read while it runs, which no
	// version seen allows.
	Readable bool
	// UploadedAt is when the recording arrives; zero means that it is there.
	UploadedAt time.Time
	// BreakAt breaks each stream before the event of this place in the list; 0
	// means never. Breaks bounds how often; 0 means always.
	BreakAt, Breaks int
	// Error is what a stream breaks with; nil means that the connection does.
	Error error
	// Vague leaves the session out of the audit log.
	Vague bool
}

// recorder is what a site has recorded.
type recorder struct {
	mu       sync.Mutex
	sessions map[string]*RecordedSession
	streams  map[string]int // how many were opened of a session
}

// Record adds a session to what the root cluster has recorded, or replaces it.
func (c *Cluster) Record(s RecordedSession) { c.root.Record(s) }

// Record adds a session to what the cluster has recorded, or replaces it.
func (s *Site) Record(r RecordedSession) {
	s.recorder.mu.Lock()
	defer s.recorder.mu.Unlock()
	if s.recorder.sessions == nil {
		s.recorder.sessions, s.recorder.streams = make(map[string]*RecordedSession), make(map[string]int)
	}
	s.recorder.sessions[r.ID] = &r
}

// StreamsOf returns how many streams of a session the root cluster has opened.
func (c *Cluster) StreamsOf(id string) int { return c.root.StreamsOf(id) }

// StreamsOf returns how many streams of a session were opened.
func (s *Site) StreamsOf(id string) int {
	s.recorder.mu.Lock()
	defer s.recorder.mu.Unlock()
	return s.recorder.streams[id]
}

// Golden returns a recording made on a real Teleport, ssh, kube, db or command, as if
// it had been that user's and had ended at that time.
func Golden(name, user string, ended time.Time) (RecordedSession, error) {
	raw, err := golden.ReadFile("golden/" + name + ".jsonl")
	if err != nil {
		return RecordedSession{}, err
	}
	events, err := DecodeGolden(bytes.NewReader(raw))
	if err != nil || len(events) == 0 {
		return RecordedSession{}, fmt.Errorf("golden recording %s: %w", name, err)
	}
	s := RecordedSession{User: user, Events: events}
	shift := ended.Sub(events[len(events)-1].GetTime())
	for _, ev := range events {
		ev.SetTime(ev.GetTime().Add(shift))
		s.ID = adopt(ev, user, shift, s.ID)
	}
	return s, nil
}

// adopt makes an event one of the user's, and returns the session's id.
func adopt(ev apievents.AuditEvent, user string, shift time.Duration, id string) string {
	switch ev := ev.(type) {
	case *apievents.SessionStart:
		ev.User, id = user, ev.SessionID
	case *apievents.SessionEnd:
		ev.User, ev.Participants, id = user, []string{user}, ev.SessionID
		ev.StartTime, ev.EndTime = ev.StartTime.Add(shift), ev.EndTime.Add(shift)
	case *apievents.DatabaseSessionStart:
		ev.User, id = user, ev.SessionID
	case *apievents.DatabaseSessionQuery:
		ev.User = user
	case *apievents.DatabaseSessionEnd: // version 16 leaves its times out
		ev.User, id = user, ev.SessionID
	}
	return id
}

// goldenEvents makes the events that golden recordings have.
var goldenEvents = map[string]func() apievents.AuditEvent{
	"session.start":                       func() apievents.AuditEvent { return &apievents.SessionStart{} },
	"session.join":                        func() apievents.AuditEvent { return &apievents.SessionJoin{} },
	"session.leave":                       func() apievents.AuditEvent { return &apievents.SessionLeave{} },
	"session.end":                         func() apievents.AuditEvent { return &apievents.SessionEnd{} },
	"session.command":                     func() apievents.AuditEvent { return &apievents.SessionCommand{} },
	"session.network":                     func() apievents.AuditEvent { return &apievents.SessionNetwork{} },
	"resize":                              func() apievents.AuditEvent { return &apievents.Resize{} },
	"print":                               func() apievents.AuditEvent { return &apievents.SessionPrint{} },
	"exec":                                func() apievents.AuditEvent { return &apievents.Exec{} },
	"db.session.start":                    func() apievents.AuditEvent { return &apievents.DatabaseSessionStart{} },
	"db.session.query":                    func() apievents.AuditEvent { return &apievents.DatabaseSessionQuery{} },
	"db.session.query.failed":             func() apievents.AuditEvent { return &apievents.DatabaseSessionQuery{} },
	"db.session.postgres.parse":           func() apievents.AuditEvent { return &apievents.PostgresParse{} },
	"db.session.result":                   func() apievents.AuditEvent { return &apievents.DatabaseSessionCommandResult{} },
	"db.session.end":                      func() apievents.AuditEvent { return &apievents.DatabaseSessionEnd{} },
	"db.session.mysql.statements.prepare": func() apievents.AuditEvent { return &apievents.MySQLStatementPrepare{} },
}

// DecodeGolden reads a golden recording.
func DecodeGolden(r io.Reader) ([]apievents.AuditEvent, error) {
	var list []apievents.AuditEvent
	in := bufio.NewScanner(r)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		var line struct {
			Event json.RawMessage `json:"event"`
			Data  []byte          `json:"data"`
		}
		var kind struct {
			Event string `json:"event"`
		}
		if err := json.Unmarshal(in.Bytes(), &line); err != nil {
			return nil, err
		}
		if err := json.Unmarshal(line.Event, &kind); err != nil {
			return nil, err
		}
		made := goldenEvents[kind.Event]
		if made == nil {
			return nil, fmt.Errorf("no event of kind %q is known", kind.Event)
		}
		ev := made()
		if err := json.Unmarshal(line.Event, ev); err != nil {
			return nil, fmt.Errorf("event of kind %s: %w", kind.Event, err)
		}
		if printed, ok := ev.(*apievents.SessionPrint); ok {
			printed.Data = line.Data
		}
		list = append(list, ev)
	}
	return list, in.Err()
}

// visible returns the sessions that the caller may see. Without the right it is
// an error, worded as the real one.
func (a *authService) visible(ctx context.Context, verb string) ([]RecordedSession, error) {
	who, err := a.caller(ctx)
	if err != nil {
		return nil, err
	}
	all, own := false, false
	for _, role := range a.c.userRoles(who.identity.Roles) {
		switch role.Recordings {
		case "":
			all = true
		case RecordingsOwn:
			own = true
		}
	}
	if !all && !own {
		return nil, trace.AccessDenied("access denied to perform action %q on %q", verb, types.KindSession)
	}
	a.site.recorder.mu.Lock()
	defer a.site.recorder.mu.Unlock()
	var list []RecordedSession
	for _, s := range a.site.recorder.sessions {
		if all || s.User == who.identity.User {
			list = append(list, *s)
		}
	}
	slices.SortFunc(list, func(x, y RecordedSession) int { return endOf(y).Compare(endOf(x)) })
	return list, nil
}

// ending returns the event by which a session ended; nil where there is none.
func ending(s RecordedSession) apievents.AuditEvent {
	for _, ev := range slices.Backward(s.Events) {
		switch ev.(type) {
		case *apievents.SessionEnd, *apievents.DatabaseSessionEnd:
			return ev
		}
	}
	return nil
}

func endOf(s RecordedSession) time.Time {
	if ev := ending(s); ev != nil {
		return ev.GetTime()
	}
	return time.Time{}
}

// GetSessionEvents answers with the events by which sessions ended, in pages.
func (a *authService) GetSessionEvents(ctx context.Context, req *proto.GetSessionEventsRequest) (*proto.Events, error) {
	list, err := a.visible(ctx, types.VerbList)
	if err != nil {
		return nil, err
	}
	// Version 16 leaves out the sessions of databases.
	list = slices.DeleteFunc(list, func(s RecordedSession) bool {
		_, isDB := ending(s).(*apievents.DatabaseSessionEnd)
		return isDB && a.c.cfg.Version == V16
	})
	out := &proto.Events{}
	skip := req.StartKey != ""
	for _, s := range list {
		at := endOf(s)
		if s.Running || s.Vague || ending(s) == nil || at.Before(req.StartDate) || at.After(req.EndDate) {
			continue
		}
		if skip {
			skip = s.ID != req.StartKey
			continue
		}
		if req.Limit > 0 && len(out.Items) == int(req.Limit) {
			return out, nil
		}
		one, err := apievents.ToOneOf(ending(s))
		if err != nil {
			return nil, trace.Wrap(err)
		}
		out.Items = append(out.Items, one)
		out.LastKey = s.ID
	}
	out.LastKey = ""
	return out, nil
}

// GetEvents answers with the ends of sessions of databases, to a role that may
// list events.
func (a *authService) GetEvents(ctx context.Context, req *proto.GetEventsRequest) (*proto.Events, error) {
	who, err := a.caller(ctx)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(a.c.userRoles(who.identity.Roles), func(r Role) bool { return r.ListEvents }) {
		return nil, trace.AccessDenied("access denied to perform action %q on %q", types.VerbList, types.KindEvent)
	}
	list, err := a.visible(ctx, types.VerbList)
	if err != nil {
		return nil, err
	}
	out := &proto.Events{}
	skip := req.StartKey != ""
	for _, s := range list {
		ev, isDB := ending(s).(*apievents.DatabaseSessionEnd)
		if !isDB || s.Vague || ev.GetTime().Before(req.StartDate) || ev.GetTime().After(req.EndDate) {
			continue
		}
		if skip {
			skip = s.ID != req.StartKey
			continue
		}
		if req.Limit > 0 && len(out.Items) == int(req.Limit) {
			out.LastKey = out.Items[len(out.Items)-1].GetDatabaseSessionEnd().SessionID
			return out, nil
		}
		one, err := apievents.ToOneOf(ev)
		if err != nil {
			return nil, trace.Wrap(err)
		}
		out.Items = append(out.Items, one)
	}
	return out, nil
}

// GetActiveSessionTrackers streams the sessions under way that the caller takes
// part in, and those that ended less than half an hour ago.
func (a *authService) GetActiveSessionTrackers(_ *emptypb.Empty, stream proto.AuthService_GetActiveSessionTrackersServer) error {
	who, err := a.caller(stream.Context())
	if err != nil {
		return err
	}
	a.site.recorder.mu.Lock()
	var list []RecordedSession
	for _, s := range a.site.recorder.sessions {
		recent := ending(*s) != nil && a.c.now().Sub(endOf(*s)) < 30*time.Minute
		if (s.Running || recent && !s.Vague) && s.User == who.identity.User {
			list = append(list, *s)
		}
	}
	a.site.recorder.mu.Unlock()
	for _, s := range list {
		created := a.c.now()
		if len(s.Events) > 0 {
			created = s.Events[0].GetTime()
		}
		spec := types.SessionTrackerSpecV1{
			SessionID: s.ID, Kind: string(types.SSHSessionKind), State: types.SessionState_SessionStateRunning, Created: created,
			Hostname: "sim-host", Login: "dev", ClusterName: a.site.name, HostUser: s.User,
			Participants: []types.Participant{{ID: s.ID, User: s.User, Mode: string(types.SessionPeerMode)}},
		}
		if !s.Running {
			spec.State = types.SessionState_SessionStateTerminated
		}
		if db, ok := ending(s).(*apievents.DatabaseSessionEnd); ok {
			spec.Kind, spec.DatabaseName, spec.Hostname, spec.Login = string(types.DatabaseSessionKind), db.DatabaseService, "", ""
		}
		tracker, err := types.NewSessionTracker(spec)
		if err != nil {
			return trace.Wrap(err)
		}
		v1, ok := tracker.(*types.SessionTrackerV1)
		if !ok {
			return trace.BadParameter("unexpected tracker %T", tracker)
		}
		if err := stream.Send(v1); err != nil {
			return trace.Wrap(err)
		}
	}
	return nil
}

// StreamSessionEvents streams a recording.
func (a *authService) StreamSessionEvents(req *proto.StreamSessionEventsRequest, stream proto.AuthService_StreamSessionEventsServer) error {
	list, err := a.visible(stream.Context(), types.VerbRead)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(list, func(s RecordedSession) bool { return s.ID == req.SessionID })
	if i < 0 || list[i].Running && !list[i].Readable || a.c.now().Before(list[i].UploadedAt) {
		return trace.NotFound("a recording for session %v was not found", req.SessionID)
	}
	s := list[i]
	a.site.recorder.mu.Lock()
	a.site.recorder.streams[s.ID]++
	breaks := s.BreakAt > 0 && (s.Breaks == 0 || a.site.recorder.streams[s.ID] <= s.Breaks)
	a.site.recorder.mu.Unlock()
	for place, ev := range s.Events {
		if breaks && place == s.BreakAt {
			if s.Error != nil {
				return s.Error
			}
			a.c.faults.Drop()
			return trace.ConnectionProblem(nil, "the proxy went away")
		}
		if ev != nil && ev.GetIndex() < int64(req.StartIndex) {
			continue
		}
		one := &apievents.OneOf{}
		if ev != nil { // nil is an event of a later version
			if one, err = apievents.ToOneOf(ev); err != nil {
				return trace.Wrap(err)
			}
		}
		if err := stream.Send(one); err != nil {
			return trace.Wrap(err)
		}
	}
	return nil
}

// PrintedSession returns a session that printed chunks, one every step, on a
// terminal of 80 by 24, and ended at that time.
func PrintedSession(id, user string, ended time.Time, step time.Duration, chunks ...string) RecordedSession {
	start := ended.Add(-time.Duration(len(chunks)) * step)
	meta := func(kind string, index int, at time.Time) apievents.Metadata {
		return apievents.Metadata{Type: kind, Index: int64(index), Time: at.UTC(), ClusterName: "sim.test"}
	}
	session, who := apievents.SessionMetadata{SessionID: id}, apievents.UserMetadata{User: user, Login: "dev"}
	host := apievents.ServerMetadata{ServerHostname: "sim-host"}
	s := RecordedSession{ID: id, User: user, Events: []apievents.AuditEvent{&apievents.SessionStart{
		Metadata: meta("session.start", 0, start), UserMetadata: who, SessionMetadata: session, ServerMetadata: host, TerminalSize: "80:24",
	}}}
	for i, text := range chunks {
		delay := time.Duration(i+1) * step
		s.Events = append(s.Events, &apievents.SessionPrint{
			Metadata: meta("print", i+1, start.Add(delay)), Data: []byte(text), Bytes: int64(len(text)), ChunkIndex: int64(i),
			DelayMilliseconds: delay.Milliseconds(),
		})
	}
	s.Events = append(s.Events, &apievents.SessionEnd{
		Metadata: meta("session.end", len(chunks)+1, ended), UserMetadata: who, SessionMetadata: session, ServerMetadata: host,
		Interactive: true, Participants: []string{user}, StartTime: start.UTC(), EndTime: ended.UTC(),
	})
	return s
}
