package replay

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"
	"unicode/utf8"

	"berth/agent/state"
	"berth/internal/plain"
)

// Header says what an export is of, who made it and when.
type Header struct {
	Recording  state.Recording `json:"recording"`
	ExportedBy string          `json:"exported_by"` // the Teleport user
	ExportedAt time.Time       `json:"exported_at"`
	// Redacted says that parts are masked. The pattern is left out: it may be the
	// secret itself.
	Redacted bool `json:"redacted"`
}

// NewHeader returns the header of an export that by makes now. Names are cleaned:
// whoever looks at the file may see them.
func NewHeader(r state.Recording, by string) Header {
	for _, name := range []*string{&r.ID, &r.Cluster, &r.Kind, &r.User, &r.Where, &r.Login} {
		*name = plain.Line(*name)
	}
	r.Participants = slices.Clone(r.Participants)
	for i, name := range r.Participants {
		r.Participants[i] = plain.Line(name)
	}
	return Header{Recording: r, ExportedBy: plain.Line(by), ExportedAt: time.Now().UTC().Truncate(time.Second)}
}

// Title names the recording on one line, cleaned.
func (h Header) Title() string {
	r := h.Recording
	title := r.Kind + " session of " + r.User
	if r.Where != "" {
		title += " at " + r.Where
	}
	if r.StartedAt != nil {
		title += ", " + r.StartedAt.UTC().Format("2006-01-02 15:04:05 UTC")
	}
	return plain.Line(title)
}

// Writer takes a recording's events and writes them in some form. Flush ends it;
// Cut, before that, says that the recording's end is missing.
type Writer interface {
	Feed(ev state.RecordingEvent) error
	Cut()
	Flush() error
}

// cutText is what an export says at its end when it is not the whole recording.
const cutText = "this is not the whole recording: its end is missing"

// Asciicast writes a recording in version 2 of asciinema's format.
type Asciicast struct {
	out     *bufio.Writer
	header  Header
	started bool
	cols    int
	rows    int
	clean   *cleaner
	cut     bool
	at      time.Duration
}

// NewAsciicast returns a writer to w.
func NewAsciicast(w io.Writer, h Header) *Asciicast {
	return &Asciicast{out: bufio.NewWriter(w), header: h, cols: defaultCols, rows: defaultRows, clean: newCleaner()}
}

// Feed takes an event.
func (a *Asciicast) Feed(ev state.RecordingEvent) error {
	a.at = ev.At
	sized := ev.Cols > 0 && ev.Rows > 0
	if sized {
		a.cols, a.rows = state.ShownSize(ev.Cols, ev.Rows)
	}
	if !a.started && ev.Kind == "session.start" {
		return nil // it says the size, if it has one
	}
	if err := a.begin(); err != nil {
		return err
	}
	text := a.clean.take(ev)
	switch {
	case len(ev.Data) > 0:
		if text == "" {
			return nil
		}
		return a.event("o", text)
	case sized:
		return a.event("r", fmt.Sprintf("%dx%d", a.cols, a.rows))
	case ev.Text != "":
		return a.event("m", plain.Line(ev.Kind+": "+ev.Text))
	}
	return nil
}

func (a *Asciicast) begin() error {
	if a.started {
		return nil
	}
	a.started = true
	head := map[string]any{
		"version": 2, "width": a.cols, "height": a.rows, "title": a.header.Title(), "env": map[string]string{"TERM": "xterm-256color"},
		"berth": a.header,
	}
	if at := a.header.Recording.StartedAt; at != nil {
		head["timestamp"] = at.Unix()
	}
	return a.line(head)
}

func (a *Asciicast) event(code, data string) error {
	return a.line([]any{json.Number(fmt.Sprintf("%.6f", a.at.Seconds())), code, data})
}

func (a *Asciicast) line(v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write an event: %w", err)
	}
	_, err = a.out.Write(append(plain.JSON(raw), '\n'))
	return err
}

// Flush writes what is left.
func (a *Asciicast) Flush() error {
	if err := a.begin(); err != nil {
		return err
	}
	if rest := a.clean.end(); rest != "" {
		if err := a.event("o", rest); err != nil {
			return err
		}
	}
	if a.cut {
		if err := a.event("m", cutText); err != nil {
			return err
		}
	}
	return a.out.Flush()
}

// Cut has a marker say at the end that it is not that of the recording.
func (a *Asciicast) Cut() { a.cut = true }

// wholeRunes returns the text of complete characters, what is none replaced, and
// the beginning of one at the end.
func wholeRunes(data []byte) (text string, rest []byte) {
	end := len(data)
	for back := 1; back < utf8.UTFMax && back <= len(data); back++ {
		if b := data[len(data)-back]; utf8.RuneStart(b) {
			if b >= utf8.RuneSelf && !utf8.FullRune(data[len(data)-back:]) {
				end = len(data) - back
			}
			break
		}
	}
	var out []rune
	for chunk := data[:end]; len(chunk) > 0; {
		r, size := utf8.DecodeRune(chunk)
		out = append(out, r)
		chunk = chunk[size:]
	}
	return string(out), data[end:]
}

// JSON writes a recording as one JSON text: a header, and the events with what
// was printed as text. What shows nothing is escaped, so that it is safe to look at.
type JSON struct {
	out   *bufio.Writer
	first bool
	cut   bool
	rest  []byte
}

// NewJSON returns a writer to w.
func NewJSON(w io.Writer, h Header) (*JSON, error) {
	j := &JSON{out: bufio.NewWriter(w), first: true}
	raw, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("write the header: %w", err)
	}
	_, err = fmt.Fprintf(j.out, "{\"header\":%s,\n\"events\":[", plain.JSON(raw))
	return j, err
}

// JSONEvent is an event as JSON is written.
type JSONEvent struct {
	Seq     int64           `json:"seq"`
	Seconds float64         `json:"seconds"` // since the session's start
	Time    *time.Time      `json:"time"`
	Kind    string          `json:"kind"`
	Text    string          `json:"text,omitempty"`
	Output  string          `json:"output,omitempty"`
	Cols    int             `json:"cols,omitempty"`
	Rows    int             `json:"rows,omitempty"`
	Event   json.RawMessage `json:"event,omitempty"` // as Teleport has it
}

// EventJSON returns an event as JSON is written; output is what it printed.
func EventJSON(ev state.RecordingEvent, output string) JSONEvent {
	out := JSONEvent{
		Seq: ev.Seq, Seconds: ev.At.Seconds(), Time: ev.Time, Kind: ev.Kind, Text: ev.Text, Output: output, Cols: ev.Cols, Rows: ev.Rows,
	}
	if json.Valid([]byte(ev.Fields)) {
		out.Event = json.RawMessage(ev.Fields)
	}
	return out
}

// Feed takes an event.
func (j *JSON) Feed(ev state.RecordingEvent) error {
	text, rest := wholeRunes(append(j.rest, ev.Data...))
	j.rest = append([]byte(nil), rest...)
	raw, err := json.Marshal(EventJSON(ev, text))
	if err != nil {
		return fmt.Errorf("write an event: %w", err)
	}
	separator := ",\n"
	if j.first {
		separator, j.first = "\n", false
	}
	_, err = j.out.WriteString(separator + string(plain.JSON(raw)))
	return err
}

// Flush ends the text.
func (j *JSON) Flush() error {
	if _, err := fmt.Fprintf(j.out, "\n],\n\"cut\":%t}\n", j.cut); err != nil {
		return err
	}
	return j.out.Flush()
}

// Cut has the field "cut" be true.
func (j *JSON) Cut() { j.cut = true }
