package state

import "time"

// Recording is a session that Teleport recorded, or records now.
type Recording struct {
	ID      string `json:"id"`
	Cluster string `json:"cluster"`
	Kind    string `json:"kind"`  // ssh, kube, db, app or desktop; others as Teleport names them
	User    string `json:"user"`  // of Teleport
	Where   string `json:"where"` // the host, Kubernetes cluster, database, application or desktop
	Login   string `json:"login"` // who the user was there; may be empty
	// Participants are all who took part, the user among them.
	Participants []string   `json:"participants"`
	StartedAt    *time.Time `json:"started_at"` // nil when that is not known
	EndedAt      *time.Time `json:"ended_at"`   // nil while it goes on
	Live         bool       `json:"live"`       // under way
	// Interactive says that there was a terminal, so that there is one to watch.
	Interactive bool `json:"interactive"`
}

// Duration returns how long the session took; false while that is not known.
func (r Recording) Duration() (time.Duration, bool) {
	if r.StartedAt == nil || r.EndedAt == nil {
		return 0, false
	}
	return max(0, r.EndedAt.Sub(*r.StartedAt)), true
}

// JoinCommand is the command that joins the session while it goes on.
func (r Recording) JoinCommand() string {
	join := "tsh join "
	if r.Kind == RecordingKube {
		join = "tsh kube join "
	}
	return join + "--cluster=" + r.Cluster + " " + r.ID
}

const (
	// maxSide bounds a terminal's columns and rows, and maxCells both together: a
	// recording may claim any, and each of its screens is kept several times.
	maxSide  = 1000
	maxCells = 160_000
)

// ShownSize returns how much of a terminal's size is shown: all of it, unless no
// screen is that large.
func ShownSize(cols, rows int) (int, int) {
	cols = min(cols, maxSide)
	return cols, min(rows, maxSide, maxCells/max(cols, 1))
}

// The kinds of recordings.
const (
	RecordingSSH     = "ssh"
	RecordingKube    = "kube"
	RecordingDB      = "db"
	RecordingApp     = "app"
	RecordingDesktop = "desktop"
)

// RecordingKinds are the kinds a list can be narrowed to.
var RecordingKinds = []string{RecordingSSH, RecordingKube, RecordingDB, RecordingApp, RecordingDesktop}

// RecordingEvent is one event of a recording.
type RecordingEvent struct {
	Seq  int64         `json:"seq"`   // its place in the recording, from 0
	At   time.Duration `json:"at_ns"` // since the session's start
	Time *time.Time    `json:"time"`  // by the cluster's clock; nil when it has none
	Kind string        `json:"kind"`  // as Teleport names it, such as print, resize, db.session.query
	// Data is what the session printed: bytes for a terminal, which may begin and
	// end within a character or an escape sequence. It is of others.
	Data []byte `json:"data,omitempty"`
	// Cols and Rows are the terminal's size from now on; 0 means unchanged.
	Cols int `json:"cols,omitempty"`
	Rows int `json:"rows,omitempty"`
	// Text says on one line what happened; empty for what is printed.
	Text string `json:"text,omitempty"`
	// Fields is the event as Teleport's JSON, without what was printed.
	Fields string `json:"fields,omitempty"`
}

// The kinds of events that mean something to a player.
const (
	EventPrint  = "print"
	EventResize = "resize"
)

// RecordingState is how far a recording has been read.
type RecordingState string

// The states of a recording.
const (
	RecordingReading  RecordingState = "reading"          // events come
	RecordingAwaited  RecordingState = "waiting_upload"   // the session has ended, its recording has not arrived yet
	RecordingWaiting  RecordingState = "waiting_for_more" // the session goes on, and this is all there is so far
	RecordingComplete RecordingState = "complete"         // that was all
	RecordingDamaged  RecordingState = "damaged"          // the rest cannot be read
)
