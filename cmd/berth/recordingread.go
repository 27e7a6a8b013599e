package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"berth/agent/config"
	"berth/agent/ipc"
	"berth/agent/ipc/client"
	"berth/agent/state"
	"berth/internal/plain"
	"berth/internal/replay"
)

// recordingStream reads one recording through the agent, from any event on.
type recordingStream struct {
	c    *client.Client
	want client.RecordingRead
	// note is called when what comes of the recording changes: it is waited for,
	// or damaged. nil means no call.
	note func(state.RecordingState, string)
	// drain is called when what has come so far was yielded. nil means no call.
	drain func()
	// first is how far the recording was read when it was opened.
	first state.RecordingState

	mu        sync.Mutex
	recording state.Recording
	reader    string
	last      state.RecordingState
	text      string
}

// openRecording finds a recording; it is an error where there is none.
func openRecording(ctx context.Context, c *client.Client, want client.RecordingRead) (*recordingStream, error) {
	s := &recordingStream{c: c, want: want}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for part, err := range c.ReadRecording(ctx, want) {
		if err != nil {
			return nil, err
		}
		if part.Recording != nil {
			s.recording, s.reader = *part.Recording, part.Reader
			s.want.ID, s.want.Cluster = part.Recording.ID, part.Recording.Cluster
			continue
		}
		s.first = part.State
		break // it can be read, or is waited for
	}
	return s, nil
}

// events is the recording as a replay.Source.
func (s *recordingStream) events(ctx context.Context, from int64) iter.Seq2[state.RecordingEvent, error] {
	return func(yield func(state.RecordingEvent, error) bool) {
		want := s.want
		want.From = from
		for part, err := range s.c.ReadRecording(ctx, want) {
			if err != nil {
				yield(state.RecordingEvent{}, err)
				return
			}
			if len(part.Events) == 0 && part.Recording == nil {
				s.say(part.State, part.Text)
			}
			for _, ev := range part.Events {
				if !yield(ev, nil) {
					return
				}
			}
			if len(part.Events) > 0 && s.drain != nil {
				s.drain()
			}
		}
	}
}

func (s *recordingStream) say(now state.RecordingState, text string) {
	s.mu.Lock()
	changed := s.last != now || s.text != text
	s.last, s.text = now, text
	s.mu.Unlock()
	if changed && s.note != nil {
		s.note(now, text)
	}
}

// state returns what was last said of the recording.
func (s *recordingStream) state() (state.RecordingState, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last, s.text
}

// copyTo gives a writer all events, and says on stderr what is waited for. A
// recording that is damaged is an error, once what there is has been written.
func (s *recordingStream) copyTo(ctx context.Context, a *app, w replay.Writer) (events, printed int64, err error) {
	line := newWaitLine(a.err)
	defer line.clear()
	s.note = line.say
	if w, ok := w.(interface{ Drain() }); ok {
		s.drain = w.Drain
	}
	for ev, err := range s.events(ctx, 0) {
		line.clear()
		if err == nil {
			err = w.Feed(ev)
		}
		if err != nil {
			return events, printed, err
		}
		events++
		printed += int64(len(ev.Data))
	}
	now, text := s.state()
	if now == state.RecordingDamaged || text != "" && events > 0 {
		w.Cut()
	}
	if err := w.Flush(); err != nil {
		return events, printed, err
	}
	line.clear()
	if now == state.RecordingDamaged {
		return events, printed, withHint(damagedError{text}, "what came before it was written")
	}
	if text != "" {
		fmt.Fprintln(a.err, "berth: "+plain.Line(text))
	}
	return events, printed, nil
}

// waitLine says what is waited for: on a terminal in a line that writes over
// itself, elsewhere in a line for each change.
type waitLine struct {
	out   io.Writer
	width int // 0 where it is no terminal
	last  state.RecordingState
	drawn bool
}

func newWaitLine(out io.Writer) *waitLine {
	l := &waitLine{out: out}
	if file, ok := out.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		if width, _, err := term.GetSize(int(file.Fd())); err == nil {
			l.width = width
		}
	}
	return l
}

// say takes a change. Only what is waited for is of interest.
func (l *waitLine) say(now state.RecordingState, text string) {
	changed := now != l.last
	l.last = now
	switch {
	case now != state.RecordingAwaited && now != state.RecordingWaiting:
		l.clear()
	case l.width > 1:
		fmt.Fprint(l.out, "\r\x1b[K"+plain.Short("berth: "+text, l.width-1))
		l.drawn = true
	case changed:
		fmt.Fprintln(l.out, "berth: "+plain.Line(text))
	}
}

func (l *waitLine) clear() {
	if l.drawn {
		fmt.Fprint(l.out, "\r\x1b[K")
		l.drawn = false
	}
}

// damagedError says that the rest of a recording cannot be read. What came before
// it was written.
type damagedError struct{ text string }

func (e damagedError) Error() string { return e.text }

// mayPrint returns nil where a recording may be printed: where the policy keeps
// recordings out of files, on a terminal alone.
func (a *app) mayPrint() error {
	err := a.policy.Load().Allows(config.FeatureRecordingExport)
	if err == nil || a.terminal {
		return nil
	}
	return withHint(err, "a terminal shows it; a pipe or a file would be an export")
}

// withRecording runs what a command does with a recording.
func (a *app) withRecording(cmd *cobra.Command, id, cluster string, do func(context.Context, *recordingStream) error) error {
	return a.withAgent(func(c *client.Client) error {
		s, err := openRecording(cmd.Context(), c, client.RecordingRead{ID: id, Cluster: cluster})
		if err != nil {
			return err
		}
		return do(cmd.Context(), s)
	})
}

