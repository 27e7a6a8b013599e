package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"berth/agent/state"
	"berth/internal/plain"
	"berth/internal/replay"
)

const (
	minSpeed = 0.25
	maxSpeed = 16.0
	// frameTime is how long a picture stands at least.
	frameTime = 33 * time.Millisecond
	// idleLimit is what the key i shortens idle time to.
	idleLimit = time.Second
	// maxHits bounds what a search finds.
	maxHits = 1000
)

// player is a recording on a terminal. Only run's goroutine touches what has no
// lock.
type player struct {
	timeline *replay.Timeline
	source   replay.Source
	view     *replay.View
	out      io.Writer
	size     func() (cols, rows int)

	controls bool
	playing  bool
	speed    float64
	maxIdle  time.Duration
	at       time.Duration
	behind   bool          // the view is not there yet
	from     time.Duration // where to go once it is known
	length   time.Duration // as the cluster lists it; 0 where it does not
	live     bool          // always at the newest, until a key leads elsewhere
	drawn    []string      // the rows of the terminal
	cursor   string        // where it was put
	mark     int           // the one that was gone to last

	typing bool // a search
	query  string
	sought string // what was searched for last, and found what it found
	hits   []replay.Hit
	found  chan searched
	say    string // until the next key
	empty  string // what is said of a recording that printed nothing

	mu      sync.Mutex
	wait    string // what is waited for
	damaged string // why the rest cannot be read
}

type searched struct {
	query string
	hits  []replay.Hit
	err   error
}

func newPlayer(source replay.Source, o recordingPlayOptions) *player {
	return &player{
		timeline: replay.NewTimeline(), source: source, controls: !o.noControls, playing: true, speed: o.speed, maxIdle: o.maxIdle, from: o.from, live: o.live,
		found: make(chan searched, 1), mark: -1,
	}
}

func (p *player) close() {
	if p.view != nil {
		p.view.Close()
	}
}

// note takes what the recording's stream says of itself.
func (p *player) note(now state.RecordingState, text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wait = text
	if now == state.RecordingDamaged {
		p.damaged = text
	}
}

// damage says why the rest of the recording cannot be read, or is empty.
func (p *player) damage() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.damaged
}

// nothing reports whether the whole recording has nothing to show.
func (p *player) nothing() bool {
	_, all := p.timeline.Duration()
	return all && p.timeline.Printed() == 0
}

// scan fills the timeline.
func (p *player) scan(ctx context.Context, source replay.Source) error {
	take, end := p.timeline.NewScan()
	defer end()
	for ev, err := range source(ctx, 0) {
		if err != nil {
			return err
		}
		take(ev)
	}
	return nil
}

// run plays until q, the end of ctx or, without controls, the recording's end.
func (p *player) run(ctx context.Context, keys <-chan string, scanned <-chan error) error {
	p.view = replay.NewView(ctx, p.source, p.timeline)
	tick := time.NewTicker(frameTime)
	defer tick.Stop()
	last := time.Now()
	for {
		var err error
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-scanned:
			if err != nil {
				return err
			}
			scanned = nil
		case got := <-p.found:
			p.searched(ctx, got)
		case key := <-keys:
			quit, keyErr := p.key(ctx, key)
			if quit {
				return nil
			}
			err = keyErr
		case now := <-tick.C:
			ended, stepErr := p.step(ctx, now.Sub(last))
			last, err = now, stepErr
			if ended && !p.controls {
				return p.draw()
			}
		}
		if err == nil {
			err = p.draw()
		}
		if err != nil {
			return err
		}
	}
}

// step goes on by the time that has passed, and reports the recording's end.
func (p *player) step(ctx context.Context, passed time.Duration) (ended bool, err error) {
	if p.behind {
		arrived, err := p.view.Play(p.at)
		p.behind = !arrived
		return false, err
	}
	known, all := p.timeline.Duration()
	if p.from > 0 && (all || known >= p.from) {
		from := p.from
		p.from = 0
		return false, p.seek(ctx, from)
	}
	if p.live && p.playing {
		p.at = known
		arrived, err := p.view.Seek(ctx, known)
		p.behind = !arrived
		return all && arrived, err
	}
	if !p.playing || p.from > 0 {
		return false, nil
	}
	to := p.at + time.Duration(float64(passed)*p.speed)
	if next, ok, err := p.view.Next(); err != nil {
		return false, err
	} else if ok && p.maxIdle > 0 && next-to > p.maxIdle {
		to = next - p.maxIdle
	}
	to = min(to, known)
	arrived, err := p.view.Play(to)
	p.at, p.behind = to, !arrived
	return all && arrived && to >= known, err
}

func (p *player) seek(ctx context.Context, to time.Duration) error {
	known, _ := p.timeline.Duration()
	p.at, p.live, p.from = min(max(0, to), known), false, 0
	arrived, err := p.view.Seek(ctx, p.at)
	p.behind = !arrived
	return err
}

