//go:build desktop && linux

package desktop

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"berth/agent/state"
)

// place is where a terminal stands on the screen, below the panel.
type place struct{ top, rows int }

// height is that of a terminal in its font, with the border.
func (p place) height() int { return 19*p.rows + 12 }

// TestWaitingClient types what a person types: psql while logged out, and
// the login in another terminal. Its last picture is README's.
func TestWaitingClient(t *testing.T) {
	w := newWorld(t, "desktop-psql")
	w.output(w.berth, "logout")
	w.become("a tunnel that waits for a login", func(state.Snapshot) bool {
		return w.tunnel("prod_pg").State == state.TunnelWaitingForLogin
	})

	upper, lower := w.terminal("upper", place{top: 36, rows: 7}), w.terminal("lower", place{top: 190, rows: 14})
	upper.enter(`psql "$(berth tunnel url prod_pg)" -c 'select current_user'`)
	w.become("a client that waits", func(state.Snapshot) bool { return w.tunnel("prod_pg").Waiting == 1 })
	lower.enter("berth status")
	lower.prints("1 waiting")
	settle()
	w.shot("waits")
	lower.enter("berth login")
	lower.prints("logged in to")
	upper.prints("(1 row)")
	settle()
	w.part("goes-on", 36, 432)
}

// terminal is a shell in a window.
type terminal struct {
	*world
	middle  int    // of its window, from the top of the screen
	printed string // the file that has what it shows
}

// terminal opens one.
func (w *world) terminal(name string, at place) *terminal {
	w.t.Helper()
	rc := filepath.Join(w.dir, "bashrc")
	lines := fmt.Sprintf("PS1='$ '\nPATH=%q:$PATH\nexport LANG=C.UTF-8 TERM=xterm-256color\n", filepath.Dir(w.berth))
	if err := os.WriteFile(rc, []byte(lines), 0o600); err != nil {
		w.t.Fatal(err)
	}
	tm := &terminal{world: w, middle: at.top + at.height()/2, printed: filepath.Join(w.shots, name+".typescript")}
	w.start(name, "xterm", "-geometry", fmt.Sprintf("110x%d+0+%d", at.rows, at.top), "-fa", "DejaVu Sans Mono", "-fs", "11",
		"-b", "6", "+sb", "-bw", "0", "-bg", "#1b1f23", "-fg", "#e6e6e6", "-e",
		"script", "-qf", "-c", "bash --noprofile --rcfile "+rc+" -i", tm.printed)
	tm.prints("$ ")
	return tm
}

// enter types a line where the mouse is: without a window manager that is what
// decides who gets the keys.
func (tm *terminal) enter(line string) {
	tm.t.Helper()
	tm.point(500, tm.middle)
	tm.output("xdotool", "type", "--delay", "8", line)
	tm.output("xdotool", "key", "Return")
}

// prints waits until a text is on the terminal.
func (tm *terminal) prints(text string) {
	tm.t.Helper()
	tm.until(fmt.Sprintf("%q on the terminal", text), func() bool {
		printed, err := os.ReadFile(tm.printed)
		return err == nil && strings.Contains(string(printed), text)
	})
}
