package replay

import (
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"berth/agent/state"
	"berth/internal/plain"
	"berth/internal/testneeds"
	"berth/internal/testwait"
)

func printEvent(text string) state.RecordingEvent {
	return state.RecordingEvent{Kind: state.EventPrint, Data: []byte(text)}
}

// look is all that can be seen of a screen.
func look(s *Screen) []string {
	cols, rows := s.Size()
	x, y, shown := s.Cursor()
	seen := []string{fmt.Sprintf("%d×%d cursor %d,%d %v", cols, rows, x, y, shown)}
	for row := range rows {
		seen = append(seen, s.Line(row, cols))
	}
	return seen
}

// words are what random sessions are made of.
var words = []string{
	"hello ", "héllo ", "漢字", "🚀", "\r\n", "\n", "\r", "\b", "\t", "x", strings.Repeat("long ", 30), "\a",
	"\x1b[1;31m", "\x1b[0m", "\x1b[m", "\x1b[38;5;208m", "\x1b[48;2;1;2;3m", "\x1b[7m", "\x1b[0;4m",
	"\x1b[H", "\x1b[2J", "\x1b[5;10H", "\x1b[K", "\x1b[1K", "\x1b[3A", "\x1b[2B", "\x1b[4C", "\x1b[2D", "\x1b[2L", "\x1b[M", "\x1b[3P", "\x1b[2@", "\x1b[2X",
	"\x1b[5;15r", "\x1b[r", "\x1bM", "\x1bD", "\x1b7", "\x1b8",
	"\x1b[?1049h", "\x1b[?1049l", "\x1b[?25l", "\x1b[?25h", "\x1b[?7l", "\x1b[?7h", "\x1b[4h", "\x1b[4l", "\x1b[?6h", "\x1b[?6l",
	"\x1b(0", "lqqk", "\x1b(B", "\x0e", "\x0f", "\x1b)0",
	"\x1b]0;title\a", "\x1b]52;c;aGVsbG8=\x1b\\", "\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "\x1bP+q544e\x1b\\", "\x1b[6n", "\x1b[c", "\x1b[>c", "\x1b[14t", "\x1b]11;?\a",
	"\x1b[", "\x1b]0;never", "\xff\xfe", "\xe6", "\u202egnp.exe", "\u009b31m", "\x1b[!p", "\x1bc",
}

// TestDumpIsTheWholeState: a terminal that begins with a dump goes on like the
// one that was dumped. A few of the random sessions may differ, in what the
// emulator keeps and does not say, such as a pen that it saved.
func TestDumpIsTheWholeState(t *testing.T) {
	sessions := testneeds.Part(40)
	dumps, differ := 0, 0
	for seed := range uint64(sessions) {
		n, same := dumpsOf(rand.New(rand.NewPCG(seed, 1)))
		dumps += n
		if !same {
			differ++
		}
	}
	t.Logf("%d dumps, %d of %d sessions differ", dumps, differ, sessions)
	if dumps < 2*sessions || differ > 1+sessions/5 {
		t.Errorf("%d of %d sessions differ, with %d dumps", differ, sessions, dumps)
	}
}

// dumpsOf compares the dumps of a random session.
func dumpsOf(random *rand.Rand) (dumps int, same bool) {
	whole := NewScreen()
	screens := []*Screen{whole}
	defer func() {
		for _, s := range screens {
			s.Close()
		}
	}()
	for range 60 {
		ev := printEvent(words[random.IntN(len(words))])
		other := whole.emulator.IsAltScreen()
		switch string(ev.Data) {
		case "\u009b31m", "\xe6", "\xff\xfe", "\x1bc", "\x1b[", "\x1b]0;never", "\x1b[!p": // terminals differ about them
			continue
		case "\x1b7", "\x1b8", "\x1b[?1049h": // on the other screen they differ, too
			if other {
				continue
			}
		}
		if random.IntN(20) == 0 && !other { // the hidden screen's size is the emulator's affair
			ev.Cols, ev.Rows = 20+random.IntN(80), 16+random.IntN(30)
		}
		for _, s := range screens {
			s.Feed(ev)
		}
		if whole.Clean() && random.IntN(10) == 0 {
			s := NewScreen()
			cols, rows := whole.Size()
			s.Feed(state.RecordingEvent{Cols: cols, Rows: rows, Data: []byte(whole.Dump())})
			screens = append(screens, s)
			dumps++
		}
		for _, s := range screens[1:] {
			if !slices.Equal(look(s), look(whole)) {
				return dumps, false
			}
		}
	}
	return dumps, true
}

// TestSeekIsPlay: wherever one goes in a random session, the screen is the one that
// playing straight shows. What the emulator keeps and does not say, such as a pen
// that it saved, makes a key frame wrong, which the scan finds.
func TestSeekIsPlay(t *testing.T) {
	frames, sessions := 0, testneeds.Part(5)
	for seed := range uint64(sessions) {
		random := rand.New(rand.NewPCG(seed, 3))
		events := make([]state.RecordingEvent, 1500)
		for i := range events {
			events[i] = printEvent(words[random.IntN(len(words))])
			events[i].Seq, events[i].At = int64(i), time.Duration(i)*time.Millisecond
			if random.IntN(100) == 0 {
				events[i].Cols, events[i].Rows = 20+random.IntN(80), 16+random.IntN(30)
			}
		}
		source := func(_ context.Context, from int64) iter.Seq2[state.RecordingEvent, error] {
			return func(yield func(state.RecordingEvent, error) bool) {
				for _, ev := range events[from:] {
					if !yield(ev, nil) {
						return
					}
				}
			}
		}
		timeline := NewTimeline()
		timeline.every = 512
		take, end := timeline.NewScan()
		for _, ev := range events {
			take(ev)
		}
		end()
		frames += len(timeline.frames)

		straight, sought := NewView(t.Context(), source, timeline), NewView(t.Context(), source, timeline)
		sights := make([]int, 150)
		for i := range sights {
			sights[i] = random.IntN(len(events))
		}
		shown := make(map[int][]string)
		for i, ev := range events {
			arrive(t, straight, ev.At)
			if slices.Contains(sights, i) {
				shown[i] = look(straight.Screen())
			}
		}
		for _, i := range sights {
			if _, err := sought.Seek(t.Context(), events[i].At); err != nil {
				t.Fatal(err)
			}
			arrive(t, sought, events[i].At)
			if got := look(sought.Screen()); !slices.Equal(got, shown[i]) {
				t.Errorf("session %d at event %d: seeking shows\n%s\nplaying\n%s", seed, i, strings.Join(got, "\n"), strings.Join(shown[i], "\n"))
			}
		}
		straight.Close()
		sought.Close()
	}
	if frames < 10*sessions {
		t.Errorf("only %d key frames", frames)
	}
	t.Logf("%d key frames", frames)
}

// arrive plays on until the view is at a moment.
func arrive(t *testing.T, v *View, to time.Duration) {
	t.Helper()
	for {
		switch arrived, err := v.Play(to); {
		case err != nil:
			t.Fatal(err)
		case arrived:
			return
		}
	}
}

// TestPlayLooksUp: a recording of which each event is dear is played in pieces, and
// none of it twice.
func TestPlayLooksUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := func(_ context.Context, from int64) iter.Seq2[state.RecordingEvent, error] {
			return func(yield func(state.RecordingEvent, error) bool) {
				for i := from; i < 10; i++ {
					time.Sleep(playFor / 2)
					if !yield(state.RecordingEvent{Seq: i, Kind: state.EventPrint, Data: []byte{'0' + byte(i)}}, nil) {
						return
					}
				}
			}
		}
		timeline := NewTimeline()
		take, end := timeline.NewScan()
		for ev := range source(t.Context(), 0) {
			take(ev)
		}
		end()
		v := NewView(t.Context(), source, timeline)
		defer v.Close()
		pieces, began := 1, time.Now()
		for arrived, err := v.Seek(t.Context(), time.Second); !arrived; arrived, err = v.Play(time.Second) {
			if took := time.Since(began); err != nil || took > playFor+playFor/2 {
				t.Fatalf("piece %d takes %v: %v", pieces, took, err)
			}
			pieces, began = pieces+1, time.Now()
		}
		if got := v.Screen().Text()[0]; got != "0123456789" || pieces < 5 {
			t.Errorf("%d pieces show %q", pieces, got)
		}
	})
}