// key obeys a key and reports whether it ends the player.
func (p *player) key(ctx context.Context, key string) (quit bool, err error) {
	p.say = ""
	if p.typing {
		p.typed(ctx, key)
		return key == "\x03", nil
	}
	switch key {
	case "q", "Q", "\x03", "\x04":
		return true, nil
	case "?":
		p.say = playerKeys
	case " ":
		p.playing = !p.playing
		if known, all := p.timeline.Duration(); p.playing && all && p.at >= known {
			return false, p.seek(ctx, 0)
		}
	case "\x1b[D", "\x1bOD":
		return false, p.seek(ctx, p.at-5*time.Second)
	case "\x1b[C", "\x1bOC":
		return false, p.seek(ctx, p.at+5*time.Second)
	case "\x1b[1;2D":
		return false, p.seek(ctx, p.at-time.Minute)
	case "\x1b[1;2C":
		return false, p.seek(ctx, p.at+time.Minute)
	case "+", "=":
		p.speed = min(p.speed*2, maxSpeed)
	case "-", "_":
		p.speed = max(p.speed/2, minSpeed)
	case "i":
		if p.maxIdle == 0 {
			p.maxIdle, p.say = idleLimit, "idle time is skipped"
		} else {
			p.maxIdle, p.say = 0, "idle time is kept"
		}
	case "/":
		p.typing, p.query = true, ""
	case "n", "N":
		return false, p.toHit(ctx, key == "n")
	case "e":
		return false, p.toMark(ctx, true, "no further command or query", func(m replay.Mark) bool { return m.Enhanced })
	case "m", "M":
		return false, p.toMark(ctx, key == "m", "no further mark", func(replay.Mark) bool { return true })
	default:
		if len(key) == 1 && key[0] >= '0' && key[0] <= '9' {
			return false, p.toTenth(ctx, time.Duration(key[0]-'0'))
		}
	}
	return false, nil
}

// typed takes a key of a search.
func (p *player) typed(ctx context.Context, key string) {
	switch {
	case key == "\r" || key == "\n":
		p.typing = false
		if p.query != "" {
			p.say, p.sought, p.hits = "searching for "+p.query, "", nil
			go func(query string) {
				hits, err := replay.Search(ctx, p.source, query, maxHits)
				select {
				case p.found <- searched{query, hits, err}:
				case <-ctx.Done():
				}
			}(p.query)
		}
	case key == "\x1b" || key == "\x03":
		p.typing, p.query = false, ""
	case key == "\x7f" || key == "\b":
		if runes := []rune(p.query); len(runes) > 0 {
			p.query = string(runes[:len(runes)-1])
		}
	case key[0] >= ' ':
		p.query += plain.Line(key)
	}
}

func (p *player) searched(ctx context.Context, got searched) {
	p.hits, p.sought = got.hits, got.query
	switch {
	case got.err != nil && len(got.hits) == 0:
		p.say = "the search failed: " + got.err.Error()
	case len(got.hits) == 0:
		p.say = "not found: " + got.query
	default:
		if err := p.toHit(ctx, true); err != nil {
			p.say = err.Error()
		}
	}
}

// toHit goes to the next or previous match, beginning again at the other end.
func (p *player) toHit(ctx context.Context, forward bool) error {
	switch {
	case len(p.hits) > 0:
	case p.sought != "":
		p.say = "not found: " + p.sought
		return nil
	case p.query != "":
		p.say = "searching for " + p.query
		return nil
	default:
		p.say = "nothing was searched for"
		return nil
	}
	i := 0
	if forward {
		i = max(0, slices.IndexFunc(p.hits, func(h replay.Hit) bool { return h.At > p.at }))
	} else {
		i = len(p.hits) - 1
		for j, h := range slices.Backward(p.hits) {
			if h.At < p.at {
				i = j
				break
			}
		}
	}
	p.playing = false
	p.say = fmt.Sprintf("match %d of %d", i+1, len(p.hits))
	return p.seek(ctx, p.hits[i].At)
}

func (p *player) toMark(ctx context.Context, forward bool, none string, want func(replay.Mark) bool) error {
	marks := p.timeline.Marks()
	i := replay.NextMark(marks, p.at, p.mark, forward, want)
	if i < 0 {
		if p.say = none; forward {
			p.say += p.unread()
		}
		return nil
	}
	mark := marks[i]
	p.mark = i
	p.say = mark.Kind + ": " + mark.Text
	return p.seek(ctx, mark.At)
}

// playerKeys are the player's keys, in a line.
const playerKeys = "space ←→ 0-9 move, +- speed, i idle, / n N search, e query, m M mark, q quit"

// toTenth goes to a tenth of the whole recording, once that much of it was read.
func (p *player) toTenth(ctx context.Context, n time.Duration) error {
	known, all := p.timeline.Duration()
	if all || p.length <= known {
		return p.seek(ctx, known*n/10)
	}
	if to := p.length * n / 10; to > known {
		p.from, p.live = to, false
		return nil
	}
	return p.seek(ctx, p.length*n/10)
}

// unread says that the recording is still being read, and how far it was; empty
// once it was read.
func (p *player) unread() string {
	known, all := p.timeline.Duration()
	switch {
	case all:
		return ""
	case p.length > known:
		return fmt.Sprintf(", reading … %d %%", 100*known/p.length)
	default:
		return ", still reading …"
	}
}
