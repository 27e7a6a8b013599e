package main

import (
	"fmt"
	"io"
	"strings"

	"berth/internal/plain"
)

// draw brings the terminal up to date: only rows that changed are written.
func (p *player) draw() error {
	cols, rows := p.size()
	height := rows
	if p.controls {
		height--
	}
	lines := make([]string, rows)
	screen := p.view.Screen()
	x, y, shown := screen.Cursor()
	top := max(0, y-height+1) // the row with the cursor stays in sight
	for i := range height {
		lines[i] = screen.Line(top+i, cols)
	}
	if p.controls && rows > 0 {
		lines[rows-1] = p.status(cols, height)
	}
	var b strings.Builder
	if len(p.drawn) != rows {
		p.drawn = make([]string, rows)
		b.WriteString("\x1b[0m\x1b[2J")
	}
	for i, line := range lines {
		if line != p.drawn[i] {
			fmt.Fprintf(&b, "\x1b[%d;1H\x1b[0m%s\x1b[0m\x1b[K", i+1, line)
		}
	}
	cursor := "\x1b[?25l"
	if shown && x < cols && y-top < height {
		cursor = fmt.Sprintf("\x1b[%d;%dH\x1b[?25h", y-top+1, x+1)
	}
	if b.Len() == 0 && cursor == p.cursor {
		return nil
	}
	p.drawn, p.cursor = lines, cursor
	b.WriteString(cursor)
	_, err := io.WriteString(p.out, b.String())
	return err
}

// status is the line at the bottom.
func (p *player) status(cols, height int) string {
	if p.typing {
		return plain.Cut("/"+p.query, cols)
	}
	known, all := p.timeline.Duration()
	sign := "▶"
	if !p.playing {
		sign = "⏸"
	}
	length := position(known)
	if !all {
		length += "+"
	}
	text := fmt.Sprintf("%s %s / %s  %g×", sign, position(p.at), length, p.speed)
	p.mu.Lock()
	wait := p.wait
	p.mu.Unlock()
	note := p.say
	width, tall := p.view.Screen().Size()
	switch {
	case note != "":
	case wait != "":
		note = wait
	case p.nothing():
		note = p.empty
	case p.from > 0:
		note = "looking for " + position(p.from) + p.unread()
	case width > cols || tall > height+1: // of the same size only this line is in the way
		note = fmt.Sprintf("cropped: the recording is %d×%d", width, tall)
	}
	if note = plain.Line(note); note != "" && plain.Width(text)+2+plain.Width(note) > cols {
		text = sign + " " + position(p.at) // a narrow terminal has room for what matters more
	}
	if room := cols - plain.Width(text) - plain.Width(note) - 5; known > 0 && room >= 10 {
		done := int(float64(room) * float64(p.at) / float64(known))
		text += " [" + strings.Repeat("=", done) + strings.Repeat("-", room-done) + "]"
	}
	if note != "" {
		text += "  " + note
	}
	return "\x1b[7m" + plain.Cut(text, cols) + "\x1b[0m"
}
