package recordings

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gravitational/teleport/api/types"
	apievents "github.com/gravitational/teleport/api/types/events"

	"berth/agent/state"
	"berth/internal/plain"
)

// maxFields bounds the JSON that is kept of an event.
const maxFields = 256 << 10

// maxHead bounds what is kept of the text of an event that is larger.
const maxHead = 4 << 10

// converter makes plain values of a recording's events. It remembers what the
// first said.
type converter struct {
	start time.Time     // of the session; zero until it is known
	exact bool          // start is that of the delays of what was printed
	last  time.Duration // of the event before: time does not go back
}

// event returns a recording's event; ev is nil where the api module does not
// know its kind.
func (c *converter) event(ev apievents.AuditEvent) state.RecordingEvent {
	if ev == nil {
		return state.RecordingEvent{At: c.last, Kind: "unknown", Text: "an event of a kind that berth does not know"}
	}
	out := state.RecordingEvent{Kind: ev.GetType()}
	if at := ev.GetTime(); !at.IsZero() {
		out.Time = &at
		printed, isPrint := ev.(*apievents.SessionPrint)
		switch {
		case isPrint && !c.exact: // the delays begin seconds after the session does
			c.start, c.exact = at.Add(-time.Duration(printed.DelayMilliseconds)*time.Millisecond), true
		case c.start.IsZero():
			c.start = at
		}
		if !isPrint {
			c.last = max(c.last, at.Sub(c.start))
		}
	}
	switch ev := ev.(type) {
	case *apievents.SessionPrint:
		out.Data = ev.Data
		c.last = max(c.last, time.Duration(ev.DelayMilliseconds)*time.Millisecond)
		out.At = c.last
		return out
	case *apievents.SessionStart:
		out.Cols, out.Rows = size(ev.TerminalSize)
	case *apievents.Resize:
		out.Cols, out.Rows = size(ev.TerminalSize)
	case *apievents.DesktopRecording: // a picture, of which nothing here can be shown
		out.At = c.last
		return out
	}
	out.At = c.last
	raw, err := json.Marshal(ev)
	if err != nil {
		out.Text = "an event that cannot be read: " + err.Error()
		return out
	}
	out.Text = words(out.Kind, raw)
	if len(raw) <= maxFields {
		out.Fields = string(raw)
		return out
	}
	out.Text = plain.Head(out.Text, maxHead) + fmt.Sprintf(" … cut, the event has %d bytes", len(raw))
	return out
}

// size reads a terminal's size, as in 80:24.
func size(text string) (cols, rows int) {
	w, h, ok := strings.Cut(text, ":")
	c, errC := strconv.Atoi(w)
	r, errR := strconv.Atoi(h)
	if !ok || errC != nil || errR != nil || c <= 0 || r <= 0 {
		return 0, 0
	}
	return state.ShownSize(c, r)
}

// words says on one line what an event is about. It is of others, and not clean.
func words(kind string, raw []byte) string {
	var f map[string]any
	if json.Unmarshal(raw, &f) != nil {
		return ""
	}
	text := func(key string) string {
		switch v := f[key].(type) {
		case nil:
			return ""
		case string:
			return v
		case float64:
			return strconv.FormatFloat(v, 'f', -1, 64)
		default:
			b, err := json.Marshal(v)
			if err != nil {
				return ""
			}
			return string(b)
		}
	}
	list := func(key string) string {
		values, _ := f[key].([]any)
		var words []string
		for _, v := range values {
			words = append(words, fmt.Sprint(v))
		}
		return strings.Join(words, " ")
	}
	switch kind {
	case "session.start":
		return strings.TrimSpace("session starts " + list("initial_command"))
	case "session.end", "db.session.end", "app.session.end", "windows.desktop.session.end":
		return "session ends"
	case state.EventResize:
		is := strings.Replace(text("size"), ":", "×", 1)
		switch cols, rows := size(text("size")); {
		case cols == 0:
			return "terminal has another size, which is not understood"
		case is != fmt.Sprintf("%d×%d", cols, rows):
			return fmt.Sprintf("terminal is %s, too large: %d×%d of it are shown", is, cols, rows)
		}
		return "terminal is " + is
	case "session.join":
		return text("user") + " joins"
	case "session.leave":
		return text("user") + " leaves"
	case "session.command": // path is the first argument, and argv has the others
		return failing(strings.TrimSpace(text("path")+" "+list("argv")), text("return_code"))
	case "session.disk":
		flags, _ := f["flags"].(float64)
		code, _ := f["return_code"].(float64)
		return by(text("program"), opened(text("path"), int(flags), int(code)))
	case "session.network":
		return by(text("program"), "connects to "+net.JoinHostPort(text("dst_addr"), text("dst_port")))
	case "db.session.start":
		return failed("connects to "+text("db_name")+" as "+text("db_user"), text("error"))
	case "exec":
		return failing(text("command"), text("exitCode"))
	case "kube.request":
		return text("verb") + " " + text("request_path") + " → " + text("response_code")
	case "app.session.request":
		return text("method") + " " + text("path") + " → " + text("status_code")
	}
	if query := firstOf(text("db_query"), text("query")); query != "" {
		if args := list("db_query_parameters"); args != "" {
			query += " (" + args + ")"
		}
		return failed(query, text("error"))
	}
	return others(f, text)
}

