package replay

import (
	"bytes"
	"compress/flate"
	"context"
	"errors"
	"io"
	"iter"
	"math"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"
	"unicode"

	"berth/agent/state"
)

const (
	// frameEvery is how much of a recording lies between two key frames at first,
	// in bytes and in time; what costs least to play again is what seeks fastest.
	frameBytes = 64 << 10
	frameEvery = 30 * time.Second
	// frameBudget bounds the memory of the key frames, which are compressed: at it,
	// every second one goes.
	frameBudget = 4 << 20
	// maxFrame bounds the cells of a screen that has key frames: a larger one would
	// be kept once more to try them.
	maxFrame = 60_000
	// maxMarks bounds the marks that are kept.
	maxMarks = 20_000
	// lookEvery is how often a search looks at the screen, in the recording's time.
	lookEvery = 100 * time.Millisecond
	// lookBytes is how much may be printed between two looks: about a screen.
	lookBytes = 2048
	// playFor is how long a view works without looking up.
	playFor = 100 * time.Millisecond
)

// Mark is a moment to go to: another size, a command, a query.
type Mark struct {
	At       time.Duration
	Kind     string
	Text     string
	Enhanced bool // it is of the cluster's own, not of the terminal's
}

// frame is a terminal's state ahead of an event. The emulator keeps more than can
// be had of it, so that a frame is tried while the recording is scanned: a screen
// that began with it looked like the one that played everything, after each event
// before the moment until.
type frame struct {
	at, until  time.Duration
	seq        int64 // of the next event
	cols, rows int
	dump       []byte // compressed
}

// screen returns a screen in the frame's state.
func (f frame) screen() *Screen {
	s := NewScreen()
	if f.cols > 0 {
		dump, err := io.ReadAll(flate.NewReader(bytes.NewReader(f.dump)))
		if err != nil {
			panic(err) // it was compressed here
		}
		s.Feed(state.RecordingEvent{Cols: f.cols, Rows: f.rows, Data: dump})
	}
	return s
}

// Timeline is what is known of a recording without its content: how long it is,
// where its marks are, and how its screen looked now and then. It is filled by
// Scan and read meanwhile.
type Timeline struct {
	every    int // bytes between two key frames
	mu       sync.Mutex
	frames   []frame
	size     int // of the frames
	spacing  int // every how many key frames one is kept
	skipped  int
	marks    []Mark
	duration time.Duration
	events   int64
	printed  int64 // bytes
	done     bool
}

// NewTimeline returns an empty timeline.
func NewTimeline() *Timeline { return &Timeline{spacing: 1, every: frameBytes} }

// scanner fills a timeline event by event.
type scanner struct {
	t      *Timeline
	screen *Screen
	trial  *Screen // began with the last key frame; nil once it looked different
	packer *flate.Writer
	bytes  int // since the last key frame
	last   time.Duration
}

// NewScan returns a func that takes the events of a recording in their order, and
// one that ends the scan.
func (t *Timeline) NewScan() (take func(state.RecordingEvent), end func()) {
	packer, err := flate.NewWriter(nil, flate.BestSpeed)
	if err != nil {
		panic(err) // the level is a valid one
	}
	s := &scanner{t: t, screen: NewScreen(), packer: packer}
	return s.take, func() {
		s.screen.Close()
		s.endTrial()
		t.mu.Lock()
		t.done = true
		t.mu.Unlock()
	}
}

func (s *scanner) take(ev state.RecordingEvent) {
	due := s.bytes >= s.t.every || ev.At-s.last >= frameEvery && s.bytes > 0
	if due && s.screen.Clean() {
		s.begin(ev)
	}
	s.screen.Feed(ev)
	s.bytes += len(ev.Data)
	if s.trial != nil {
		s.trial.Feed(ev)
		if !s.trial.looksLike(s.screen) {
			s.endTrial()
			s.t.limit(ev.At)
		}
	}
	s.t.note(ev)
}

// begin makes a key frame ahead of an event, unless so many are not kept.
func (s *scanner) begin(ev state.RecordingEvent) {
	s.bytes, s.last = 0, ev.At
	if s.trial != nil && !s.t.wanted() {
		return // the frame before is tried further
	}
	if cols, rows := s.screen.Size(); cols*rows > maxFrame {
		s.endTrial()
		return
	}
	var packed bytes.Buffer
	s.packer.Reset(&packed)
	_, err := io.WriteString(s.packer, s.screen.Dump())
	if err = errors.Join(err, s.packer.Close()); err != nil {
		panic(err) // memory takes everything
	}
	f := frame{at: ev.At, until: math.MaxInt64, seq: ev.Seq, dump: packed.Bytes()}
	f.cols, f.rows = s.screen.Size()
	s.endTrial()
	if trial := f.screen(); trial.looksLike(s.screen) {
		s.trial = trial
		s.t.addFrame(f)
	} else {
		trial.Close()
	}
}

