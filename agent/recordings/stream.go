package recordings

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	apievents "github.com/gravitational/teleport/api/types/events"

	"berth/agent/cluster"
	"berth/agent/ipc"
	"berth/agent/state"
	"berth/internal/wake"
)

// pace says how long to wait for what.
type pace struct {
	more    time.Duration // between two looks for more of a session that goes on
	upload  time.Duration // between two looks for a recording that is being uploaded
	retry   time.Duration // before a broken stream is resumed
	linger  time.Duration // for which a recording without a reader is kept
	patient time.Duration // for how long an upload is waited for
}

var usualPace = pace{
	more: time.Second, upload: 3 * time.Second, retry: time.Second, linger: 2 * time.Minute, patient: time.Hour,
}

// maxBreaks is how often in a row a stream may break without bringing an event.
const maxBreaks = 5

// stream is one recording on its way from the cluster to the spool, and how far
// it has come. However many read it, the cluster sends it once.
type stream struct {
	rs        *Recordings
	recording state.Recording
	reader    string
	spool     *spool
	cancel    context.CancelFunc
	done      chan struct{} // closed when fetch has returned

	mu      sync.Mutex
	readers int
	size    int64   // of the spool, as far as it can be read
	places  []int64 // the spool's
	state   state.RecordingState
	text    string
	err     error // why there is nothing to read
	changed wake.Broadcast
}

// ReadRecording shows a recording from an event on, as it arrives. Until its end
// is known it waits for more.
func (rs *Recordings) ReadRecording(ctx context.Context, want ipc.RecordingRead, show func(ipc.RecordingPart) error) error {
	if want.From < 0 {
		return &ipc.Error{Code: ipc.CodeInvalid, Message: "a recording begins at event 0"}
	}
	s, err := rs.open(ctx, want)
	if err != nil {
		return err
	}
	defer rs.release(s)
	about, err := s.about(ctx)
	if err != nil {
		return err
	}
	if err := show(ipc.RecordingPart{Recording: &about, State: state.RecordingReading, Reader: s.reader}); err != nil {
		return err
	}
	return s.follow(ctx, want.From, show)
}

// about returns what is known of the recording. Where the cluster does not list it,
// that is what the recording says itself, and is waited for.
func (s *stream) about(ctx context.Context) (state.Recording, error) {
	for {
		changed := s.changed.Changed()
		s.mu.Lock()
		r, now, err := s.recording, s.state, s.err
		s.mu.Unlock()
		switch {
		case err != nil:
			return r, err
		case r.Kind != "" || now == state.RecordingComplete || now == state.RecordingDamaged:
			return r, nil
		}
		select {
		case <-ctx.Done():
			return r, ctx.Err()
		case <-changed:
		}
	}
}

// learn takes from the recording's first event what the cluster does not list.
func (s *stream) learn(ev apievents.AuditEvent) {
	r := startedOf(s.recording, ev)
	s.mu.Lock()
	s.recording = r
	s.mu.Unlock()
	s.changed.Wake()
}

// open returns the stream of a recording, a new one unless it is being read.
func (rs *Recordings) open(ctx context.Context, want ipc.RecordingRead) (*stream, error) {
	rs.mu.Lock()
	s := rs.streams[key{want.Cluster, want.ID}]
	if s != nil {
		s.hold()
	}
	rs.mu.Unlock()
	if s != nil {
		return s, nil
	}
	r, err := rs.find(ctx, want.Cluster, want.ID)
	if err != nil {
		return nil, err
	}
	f, err := rs.session(ctx, r.Cluster)
	if err != nil {
		return nil, err
	}
	sp, err := rs.spool(rs.cfg.Dir)
	if err != nil {
		return nil, err
	}
	k := key{r.Cluster, r.ID}
	rs.mu.Lock()
	if s := rs.streams[k]; s != nil { // another reader was faster
		s.hold()
		rs.mu.Unlock()
		sp.close()
		return s, nil
	}
	fetching, cancel := context.WithCancel(rs.ctx)
	s = &stream{
		rs: rs, recording: r, reader: f.Profile.User, spool: sp, cancel: cancel, done: make(chan struct{}), readers: 1,
		state: state.RecordingReading,
	}
	rs.streams[k] = s
	rs.mu.Unlock()
	go func() {
		defer close(s.done)
		s.fetch(fetching)
	}()
	return s, nil
}