func (a *app) clusterFlag(cmd *cobra.Command, cluster *string) {
	cmd.Flags().StringVar(cluster, "cluster", "", "the cluster to look in (default: all you are logged in to, and their leaves)")
	must(cmd.RegisterFlagCompletionFunc("cluster", a.completeClusters))
}

func (a *app) recordingCatCommand() *cobra.Command {
	var cluster string
	cmd := &cobra.Command{
		Use:   "cat ID [flags]",
		Short: "Print what a recorded session printed, as plain text",
		Long: `Print what a recorded session printed, as plain text: lines without colours and
without the movements of the cursor. The beginning of the id will do.`,
		Example:           "  berth recording cat 5e1f0c2a | grep -i error",
		Args:              exactArgs("ID"),
		ValidArgsFunction: a.completeRecordings,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.mayPrint(); err != nil {
				return err
			}
			return a.withRecording(cmd, args[0], cluster, func(ctx context.Context, s *recordingStream) error {
				events, printed, err := s.copyTo(ctx, a, replay.NewPlainText(a.out))
				if err == nil && events > 0 && printed == 0 { // of an empty one it is not known
					fmt.Fprintln(a.err, "berth: "+plain.Line(noOutput(s.recording)))
				}
				return brokenPipe(err)
			})
		},
	}
	a.clusterFlag(cmd, &cluster)
	return cmd
}

// noOutput says why there is nothing to see.
func noOutput(r state.Recording) string {
	switch {
	case r.Kind == state.RecordingDB, r.Kind == state.RecordingApp:
		return fmt.Sprintf("a %s session prints nothing; see: berth recording events %s", r.Kind, r.ID)
	case r.Kind == state.RecordingDesktop:
		return "a desktop session is a film, which berth does not show"
	case !r.Interactive:
		return "the session had no terminal, so nothing of what it printed was recorded"
	default:
		return "the session printed nothing"
	}
}

// brokenPipe makes it a success that whoever reads the output has read enough.
func brokenPipe(err error) error {
	if errors.Is(err, io.ErrClosedPipe) || err != nil && strings.HasSuffix(err.Error(), "broken pipe") {
		return nil
	}
	return err
}

func (a *app) recordingEventsCommand() *cobra.Command {
	var cluster string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "events ID [flags]",
		Short: "List the commands, connections or queries of a recorded session",
		Long: `List what a recorded session did, with times: the queries of a database session,
the commands, files and connections that enhanced recording notes, requests to
Kubernetes and applications, who joined and left. With --json every event is a
line, what was printed among them.`,
		Example: `  berth recording events 5e1f0c2a
  berth recording events 5e1f0c2a --json |
    jq -r 'select(.kind == "db.session.query") | .text'`,
		Args:              exactArgs("ID"),
		ValidArgsFunction: a.completeRecordings,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.mayPrint(); err != nil {
				return err
			}
			return a.withRecording(cmd, args[0], cluster, func(ctx context.Context, s *recordingStream) error {
				list := &eventList{a: a, asJSON: asJSON, columns: a.width()}
				_, _, err := s.copyTo(ctx, a, list)
				if err == nil && list.shown == 0 {
					fmt.Fprintln(a.err, "berth: the recording has no events beside what the session printed")
				}
				return brokenPipe(err)
			})
		},
	}
	a.clusterFlag(cmd, &cluster)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print an event as one line of JSON each")
	return cmd
}

// eventList prints events as they come.
type eventList struct {
	a       *app
	asJSON  bool
	columns int // of the terminal; 0 where it is none
	shown   int
	out     *bufio.Writer
}

// Feed prints an event.
func (l *eventList) Feed(ev state.RecordingEvent) error {
	if l.out == nil {
		l.out = bufio.NewWriter(l.a.out)
	}
	if l.asJSON {
		l.shown++
		to := *l.a
		to.out = l.out
		return to.writeJSON(replay.EventJSON(ev, strings.ToValidUTF8(string(ev.Data), "\uFFFD")), "")
	}
	if ev.Kind == state.EventPrint {
		return nil
	}
	l.shown++
	_, err := fmt.Fprintln(l.out, l.line(position(ev.At), plain.Line(ev.Kind), plain.Line(ev.Text)))
	return err
}

// line says what an event is about, in lines of its own where the terminal is narrow.
func (l *eventList) line(at, kind, text string) string {
	head := fmt.Sprintf("%9s  %-24s ", at, kind)
	used := plain.Width(head)
	switch {
	case l.columns == 0 || used+plain.Width(text) <= l.columns:
		return strings.TrimRight(head+text, " ")
	case l.columns >= 2*used:
		return head + hanging(text, used, used, l.columns)
	default:
		return at + "  " + plain.Cut(kind, l.columns-len(at)-tableGap) + "\n  " + hanging(text, tableGap, tableGap, l.columns)
	}
}

// Cut is nothing to a list: that the end is missing is said beside it.
func (l *eventList) Cut() {}

// Drain writes the events so far. What fails is an error of what follows.
func (l *eventList) Drain() { _ = l.Flush() }

// Flush writes what is left.
func (l *eventList) Flush() error {
	if l.out == nil {
		return nil
	}
	return l.out.Flush()
}

// position words a moment of a recording, as in 1:02:03.
func position(at time.Duration) string {
	s := int(at / time.Second)
	if s >= 3600 {
		return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
	}
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}

// recordingExists says that a file is not overwritten.
func recordingExists(path string) error {
	if _, err := os.Lstat(path); err == nil {
		return &ipc.Error{Code: ipc.CodeExists, Message: path + " exists", Hint: "choose another name, or overwrite it with --force"}
	}
	return nil
}
