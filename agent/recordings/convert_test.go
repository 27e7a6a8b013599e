package recordings

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/gravitational/teleport/api/types"
	apievents "github.com/gravitational/teleport/api/types/events"

	"berth/agent/state"
)

func TestEventWords(t *testing.T) {
	meta := func(kind string) apievents.Metadata { return apievents.Metadata{Type: kind, Time: time.Unix(100, 0)} }
	for want, ev := range map[string]apievents.AuditEvent{
		"/bin/rm -rf /srv":         &apievents.SessionCommand{Metadata: meta("session.command"), Path: "/bin/rm", Argv: []string{"-rf", "/srv"}},
		"/bin/false (exit code 1)": &apievents.SessionCommand{Metadata: meta("session.command"), Path: "/bin/false", ReturnCode: 1},
		"cat reads /etc/shadow (failed: permission denied)": &apievents.SessionDisk{
			Metadata: meta("session.disk"), BPFMetadata: apievents.BPFMetadata{Program: "cat"}, Path: "/etc/shadow", ReturnCode: -13,
		},
		"sh writes or creates /tmp/x": &apievents.SessionDisk{
			Metadata: meta("session.disk"), BPFMetadata: apievents.BPFMetadata{Program: "sh"}, Path: "/tmp/x", Flags: 0o1101, ReturnCode: 3,
		},
		"reads and writes /x (failed: error 999)": &apievents.SessionDisk{Metadata: meta("session.disk"), Path: "/x", Flags: 2, ReturnCode: -999},
		"curl connects to 10.0.0.1:443": &apievents.SessionNetwork{
			Metadata: meta("session.network"), BPFMetadata: apievents.BPFMetadata{Program: "curl"}, DstAddr: "10.0.0.1", DstPort: 443,
		},
		"select $1 (42)":            &apievents.DatabaseSessionQuery{Metadata: meta("db.session.query"), DatabaseQuery: "select $1", DatabaseQueryParameters: []string{"42"}},
		"drop table x (failed: no)": &apievents.DatabaseSessionQuery{Metadata: meta("db.session.query.failed"), DatabaseQuery: "drop table x", Status: apievents.Status{Error: "no"}},
		"prepare me":                &apievents.MySQLStatementPrepare{Metadata: meta("db.session.mysql.statements.prepare"), Query: "prepare me"},
		"parse me":                  &apievents.PostgresParse{Metadata: meta("db.session.postgres.statements.parse"), Query: "parse me"},
		"GET /api/v1/pods → 200":    &apievents.KubeRequest{Metadata: meta("kube.request"), Verb: "GET", RequestPath: "/api/v1/pods", ResponseCode: 200},
		"POST /login → 403":         &apievents.AppSessionRequest{Metadata: meta("app.session.request"), Method: "POST", Path: "/login", StatusCode: 403},
		"terminal is 120×40":        &apievents.Resize{Metadata: meta("resize"), TerminalSize: "120:40"},
		"bob leaves":                &apievents.SessionLeave{Metadata: meta("session.leave"), UserMetadata: apievents.UserMetadata{User: "bob"}},
		"affected_records=3 success=true": &apievents.DatabaseSessionCommandResult{
			Metadata: meta("db.session.result"), AffectedRecords: 3, Status: apievents.Status{Success: true},
		},
	} {
		var c converter
		if got := c.event(ev); got.Text != want || got.Kind != ev.GetType() {
			t.Errorf("%T: %q, want %q", ev, got.Text, want)
		}
	}
}

// TestTimeGoesOn: whatever the clocks of a recording say, time does not go back.
func TestTimeGoesOn(t *testing.T) {
	start := time.Unix(1000, 0)
	at := func(s int) apievents.Metadata {
		return apievents.Metadata{Type: "print", Time: start.Add(time.Duration(s) * time.Second)}
	}
	var c converter
	var last time.Duration
	for i, ev := range []apievents.AuditEvent{
		&apievents.SessionStart{Metadata: at(0)},
		&apievents.SessionPrint{Metadata: at(5), DelayMilliseconds: 4800},
		&apievents.Resize{Metadata: at(-3600)},
		nil,
		&apievents.SessionPrint{Metadata: at(2), DelayMilliseconds: -7},
		&apievents.SessionEnd{Metadata: at(6)},
	} {
		got := c.event(ev)
		if got.At < last {
			t.Errorf("event %d is at %s, after %s", i, got.At, last)
		}
		last = got.At
	}
	if last != 5800*time.Millisecond { // by the delays, which begin 200 ms late
		t.Errorf("the end is at %s", last)
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string][2]int{
		"80:24": {80, 24}, "": {}, "80": {}, "x:y": {}, "0:24": {}, "-1:-1": {}, "99999999:3": {1000, 3}, "1000:1000": {1000, 160}, "99999999999999999999:1": {},
	} {
		if cols, rows := size(text); cols != want[0] || rows != want[1] {
			t.Errorf("%q: %d, %d", text, cols, rows)
		}
	}
}