func (s *stream) hold() {
	s.mu.Lock()
	s.readers++
	s.mu.Unlock()
}

// release is called by a reader that has finished. With the last one a stream
// that is not complete ends; a complete one is kept for the next reader, such as
// an export after a look.
func (rs *Recordings) release(s *stream) {
	s.mu.Lock()
	s.readers--
	idle, complete := s.readers == 0, s.state == state.RecordingComplete
	s.mu.Unlock()
	switch {
	case !idle:
	case complete:
		time.AfterFunc(rs.pace.linger, func() { rs.drop(s) })
	default:
		rs.drop(s)
	}
}

// drop ends a stream without readers, and removes its spool.
func (rs *Recordings) drop(s *stream) {
	rs.mu.Lock()
	s.mu.Lock()
	unused, k := s.readers == 0, key{s.recording.Cluster, s.recording.ID}
	s.mu.Unlock()
	if !unused || rs.streams[k] != s {
		rs.mu.Unlock()
		return
	}
	delete(rs.streams, k)
	rs.mu.Unlock()
	s.cancel()
	<-s.done
	s.spool.close()
}

// Close ends all streams and removes what is kept.
func (rs *Recordings) Close() {
	rs.mu.Lock()
	all := rs.streams
	rs.streams = make(map[key]*stream)
	rs.mu.Unlock()
	for _, s := range all {
		s.cancel()
		<-s.done
		s.spool.close()
	}
}