// TestLinesAreSafe: whatever a session prints, what leaves a screen is text and
// colours.
func TestLinesAreSafe(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 7))
	for range 50 {
		s := NewScreen()
		for range 200 {
			text := words[random.IntN(len(words))]
			if random.IntN(4) == 0 {
				raw := make([]byte, random.IntN(40))
				for i := range raw {
					raw[i] = byte(random.IntN(256))
				}
				text = string(raw)
			}
			s.Feed(printEvent(text))
		}
		cols, rows := s.Size()
		for y := range rows {
			line := s.Line(y, cols)
			rest, width := line, 0
			for {
				before, after, found := strings.Cut(rest, "\x1b[")
				width += plain.Width(before)
				if strings.ContainsFunc(before, plain.Invisible) {
					t.Fatalf("%q has %q", line, before)
				}
				if !found {
					break
				}
				end := strings.IndexFunc(after, func(r rune) bool { return (r < '0' || r > '9') && r != ';' && r != ':' })
				if end < 0 || after[end] != 'm' {
					t.Fatalf("%q has another sequence than a colour's", line)
				}
				rest = after[end+1:]
			}
			if width > cols {
				t.Fatalf("%q is %d wide", line, width)
			}
		}
		s.Close()
	}
}

// TestEmulatorMayPanic: what the emulator cannot bear clears the screen.
func TestEmulatorMayPanic(t *testing.T) {
	s := NewScreen()
	defer s.Close()
	s.Feed(state.RecordingEvent{Cols: 40, Rows: 12, Data: []byte("\x1b[5;15r\x1b[8;1H\x1b[M")})
	s.Feed(printEvent("\x1b[Hstill here"))
	if got := s.Text(); !strings.HasPrefix(got[0], "still here") {
		t.Errorf("%q", got)
	}
}

