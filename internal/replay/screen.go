package replay

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	uv "github.com/charmbracelet/ultraviolet"
	"github.com/charmbracelet/x/vt"

	"berth/agent/state"
	"berth/internal/plain"
)

const (
	// defaultCols and defaultRows are a terminal's size until a recording says one.
	defaultCols, defaultRows = 80, 24
	// maxSide bounds a side of it.
	maxSide = 1000
	// scrollback is how many lines above the screen the emulator keeps: none is
	// ever looked at.
	scrollback = 1
)

// Screen is what a recorded terminal shows.
type Screen struct {
	emulator *vt.Emulator
	limiter  *limiter
	tracker  *tracker
	drained  chan struct{}
	main     string // how the main screen looked when the other one was taken
	other    string // the mode by which it was
}

// NewScreen returns an empty screen. Close ends it.
func NewScreen() *Screen {
	s := &Screen{limiter: newLimiter()}
	s.start(defaultCols, defaultRows)
	return s
}

func (s *Screen) start(cols, rows int) {
	s.emulator, s.tracker, s.drained = vt.NewEmulator(cols, rows), newTracker(), make(chan struct{})
	s.emulator.SetScrollbackSize(scrollback)
	s.tracker.before, s.main = s.before, ""
	emulator, drained := s.emulator, s.drained
	go func() { // the emulator answers what the session asked its terminal, and waits until that is read
		defer close(drained)
		_, _ = io.Copy(io.Discard, emulator)
	}()
}

// Close ends the emulator.
func (s *Screen) Close() {
	if answers, ok := s.emulator.InputPipe().(io.Closer); ok {
		_ = answers.Close() // the reader ends first: Close below is not for two goroutines
	}
	<-s.drained
	_ = s.emulator.Close()
}

// Feed shows an event.
func (s *Screen) Feed(ev state.RecordingEvent) {
	if ev.Cols > 0 && ev.Rows > 0 {
		s.resize(ev.Cols, ev.Rows)
	}
	s.write(s.limiter.take(ev))
}

func (s *Screen) resize(cols, rows int) {
	cols, rows = state.ShownSize(cols, rows)
	if cols != s.emulator.Width() || rows != s.emulator.Height() {
		s.emulator.Resize(cols, rows)
		s.tracker.region = [2]string{}
	}
}

// write gives the emulator bytes, sequence by sequence, so that the tracker sees
// the screen as it is at each.
func (s *Screen) write(data []byte) {
	for len(data) > 0 {
		n := s.tracker.next(data)
		s.obey(data[:n])
		data = data[n:]
	}
}

// obey gives the emulator a sequence. It panics at some that no program sends,
// such as a scroll region larger than the screen: a recording must not end its
// player, so that the screen is cleared instead.
func (s *Screen) obey(sequence []byte) {
	defer func() {
		if recover() != nil {
			cols, rows := s.Size()
			s.Close()
			s.start(cols, rows)
		}
	}()
	_, _ = s.emulator.Write(sequence) // it fails when closed alone
}

// before looks at the screen ahead of a sequence that saves something.
func (s *Screen) before(seq string) {
	switch seq {
	case "7", "[s", "[?1048h":
		s.save()
	case "[?1049h":
		s.save()
		s.keepMain(seq)
	case "[?47h", "[?1047h":
		s.keepMain(seq)
	case "c":
		s.main = ""
	}
}

// at returns the index of the screen that is shown.
func (s *Screen) at() int {
	if s.emulator.IsAltScreen() {
		return 1
	}
	return 0
}

func (s *Screen) save() {
	x, y, shown := s.Cursor()
	s.tracker.saved[s.at()] = &saved{x: x, y: y, hidden: !shown, pen: slices.Clone(s.tracker.pen)}
}

func (s *Screen) keepMain(mode string) {
	if s.at() == 0 {
		s.main, s.other = s.cells(), mode
		s.main += s.tracker.saved[0].sequence() + s.tracker.scrolls() + s.place() + penSequence(s.tracker.pen)
	}
}

// Size returns the terminal's size.
func (s *Screen) Size() (cols, rows int) { return s.emulator.Width(), s.emulator.Height() }

// Cursor returns where the cursor is, and whether it is shown.
func (s *Screen) Cursor() (x, y int, shown bool) {
	pos := s.emulator.CursorPosition()
	return pos.X, pos.Y, !s.emulator.CursorHidden()
}

// Line returns a row as text with colours, at most cols wide. It holds nothing
// else: no link, no movement, no invisible character. It ends with the pen reset.
func (s *Screen) Line(y, cols int) string {
	var b strings.Builder
	width, height := s.Size()
	if y >= height {
		return ""
	}
	var pen uv.Style
	last := s.lastInk(y, min(cols, width))
	for x := 0; x <= last; {
		cell := s.emulator.CellAt(x, y)
		text, w := cellText(cell)
		if x+w > cols {
			break
		}
		var style uv.Style
		if cell != nil {
			style = cell.Style
		}
		if !style.Equal(&pen) {
			b.WriteString(style.Diff(&pen))
			pen = style
		}
		b.WriteString(text)
		x += w
	}
	if !pen.IsZero() {
		b.WriteString("\x1b[0m")
	}
	return b.String()
}