// follow shows what the spool has from an event on, and what comes.
func (s *stream) follow(ctx context.Context, from int64, show func(ipc.RecordingPart) error) error {
	in := cursor{file: s.spool.file}
	said, saidText := state.RecordingReading, ""
	for placed := false; ; {
		changed := s.changed.Changed()
		s.mu.Lock()
		size, now, text, err := s.size, s.state, s.text, s.err
		if !placed && len(s.places) > 0 {
			in.at, placed = s.places[min(from/stride, int64(len(s.places)-1))], from/stride < int64(len(s.places))
		}
		s.mu.Unlock()
		if err != nil {
			return err
		}
		readErr := in.read(size, from, func(batch []state.RecordingEvent) error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return show(ipc.RecordingPart{State: state.RecordingReading, Events: batch})
		})
		if readErr != nil {
			return readErr
		}
		if now != said || text != saidText {
			said, saidText = now, text
			if err := show(ipc.RecordingPart{State: now, Text: text}); err != nil {
				return err
			}
		}
		if now == state.RecordingComplete || now == state.RecordingDamaged {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// say sets how far the recording has come.
func (s *stream) say(now state.RecordingState, text string) {
	s.mu.Lock()
	s.state, s.text = now, text
	s.mu.Unlock()
	s.grow()
}

// grow lets readers have what has been written.
func (s *stream) grow() {
	s.mu.Lock()
	s.size, s.places = s.spool.written.size, s.spool.places[:s.spool.written.places]
	s.mu.Unlock()
	s.changed.Wake()
}

func (s *stream) fail(err error) {
	s.mu.Lock()
	s.err = err
	s.mu.Unlock()
	s.changed.Wake()
}

// progress is what fetch knows of the events so far.
type progress struct {
	converter

	index   int64 // Teleport's, of the last event
	same    int64 // how many events had it
	ended   bool  // the session's end was among them
	skip    int64 // how many of index come again
	flushed int64 // the spool's size at the last flush
}

// fetch reads the recording until its end, resuming where a stream broke.
func (s *stream) fetch(ctx context.Context) {
	var p progress
	begin, breaks := time.Now(), 0
	for {
		before := s.spool.count
		err := s.pull(ctx, &p)
		if s.spool.count > before {
			breaks = 0
		}
		var wait time.Duration
		var missing *cluster.NoRecordingError
		var away *cluster.UnreachableError
		full, isFull := errors.AsType[*spoolError](err)
		switch {
		case ctx.Err() != nil:
			s.fail(ctx.Err())
			return
		case err == nil && (p.ended || !s.running(ctx)):
			s.say(state.RecordingComplete, s.ending(p))
			return
		case err == nil:
			s.say(state.RecordingWaiting, "the session goes on: waiting for more")
			wait = s.rs.pace.more
		case errors.As(err, &missing) && s.spool.count == 0:
			if err := s.missing(ctx, time.Since(begin)); err != nil {
				s.fail(err)
				return
			}
			wait = s.rs.pace.upload
		case isFull && s.spool.written.size == 0:
			s.fail(fmt.Errorf("the recording cannot be read: %w", full))
			return
		case isFull:
			s.say(state.RecordingDamaged, "the rest cannot be read: "+full.Error())
			return
		case errors.As(err, &away) && breaks < maxBreaks, breaks == 0:
			s.rs.log.Info("stream of a recording broke, resuming", "events", s.spool.count, "err", err)
			breaks++
			wait = s.rs.pace.retry
		case s.spool.count > 0:
			s.say(state.RecordingDamaged, "the rest cannot be read: "+err.Error())
			return
		default:
			s.fail(s.rs.word(err, s.recording.Cluster))
			return
		}
		if !wake.Sleep(ctx, wait) {
			s.fail(ctx.Err())
			return
		}
	}
}

// pull reads one stream to its end, from where the one before ended.
func (s *stream) pull(ctx context.Context, p *progress) error {
	f, err := s.rs.session(ctx, s.recording.Cluster)
	if err != nil {
		return err
	}
	p.skip = p.same
	err = f.Cluster.ReadRecording(ctx, s.recording.Cluster, s.recording.ID, p.index, func(ev apievents.AuditEvent) error {
		return s.take(ev, p)
	})
	if flushErr := s.spool.flush(); flushErr != nil {
		return flushErr
	}
	s.grow()
	return err
}

// take writes an event to the spool.
func (s *stream) take(ev apievents.AuditEvent, p *progress) error {
	index := p.index
	if ev != nil {
		index = max(index, ev.GetIndex())
	}
	switch {
	case index != p.index:
		p.index, p.same, p.skip = index, 1, 0
	case p.skip > 0: // it came before the stream broke
		p.skip--
		return nil
	default:
		p.same++
	}
	if s.recording.Kind == "" {
		s.learn(ev)
	}
	out := p.event(ev)
	out.Seq = s.spool.count
	switch out.Kind {
	case "session.end", "db.session.end", "app.session.end", "windows.desktop.session.end":
		p.ended = true
	}
	if err := s.spool.add(out); err != nil {
		return err
	}
	if s.spool.size-p.flushed < batchBytes {
		return nil
	}
	if err := s.spool.flush(); err != nil {
		return err
	}
	p.flushed = s.spool.size
	s.say(state.RecordingReading, "")
	return nil
}

// ending says what a recording lacks that was read to its end.
func (s *stream) ending(p progress) string {
	switch {
	case s.spool.count == 0:
		return "the recording is empty"
	case !p.ended:
		return "the recording ends before the session does"
	default:
		return ""
	}
}

// running reports whether the session goes on.
func (s *stream) running(ctx context.Context) bool {
	f, err := s.rs.session(ctx, s.recording.Cluster)
	if err != nil {
		return false
	}
	list, err := s.rs.tracked(ctx, f.Cluster, s.recording.Cluster)
	for _, r := range list {
		if err == nil && r.ID == s.recording.ID && r.Live {
			return true
		}
	}
	return false
}

// missing decides what it means that the cluster has no recording: nil where it
// is to be waited for.
func (s *stream) missing(ctx context.Context, waited time.Duration) error {
	switch {
	case s.recording.Kind == "":
		return unknown(s.recording.ID)
	case s.running(ctx):
		return &ipc.Error{
			Code: ipc.CodeFailed, Message: "the session goes on, and this cluster shows its recording only after it has ended",
			Hint: "to watch it now, join it: " + s.recording.JoinCommand(),
		}
	case waited > s.rs.pace.patient:
		return &ipc.Error{
			Code: ipc.CodeFailed, Message: "the session has ended, but its recording was not uploaded",
			Hint: "the server that recorded it may be down: ask whoever runs the cluster",
		}
	}
	text := "the session has ended; its recording is not uploaded yet"
	if at := s.recording.EndedAt; at != nil {
		text += fmt.Sprintf(", %s after its end", max(0, time.Since(*at)).Round(time.Second))
	}
	s.say(state.RecordingAwaited, text)
	return nil
}