// failing adds an exit code that is not 0.
func failing(what, code string) string {
	if code != "" && code != "0" {
		return what + " (exit code " + code + ")"
	}
	return what
}

// by says which program did something.
func by(program, what string) string {
	if program == "" {
		return what
	}
	return program + " " + what
}

// Flags of openat, and what it answers where it fails, as Linux has them on every
// processor that Teleport records on.
const (
	openWrite, openReadWrite = 0x1, 0x2
	openCreate               = 0x40
)

var openErrors = map[int]string{
	1: "operation not permitted", 2: "no such file or directory", 4: "interrupted", 6: "no such device", 13: "permission denied",
	16: "busy", 17: "file exists", 20: "not a directory", 21: "is a directory", 23: "too many open files in the system",
	24: "too many open files", 26: "text file busy", 28: "no space left on device", 30: "read-only file system",
	36: "file name too long", 40: "too many levels of symbolic links",
}

// opened says how a file was opened: code is a file's descriptor, or an error below 0.
func opened(path string, flags, code int) string {
	how := "reads "
	switch {
	case flags&openReadWrite != 0:
		how = "reads and writes "
	case flags&openWrite != 0:
		how = "writes "
	}
	if flags&openCreate != 0 {
		how = strings.TrimSpace(how) + " or creates "
	}
	why := ""
	if code < 0 {
		why = firstOf(openErrors[-code], fmt.Sprintf("error %d", -code))
	}
	return failed(how+path, why)
}

func failed(what, why string) string {
	if why != "" {
		return what + " (failed: " + why + ")"
	}
	return what
}