func (s *scanner) endTrial() {
	if s.trial != nil {
		s.trial.Close()
		s.trial = nil
	}
}

// wanted reports whether a key frame is to be kept now.
func (t *Timeline) wanted() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.skipped++
	return t.skipped >= t.spacing
}

// limit notes that the last key frame is right before a moment only.
func (t *Timeline) limit(at time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.frames[len(t.frames)-1].until = at
}

func (t *Timeline) addFrame(f frame) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.skipped = 0
	t.frames = append(t.frames, f)
	t.size += len(f.dump)
	if t.size <= frameBudget {
		return
	}
	kept := t.frames[:0]
	t.size = 0
	last := len(t.frames) - 1
	for i, f := range t.frames {
		if (last-i)%2 == 0 { // the last one is on trial
			kept = append(kept, f)
			t.size += len(f.dump)
		} else if n := len(kept); n > 0 && kept[n-1].until > f.at {
			kept[n-1].until = f.until // as far as can be seen
		}
	}
	clear(t.frames[len(kept):])
	t.frames, t.spacing = kept, t.spacing*2
}

func (t *Timeline) note(ev state.RecordingEvent) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.duration = max(t.duration, ev.At)
	t.events = ev.Seq + 1
	t.printed += int64(len(ev.Data))
	if mark, ok := markOf(ev); ok && len(t.marks) < maxMarks {
		t.marks = append(t.marks, mark)
	}
}

// markOf returns the mark that an event makes; false for what was printed.
func markOf(ev state.RecordingEvent) (Mark, bool) {
	if ev.Kind == state.EventPrint {
		return Mark{}, false
	}
	enhanced := true
	switch ev.Kind {
	case state.EventResize, "session.start", "session.end", "session.leave", "session.join":
		enhanced = false
	}
	return Mark{At: ev.At, Kind: ev.Kind, Text: ev.Text, Enhanced: enhanced}, true
}

// Duration returns how long the recording is, as far as it was scanned, and
// whether that was all of it.
func (t *Timeline) Duration() (d time.Duration, all bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.duration, t.done
}

// has reports whether an event was scanned, or will never be.
func (t *Timeline) has(seq int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.done || seq < t.events
}

// Printed returns how many bytes the session printed, as far as it was scanned.
func (t *Timeline) Printed() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.printed
}

// Marks returns the marks so far, in their order.
func (t *Timeline) Marks() []Mark {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.marks)
}

// frameFor returns the last key frame from which a moment looks right; the zero
// frame is the recording's beginning.
func (t *Timeline) frameFor(at time.Duration) frame {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := sort.Search(len(t.frames), func(i int) bool { return t.frames[i].at > at })
	if i == 0 || at >= t.frames[i-1].until {
		return frame{}
	}
	return t.frames[i-1]
}

// NextMark returns the place of the first mark that lies after a moment, or the last
// before it, of those that want is true for; -1 where there is none. Of marks at the
// moment itself those beyond the one at place last count too, if that one is among them.
func NextMark(marks []Mark, at time.Duration, last int, forward bool, want func(Mark) bool) int {
	stepping := last >= 0 && last < len(marks) && marks[last].At == at
	if forward {
		for i, m := range marks {
			if (m.At > at || stepping && m.At == at && i > last) && want(m) {
				return i
			}
		}
		return -1
	}
	for i, m := range slices.Backward(marks) {
		if (m.At < at || stepping && m.At == at && i < last) && want(m) {
			return i
		}
	}
	return -1
}

// View shows a recording at one moment and moves to others.
type View struct {
	source   Source
	timeline *Timeline
	screen   *Screen
	at       time.Duration
	next     func() (state.RecordingEvent, error, bool)
	stop     func()
	ahead    *state.RecordingEvent // the next event, already taken
	ended    bool
	seq      int64 // of the next event
}

// NewView returns a view at the recording's beginning. Close ends it.
func NewView(ctx context.Context, source Source, t *Timeline) *View {
	v := &View{source: source, timeline: t, screen: NewScreen()}
	v.open(ctx, 0)
	return v
}

