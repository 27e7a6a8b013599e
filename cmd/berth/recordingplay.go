package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"berth/internal/plain"
	"berth/internal/replay"
)

// recordingPlayOptions are the flags of "berth recording play".
type recordingPlayOptions struct {
	from, maxIdle time.Duration
	speed         float64
	noControls    bool
	live          bool
	cluster       string
}

func (a *app) recordingPlayCommand() *cobra.Command {
	var o recordingPlayOptions
	cmd := &cobra.Command{
		Use:   "play ID [flags]",
		Short: "Watch a recorded session in this terminal",
		Long: `Watch a recorded session in this terminal, at the pace at which it happened. The
beginning of the id will do. What the session printed is shown and nothing more:
it cannot change this terminal's title, clipboard or colours.

Keys: space pauses; ← and → go 5 seconds, with shift a minute; 0 to 9 go to
tenths; + and - change the speed; i skips idle time; / searches what was on the
screen, n and N go to the next and previous match; e goes to the next command or
query, m and M to the next and previous mark; ? lists these; q ends.`,
		Example: `  berth recording play 5e1f0c2a --from 2m10s --speed 2
  berth recording play 5e1f0c2a --max-idle 1s --no-controls`,
		Args:              exactArgs("ID"),
		ValidArgsFunction: a.completeRecordings,
		RunE: func(cmd *cobra.Command, args []string) error {
			if within := o.speed >= minSpeed && o.speed <= maxSpeed; !within { // NaN is not
				return usageError{withHint(fmt.Errorf("--speed %g is too slow or too fast", o.speed), fmt.Sprintf("give one from %g to %g", minSpeed, maxSpeed))}
			}
			if o.from < 0 || o.maxIdle < 0 {
				return usageError{withHint(errors.New("--from and --max-idle cannot be below 0"), "write them as 2m10s")}
			}
			if o.live && o.from > 0 {
				return usageError{errors.New("--live begins at the newest, and --from elsewhere: choose one")}
			}
			screen, ok := a.out.(*os.File)
			if !ok || !term.IsTerminal(int(screen.Fd())) {
				return withHint(errors.New("the output is no terminal"), "see berth recording cat --help, and berth recording export --help")
			}
			return a.withRecording(cmd, args[0], o.cluster, func(ctx context.Context, s *recordingStream) error {
				return a.playRecording(ctx, s, screen, o)
			})
		},
	}
	f := cmd.Flags()
	f.DurationVar(&o.from, "from", 0, "where to begin, as in 2m10s")
	f.Float64Var(&o.speed, "speed", 1, "how fast to play, from 0.25 to 16")
	f.DurationVar(&o.maxIdle, "max-idle", 0, "shorten what is idle for longer than this; 0 means not at all")
	f.BoolVar(&o.live, "live", false, "show the newest of a session under way, and follow it")
	f.BoolVar(&o.noControls, "no-controls", false, "play to the end, without keys and without the line with the position")
	a.clusterFlag(cmd, &o.cluster)
	return cmd
}

// playRecording plays a recording on a terminal, and says afterwards what there
// was not to see.
func (a *app) playRecording(ctx context.Context, s *recordingStream, screen *os.File, o recordingPlayOptions) error {
	p := newPlayer(s.events, o)
	defer p.close()
	p.empty = noOutput(s.recording)
	p.length, _ = s.recording.Duration()
	s.note = p.note
	if err := a.onTerminal(ctx, p, screen); err != nil {
		return err
	}
	if text := p.damage(); text != "" {
		return damagedError{text}
	}
	if p.nothing() {
		_, why := s.state()
		fmt.Fprintln(a.err, "berth: "+plain.Line(cmp.Or(why, p.empty)))
	} else if known, all := p.timeline.Duration(); all && o.from > known && o.noControls {
		fmt.Fprintf(a.err, "berth: --from %s is beyond the end: the recording is %s long\n", position(o.from), position(known))
	}
	return nil
}

// onTerminal runs a player on a terminal, which is as before afterwards, however
// that comes about.
func (a *app) onTerminal(ctx context.Context, p *player, screen *os.File) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	keys := make(chan string)
	in, isFile := a.in.(*os.File)
	if p.controls && isFile && term.IsTerminal(int(in.Fd())) {
		before, err := term.MakeRaw(int(in.Fd()))
		if err != nil {
			return fmt.Errorf("read keys: %w", err)
		}
		defer func() { _ = term.Restore(int(in.Fd()), before) }()
		go readKeys(ctx, in, keys)
	} else {
		p.controls = false
	}
	if _, err := io.WriteString(screen, "\x1b[?1049h\x1b[?25l\x1b[2J"); err != nil {
		return err
	}
	defer func() { _, _ = io.WriteString(screen, "\x1b[0m\x1b[?25h\x1b[?1049l") }()

	scanned := make(chan error, 1)
	go func() { scanned <- p.scan(ctx, p.source) }()
	p.out = screen
	p.size = func() (int, int) {
		cols, rows, err := term.GetSize(int(screen.Fd()))
		if err != nil || cols <= 0 || rows <= 0 {
			return 80, 24
		}
		return cols, rows
	}
	return p.run(ctx, keys, scanned)
}

// readKeys sends each key that is pressed, an arrow as its sequence.
func readKeys(ctx context.Context, in io.Reader, keys chan<- string) {
	buf := make([]byte, 64)
	for {
		n, err := in.Read(buf)
		for _, key := range splitKeys(string(buf[:n])) {
			select {
			case keys <- key:
			case <-ctx.Done():
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// splitKeys splits what came at once into keys.
func splitKeys(text string) (keys []string) {
	for len(text) > 0 {
		n := 1
		if text[0] == 0x1b && len(text) > 2 && (text[1] == '[' || text[1] == 'O') {
			n = 3
			for n < len(text) && (text[n-1] < 0x40 || text[n-1] > 0x7e) {
				n++
			}
		} else if r := []rune(text)[0]; r != '\uFFFD' {
			n = len(string(r))
		}
		keys = append(keys, text[:n])
		text = text[n:]
	}
	return keys
}

var _ replay.Source = (*recordingStream)(nil).events