func firstOf(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

// common are the fields of every event, which say nothing about this one.
var common = []string{
	"ei", "event", "uid", "code", "time", "cluster_name", "user", "user_kind", "access_requests", "sid", "server_id",
	"namespace", "server_hostname", "server_labels", "server_version", "private_key_policy", "db_service", "db_protocol",
	"db_uri", "db_name", "db_user", "db_type", "db_origin", "addr.local", "addr.remote", "proto", "login", "trusted_device",
	"kubernetes_cluster", "kubernetes_labels", "kubernetes_users", "kubernetes_groups", "user_cluster_name", "user_roles",
	"user_traits",
}

// others says an event's own fields, for a kind without words.
func others(f map[string]any, text func(string) string) string {
	var words []string
	for _, key := range slices.Sorted(maps.Keys(f)) {
		if value := text(key); value != "" && value != "{}" && value != "[]" && !slices.Contains(common, key) {
			words = append(words, key+"="+value)
		}
	}
	return strings.Join(words, " ")
}

// recordingOf makes a recording of the event by which its session ended; false
// for an event that ends none.
func recordingOf(cluster string, ev apievents.AuditEvent) (state.Recording, bool) {
	r := state.Recording{Cluster: cluster}
	var start, end time.Time
	switch ev := ev.(type) {
	case *apievents.SessionEnd:
		r.ID, r.Kind, r.User, r.Login = ev.SessionID, state.RecordingSSH, ev.User, ev.Login
		r.Where, r.Interactive, r.Participants = firstOf(ev.ServerHostname, ev.ServerID), ev.Interactive, ev.Participants
		if ev.KubernetesCluster != "" {
			r.Kind, r.Where = state.RecordingKube, ev.KubernetesCluster
			if ev.KubernetesPodName != "" {
				r.Login = ev.KubernetesPodNamespace + "/" + ev.KubernetesPodName
			}
		}
		start, end = ev.StartTime, ev.EndTime
	case *apievents.DatabaseSessionEnd:
		r.ID, r.Kind, r.User, r.Login, r.Where = ev.SessionID, state.RecordingDB, ev.User, ev.DatabaseUser, ev.DatabaseService
		start, end = ev.StartTime, ev.EndTime
	case *apievents.WindowsDesktopSessionEnd:
		r.ID, r.Kind, r.User, r.Login = ev.SessionID, state.RecordingDesktop, ev.User, ev.WindowsUser
		r.Where, r.Participants = firstOf(ev.DesktopName, ev.DesktopAddr), ev.Participants
		start, end = ev.StartTime, ev.EndTime
	case *apievents.AppSessionEnd:
		r.ID, r.Kind, r.User, r.Where = ev.SessionID, state.RecordingApp, ev.User, ev.AppName
	default:
		return r, false
	}
	if end.IsZero() {
		end = ev.GetTime()
	}
	if len(r.Participants) == 0 {
		r.Participants = []string{r.User}
	}
	r.StartedAt, r.EndedAt = state.Instant(start), state.Instant(end)
	return r, r.ID != ""
}

// startedOf says of a recording what its first event does.
func startedOf(r state.Recording, ev apievents.AuditEvent) state.Recording {
	r.Kind = "unknown"
	if ev == nil {
		return r
	}
	started := ev.GetTime()
	switch ev := ev.(type) {
	case *apievents.SessionStart:
		r.Kind, r.User, r.Login, r.Where = state.RecordingSSH, ev.User, ev.Login, firstOf(ev.ServerHostname, ev.ServerID)
		if ev.KubernetesCluster != "" {
			r.Kind, r.Where = state.RecordingKube, ev.KubernetesCluster
		}
		r.Interactive = ev.TerminalSize != ""
	case *apievents.DatabaseSessionStart:
		r.Kind, r.User, r.Login, r.Where = state.RecordingDB, ev.User, ev.DatabaseUser, ev.DatabaseService
	case *apievents.AppSessionStart:
		r.Kind, r.User, r.Where = state.RecordingApp, ev.User, ev.AppName
	case *apievents.WindowsDesktopSessionStart:
		r.Kind, r.User, r.Login, r.Where = state.RecordingDesktop, ev.User, ev.WindowsUser, firstOf(ev.DesktopName, ev.DesktopAddr)
	default:
		if ended, ok := recordingOf(r.Cluster, ev); ok {
			ended.ID = r.ID
			return ended
		}
	}
	r.Participants, r.StartedAt = []string{r.User}, state.Instant(started)
	return r
}

// trackedOf makes a recording of a session under way, or one that has ended since.
func trackedOf(cluster string, t types.SessionTracker) state.Recording {
	started := t.GetCreated()
	r := state.Recording{
		ID: t.GetSessionID(), Cluster: cluster, User: t.GetHostUser(), Login: t.GetLogin(), StartedAt: state.Instant(started),
		Live: t.GetState() != types.SessionState_SessionStateTerminated,
	}
	switch t.GetSessionKind() {
	case types.SSHSessionKind:
		r.Kind, r.Where, r.Interactive = state.RecordingSSH, firstOf(t.GetHostname(), t.GetAddress()), true
	case types.KubernetesSessionKind:
		r.Kind, r.Where, r.Interactive = state.RecordingKube, t.GetKubeCluster(), true
	case types.DatabaseSessionKind:
		r.Kind, r.Where = state.RecordingDB, t.GetDatabaseName()
	case types.AppSessionKind:
		r.Kind, r.Where = state.RecordingApp, t.GetAppName()
	case types.WindowsDesktopSessionKind:
		r.Kind, r.Where = state.RecordingDesktop, t.GetDesktopName()
	default:
		r.Kind = string(t.GetSessionKind())
	}
	for _, p := range t.GetParticipants() {
		if !slices.Contains(r.Participants, p.User) {
			r.Participants = append(r.Participants, p.User)
		}
	}
	if r.User == "" && len(r.Participants) > 0 {
		r.User = r.Participants[0]
	}
	return r
}