// TestLargeEvent: an event's JSON is kept up to a limit, and beyond it the head of
// its text.
func TestLargeEvent(t *testing.T) {
	var c converter
	ev := c.event(&apievents.DatabaseSessionQuery{
		Metadata: apievents.Metadata{Type: "db.session.query", Time: time.Unix(100, 0)}, DatabaseQuery: "select " + strings.Repeat("é", 1<<19),
	})
	if len(ev.Fields) > 0 || ev.Kind != "db.session.query" || ev.Time == nil || len(ev.Text) > 2*maxHead || !utf8.ValidString(ev.Text) ||
		!strings.HasPrefix(ev.Text, "select éé") || !strings.Contains(ev.Text, "é … cut, the event has 10") {
		t.Errorf("%d bytes of fields, text %q", len(ev.Fields), ev.Text)
	}
}

func TestRecordingOf(t *testing.T) {
	start, end := time.Unix(100, 0), time.Unix(200, 0)
	session := apievents.SessionMetadata{SessionID: "s"}
	for want, ev := range map[string]apievents.AuditEvent{
		"ssh dev@web": &apievents.SessionEnd{
			SessionMetadata: session, UserMetadata: apievents.UserMetadata{Login: "dev"}, StartTime: start, EndTime: end,
			ServerMetadata: apievents.ServerMetadata{ServerHostname: "web"},
		},
		"kube ns/pod@prod": &apievents.SessionEnd{
			SessionMetadata: session, KubernetesClusterMetadata: apievents.KubernetesClusterMetadata{KubernetesCluster: "prod"}, StartTime: start, EndTime: end,
			KubernetesPodMetadata: apievents.KubernetesPodMetadata{KubernetesPodName: "pod", KubernetesPodNamespace: "ns"},
		},
		"db app@pg": &apievents.DatabaseSessionEnd{
			SessionMetadata: session, DatabaseMetadata: apievents.DatabaseMetadata{DatabaseService: "pg", DatabaseUser: "app"}, StartTime: start, EndTime: end,
		},
		"desktop admin@win": &apievents.WindowsDesktopSessionEnd{SessionMetadata: session, WindowsUser: "admin", DesktopName: "win", StartTime: start, EndTime: end},
	} {
		r, ok := recordingOf("c", ev)
		if got := r.Kind + " " + r.Login + "@" + r.Where; !ok || got != want {
			t.Errorf("%q, want %q", got, want)
		}
		if d, ok := r.Duration(); !ok || d != 100*time.Second {
			t.Errorf("%s took %s", want, d)
		}
	}
	if _, ok := recordingOf("c", &apievents.SessionJoin{SessionMetadata: session}); ok {
		t.Error("a join ends no session")
	}
}

func TestTrackedOf(t *testing.T) {
	tracker, err := types.NewSessionTracker(types.SessionTrackerSpecV1{
		SessionID: "s", Kind: string(types.KubernetesSessionKind), KubernetesCluster: "prod", State: types.SessionState_SessionStateRunning,
		Participants: []types.Participant{{User: "alice"}, {User: "bob"}, {User: "alice"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	r := trackedOf("c", tracker)
	if r.Kind != state.RecordingKube || r.Where != "prod" || !r.Live || r.User != "alice" || len(r.Participants) != 2 {
		t.Errorf("%+v", r)
	}
	if got := r.JoinCommand(); got != "tsh kube join --cluster=c s" {
		t.Errorf("join: %s", got)
	}
}

// TestAmbiguous: an error that lists some says how many it leaves out.
func TestAmbiguous(t *testing.T) {
	found := []state.Recording{{ID: "5e01"}, {ID: "5e02"}, {ID: "5e03"}, {ID: "5e04"}}
	for want, list := range map[string][]state.Recording{
		`2 recordings begin with "5e0": 5e01, 5e02`:                        found[:2],
		`4 recordings begin with "5e0": 5e01, 5e02, 5e03, 5e04`:            found,
		`6 recordings begin with "5e0": 5e01, 5e02, 5e03, 5e04 and 2 more`: append(found, found[:2]...),
	} {
		if got := ambiguous("5e0", list).Error(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