// lastInk returns the last cell of a row that shows something.
func (s *Screen) lastInk(y, width int) int {
	for x := width - 1; x >= 0; x-- {
		if c := s.emulator.CellAt(x, y); c != nil && (c.Content != " " && c.Content != "" || !c.Style.IsZero()) {
			return x
		}
	}
	return -1
}

// cellText returns what a cell shows and how wide that is: nothing but a
// character that is safe and as wide as its cell.
func cellText(cell *uv.Cell) (string, int) {
	if cell == nil || cell.Content == "" || cell.Width <= 0 {
		return " ", 1
	}
	if len(cell.Content) == 1 && cell.Content[0] >= ' ' && cell.Content[0] < 0x7f {
		return cell.Content, 1
	}
	text := plain.Line(cell.Content)
	switch w := plain.Width(text); {
	case w <= cell.Width:
		return text + strings.Repeat(" ", cell.Width-w), cell.Width
	default: // terminals differ about the character
		return strings.Repeat(" ", cell.Width), cell.Width
	}
}

// Text returns the rows without colours and without blanks at their ends.
func (s *Screen) Text() []string {
	width, height := s.Size()
	rows := make([]string, height)
	var b strings.Builder
	for y := range rows {
		b.Reset()
		for x, last := 0, s.lastInk(y, width); x <= last; {
			text, w := cellText(s.emulator.CellAt(x, y))
			b.WriteString(text)
			x += w
		}
		rows[y] = strings.TrimRight(b.String(), " ")
	}
	return rows
}

// looksLike reports whether two screens show the same.
func (s *Screen) looksLike(other *Screen) bool {
	cols, rows := s.Size()
	if c, r := other.Size(); c != cols || r != rows {
		return false
	}
	x, y, shown := s.Cursor()
	if ox, oy, oshown := other.Cursor(); ox != x || oy != y || oshown != shown {
		return false
	}
	for y := range rows {
		for x := range cols {
			if !sameCell(s.emulator.CellAt(x, y), other.emulator.CellAt(x, y)) {
				return false
			}
		}
	}
	return true
}

func sameCell(a, b *uv.Cell) bool {
	if a == nil || b == nil {
		return a == b
	}
	return (a.Content == b.Content || blank(a) && blank(b)) && a.Style.Equal(&b.Style)
}

func blank(c *uv.Cell) bool { return c.Content == "" || c.Content == " " }

// Clean reports whether Dump returns the whole state of the terminal: it is
// between two sequences, the cursor is not about to wrap, and rows count from the
// top.
func (s *Screen) Clean() bool {
	pos := s.emulator.CursorPosition()
	return s.limiter.clean() && s.tracker.clean() && !s.tracker.modes["?6"] && pos.X < s.emulator.Width()-1
}

// Dump returns what brings a new terminal, of the same size, to this one's state.
func (s *Screen) Dump() string {
	var b strings.Builder
	t := s.tracker
	b.WriteString("\x1bc")
	if s.emulator.IsAltScreen() {
		b.WriteString(s.main + "\x1b" + s.other)
	}
	b.WriteString(s.cells())
	b.WriteString(t.saved[s.at()].sequence())
	b.WriteString(t.scrolls())
	for _, set := range slices.Sorted(maps.Keys(t.sets)) {
		b.WriteString("\x1b" + string(set) + string(t.sets[set]))
	}
	if t.shift != 0 {
		b.WriteByte(t.shift)
	}
	for _, mode := range slices.Sorted(maps.Keys(t.modes)) {
		on := t.modes[mode]
		switch mode {
		case "?47", "?1047", "?1048", "?1049", "?2026", "?3", "?6", "?25": // done above, or never to be done twice
		default:
			final := "l"
			if on {
				final = "h"
			}
			prefix, number := "", mode
			if n, ok := strings.CutPrefix(mode, "?"); ok {
				prefix, number = "?", n
			}
			b.WriteString("\x1b[" + prefix + number + final)
		}
	}
	b.WriteString(penSequence(nil))
	b.WriteString(s.place())
	if _, _, shown := s.Cursor(); !shown {
		b.WriteString("\x1b[?25l")
	}
	b.WriteString(penSequence(t.pen))
	return b.String()
}

// cells draws the screen that is shown, from its corner, without wrapping.
func (s *Screen) cells() string {
	var b strings.Builder
	b.WriteString("\x1b[?7l")
	cols, rows := s.Size()
	for y := range rows {
		if line := s.Line(y, cols); line != "" {
			fmt.Fprintf(&b, "\x1b[%d;1H%s", y+1, line)
		}
	}
	b.WriteString("\x1b[?7h\x1b[0m")
	return b.String()
}

// place moves the cursor to where it is.
func (s *Screen) place() string {
	x, y, _ := s.Cursor()
	return fmt.Sprintf("\x1b[%d;%dH", y+1, x+1)
}