func TestHostileSizes(t *testing.T) {
	s := NewScreen()
	defer s.Close()
	for i := range testneeds.Part(100) {
		s.Feed(state.RecordingEvent{Cols: 1 + (i*5)%500, Rows: 1 + (i*35)%500, Data: []byte("x\x1b[999;999H\x1b[9999X\x1b[9999@y")})
	}
	s.Feed(state.RecordingEvent{Cols: 1 << 30, Rows: 1 << 30})
	if cols, rows := s.Size(); cols != 1000 || rows != 160 {
		t.Errorf("%d×%d", cols, rows)
	}
	s.Feed(state.RecordingEvent{Cols: 80, Rows: 24, Data: []byte("\x1b[H\x1b[2J" + strings.Repeat("long", 1<<17) + strings.Repeat("\a", 1<<19))})
	if got := s.Text(); len(got) != 24 || !strings.Contains(got[0], "long") {
		t.Errorf("%q", got)
	}
}

// TestHugeCounts: no sequence counts longer than a terminal is large.
func TestHugeCounts(t *testing.T) {
	s := NewScreen()
	defer s.Close()
	began, done := time.Now(), make(chan struct{})
	go func() {
		defer close(done)
		for final := byte('@'); final <= '~'; final++ {
			for _, prefix := range []string{"\x1b[", "\x1b[?", "\u009b"} {
				s.Feed(printEvent("x" + prefix + "999999999" + string(final) + prefix + "2147483647;2147483647" + string(final)))
			}
		}
		s.Feed(printEvent("\x1bca\x1b[3bb\x1b[999999999b\x1b[2Ic\r\nabc\x1b[2G\x1b[999999999X"))
	}()
	select {
	case <-done:
		testwait.Soon(t, "obeying all sequences", time.Since(began), 20*time.Second)
	case <-time.After(testwait.Patience):
		t.Fatal("a sequence is being counted out")
	}
	if got := s.Text()[:2]; !slices.Equal(got, []string{"aaaab           c", "a"}) {
		t.Errorf("%q", got)
	}
}

// TestPlainTextInserts: blanks that are inserted without end do not make the line
// longer than a line may be.
func TestPlainTextInserts(t *testing.T) {
	var out strings.Builder
	p := NewPlainText(&out)
	if err := p.Feed(printEvent("abc\x1b[2D\x1b[2@" + "\r\nx\r" + strings.Repeat("\x1b[1000@", 8000))); err != nil {
		t.Fatal(err)
	}
	if len(p.line) != maxLine {
		t.Errorf("the line has %d characters", len(p.line))
	}
	if err := p.Flush(); err != nil {
		t.Fatal(err)
	}
	if first, rest, _ := strings.Cut(out.String(), "\n"); first != "a  bc" || strings.TrimSpace(rest) != "x" {
		t.Errorf("%q and %d bytes", first, len(rest))
	}
}

func BenchmarkFeed(b *testing.B) {
	s := NewScreen()
	defer s.Close()
	ev := printEvent(strings.Repeat("\x1b[32mgreen\x1b[0m and plain text of a build, as long as lines are\r\n", 64))
	b.SetBytes(int64(len(ev.Data)))
	for b.Loop() {
		s.Feed(ev)
	}
}