func (v *View) open(ctx context.Context, from int64) {
	if v.stop != nil {
		v.stop()
	}
	v.next, v.stop = iter.Pull2(v.source(ctx, from))
	v.ahead, v.ended, v.seq = nil, false, from
}

// Close ends the view.
func (v *View) Close() {
	v.stop()
	v.screen.Close()
}

// Screen returns what is shown.
func (v *View) Screen() *Screen { return v.screen }

// Next returns when the next event is; false where there is none, or none yet.
func (v *View) Next() (time.Duration, bool, error) {
	if v.ahead == nil && !v.timeline.has(v.seq) {
		return 0, false, nil
	}
	if v.ahead == nil && !v.ended {
		ev, err, ok := v.next()
		switch {
		case err != nil:
			v.ended = true
			return 0, false, err
		case !ok:
			v.ended = true
		default:
			v.ahead = &ev
		}
	}
	if v.ahead == nil {
		return 0, false, nil
	}
	return v.ahead.At, true, nil
}

// Play goes on to a later moment, and reports whether it is there: it stops after
// playFor, so that a recording of which each event is dear, such as a thousand
// sizes of a huge terminal, does not keep its player from keys and signals. It does
// not wait for what the timeline does not know yet.
func (v *View) Play(to time.Duration) (arrived bool, err error) {
	for began := time.Now(); time.Since(began) < playFor; {
		at, ok, err := v.Next()
		if err != nil {
			return false, err
		}
		if !ok || at > to {
			v.at = max(v.at, to)
			return true, nil
		}
		v.screen.Feed(*v.ahead)
		v.at = max(v.at, at)
		v.seq = v.ahead.Seq + 1
		v.ahead = nil
	}
	return false, nil
}

// Seek goes to any moment, by the key frame before it. Where it did not arrive, Play
// goes on.
func (v *View) Seek(ctx context.Context, to time.Duration) (arrived bool, err error) {
	to = max(0, to)
	f := v.timeline.frameFor(to)
	if to >= v.at && f.at <= v.at {
		return v.Play(to) // going on is nearer
	}
	v.screen.Close()
	v.screen = f.screen()
	v.at = f.at
	v.open(ctx, f.seq)
	return v.Play(to)
}

// Hit is a moment at which a text appears on the screen.
type Hit struct {
	At  time.Duration
	Row int
}

// Finder looks for a text on the screens of a recording. Its letters match both
// cases unless it has a capital.
type Finder struct {
	query string
	fold  bool
	shown map[string]bool // the rows that had it at the last look
	due   time.Duration
}

// newFinder returns a finder.
func newFinder(query string) *Finder {
	fold := !strings.ContainsFunc(query, unicode.IsUpper)
	if fold {
		query = strings.ToLower(query)
	}
	return &Finder{query: query, fold: fold}
}

// Look returns the rows in which the text has appeared since the last look.
func (f *Finder) Look(s *Screen, at time.Duration) (hits []Hit) {
	shown := make(map[string]bool)
	rows := s.Text()
	cols, _ := s.Size()
	for y, row := range rows {
		if y+1 < len(rows) && len(row) >= cols { // a long line goes on in the next
			row += rows[y+1]
		}
		if f.fold {
			row = strings.ToLower(row)
		}
		if strings.Contains(row, f.query) {
			if !f.shown[row] && !shown[row] {
				hits = append(hits, Hit{At: at, Row: y})
			}
			shown[row] = true
		}
	}
	f.shown = shown
	return hits
}

// Search returns the moments at which a text appears on the screen, up to limit.
func Search(ctx context.Context, source Source, query string, limit int) (hits []Hit, err error) {
	if query == "" {
		return nil, nil
	}
	screen := NewScreen()
	defer screen.Close()
	f := newFinder(query)
	var last time.Duration
	fresh := 0 // bytes printed since the last look
	for ev, err := range source(ctx, 0) {
		if err != nil {
			return hits, err
		}
		if fresh > 0 && (ev.At-f.due >= lookEvery || fresh >= lookBytes) {
			hits = append(hits, f.Look(screen, last)...)
			f.due, fresh = ev.At, 0
			if len(hits) >= limit {
				return hits, nil
			}
		}
		screen.Feed(ev)
		last, fresh = ev.At, fresh+len(ev.Data)
	}
	return append(hits, f.Look(screen, last)...), nil
}
