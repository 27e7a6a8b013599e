//go:build e2e && linux

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"berth/agent/state"
	"berth/internal/replay"
)

// comparePlayers plays a recording with tsh and, exported, with asciinema: at each
// prompt, what they have printed makes the screen that berth shows.
func comparePlayers(t *testing.T, p *person, id, cast string) {
	t.Helper()
	const prompt = "demo$ "
	screens := func(output string) (seen []string) {
		s := replay.NewScreen()
		defer s.Close()
		s.Feed(state.RecordingEvent{Cols: 100, Rows: 30}) // the size it ends with
		for part := range strings.SplitAfterSeq(output, prompt) {
			s.Feed(state.RecordingEvent{Data: []byte(part)})
			seen = append(seen, strings.Join(s.Text(), "\n"))
		}
		return seen
	}
	var berth strings.Builder
	var pieces []string
	for line := range strings.SplitSeq(strings.TrimSpace(p.berth("recording", "events", id, "--json")), "\n") {
		var ev replay.JSONEvent
		if err := json.Unmarshal([]byte(line), &ev); err != nil {
			t.Fatal(err)
		}
		berth.WriteString(ev.Output)
		pieces = append(pieces, ev.Output)
	}
	want := screens(berth.String())
	if len(want) < 8 {
		t.Errorf("the recording has only %d prompts", len(want))
	}
	for _, player := range []struct{ argv, prints []string }{
		{[]string{filepath.Join(lab.bin, "tsh"), "play", "--format=pty", id}, pieces},
		// An export lacks what only a terminal would obey: its screens alone are compared.
		{[]string{"asciinema", "play", "-i", "0.1", cast}, nil},
	} {
		cmd := exec.Command(player.argv[0], player.argv[1:]...)
		cmd.Env = append(p.env(p.tshHome), "TERM=xterm-256color")
		s := onScreen(t, cmd)
		s.end()
		output := s.text()
		rest, found := output, true // tsh sets titles between the pieces
		for _, piece := range player.prints {
			if _, rest, found = strings.Cut(rest, piece); !found {
				t.Errorf("%s does not print %q, or not in its place", player.argv[0], piece)
				break
			}
		}
		got := screens(output)
		if len(got) != len(want) {
			t.Errorf("%s prints %d prompts, want %d", player.argv[0], len(got), len(want))
			continue
		}
		for i := range want {
			if strings.TrimSpace(got[i]) != strings.TrimSpace(want[i]) {
				t.Errorf("at prompt %d the screen of %s shows\n%s\nberth's\n%s", i, player.argv[0], got[i], want[i])
			}
		}
	}
}

// TestRecordings makes a session of each kind with tsh and finds them again: in the
// list, as text, as queries and as an asciicast.
func TestRecordings(t *testing.T) {
	tp := startSSHCluster(t)
	p := newPersonAt(t, tp, roleRecorded)
	p.login()
	p.startAgent()
	p.sshSession(2 * time.Second)
	p.psqlSession()
	p.execSession()
	ended := time.Now()

	found := make(map[string]state.Recording)
	err := until(t.Context(), time.Minute, 500*time.Millisecond, func() error {
		var list struct {
			Recordings []state.Recording `json:"recordings"`
		}
		if err := json.Unmarshal([]byte(p.berth("recording", "ls", "--since", "1h", "--json")), &list); err != nil {
			return err
		}
		clear(found)
		for _, r := range list.Recordings {
			if !r.Live {
				found[r.Kind] = r
			}
		}
		if len(found) != 3 {
			return fmt.Errorf("listed are %+v", list.Recordings)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("all three are listed %s after the last one ended:\n%s", time.Since(ended).Round(100*time.Millisecond), p.berth("recording", "ls", "--since", "1h"))

	t.Run("ssh", func(t *testing.T) {
		text := p.berth("recording", "cat", found["ssh"].ID)
		for _, want := range []string{"truecolour", "│ héllo │ 漢字 🚀", "after the pause: 42"} {
			if !strings.Contains(text, want) {
				t.Errorf("the text has no %q:\n%s", want, text)
			}
		}
		if strings.Contains(text, "\x1b") {
			t.Errorf("the text has escape sequences: %q", text)
		}
		cast := filepath.Join(p.dir, "ssh.cast")
		p.berth("recording", "export", found["ssh"].ID, "--as", "asciicast", "-o", cast)
		raw, err := os.ReadFile(cast)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
		last := 0.0
		resized := false
		for i, line := range lines[1:] {
			var ev [3]any
			if err := json.Unmarshal([]byte(line), &ev); err != nil {
				t.Fatalf("line %d: %v: %s", i+2, err, line)
			}
			at, _ := ev[0].(float64)
			if at < last {
				t.Errorf("line %d: %v comes after %v", i+2, at, last)
			}
			last = at
			resized = resized || ev[1] == "r" && ev[2] == "100x30"
		}
		if last < 4 || !resized {
			t.Errorf("it is %.1f s long, resized to 100x30: %v; want the pauses and the resize", last, resized)
		}
		comparePlayers(t, p, found["ssh"].ID, cast)
		if r := p.tryBerth("recording", "export", found["ssh"].ID, "--as", "txt", "-o", cast); r.code == 0 || !strings.Contains(r.err, "ssh.cast") {
			t.Errorf("a file that is there: exit code %d, %s", r.code, r.err)
		}
	})
	t.Run("html", func(t *testing.T) {
		for kind, r := range found {
			page := filepath.Join(p.dir, kind+".html")
			p.berth("recording", "export", r.ID, "--as", "html", "-o", page)
			raw, err := os.ReadFile(page)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(raw), r.ID) || !strings.Contains(string(raw), "application/x-recording") {
				t.Errorf("the page of the %s session has no recording", kind)
			}
		}
	})
	t.Run("db", func(t *testing.T) {
		text := p.berth("recording", "events", found["db"].ID)
		for _, want := range []string{"select 40+2 as answer", "select * from nowhere"} {
			if !strings.Contains(text, want) {
				t.Errorf("the events have no %q:\n%s", want, text)
			}
		}
	})
	t.Run("kube", func(t *testing.T) {
		if text := p.berth("recording", "cat", found["kube"].ID); !strings.Contains(text, "in the pod") {
			t.Errorf("the text is %q", text)
		}
	})
	t.Run("not_allowed", func(t *testing.T) {
		blind := newPersonAt(t, tp, roleNoList)
		blind.login()
		blind.startAgent()
		r := blind.tryBerth("recording", "ls", "--since", "1h")
		if said := r.out + r.err; strings.Contains(said, found["ssh"].ID[:8]) || !strings.Contains(said, "role") {
			t.Errorf("who may list nothing reads (exit code %d):\n%s", r.code, said)
		}
	})
}
