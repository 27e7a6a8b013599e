package selftest

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"berth/agent/state"
	"berth/internal/testneeds"
)

func TestScrub(t *testing.T) {
	dir := filepath.Join("/var/tmp", "berth-selftest-1")
	s := scrubberOf(dir, "/data/private/bin", []string{"/home/jane", "/srv/jane"}, "jane", "desk-7", []string{"DB_PASSWORD=hunter2hunter2"})
	for in, want := range map[string]string{
		"open /home/jane/.config/x: no":                          "open HOME/.config/x: no",
		"start /data/private/bin/berth in /srv/jane/x":           "start BIN/berth in HOME/x",
		dir + "/berth/agent.log of jane@desk-7":                  "TEMP/berth/agent.log of NAME@NAME",
		"JANE is not janet":                                      "NAME is not janet",
		`\\.\pipe\berth-S-1-5-21-1004336348-1177238915-512-1001`: `\\.\pipe\berth-SID`,
		"it said hunter2hunter2":                                 "it said REMOVED",
		"two\nlines\x1b[2J":                                      "two lines",
		"berth is berth":                                         "berth is berth",
	} {
		if got := s.text(in); !strings.HasPrefix(got, want) {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
	if got := scrubberOf(dir, "", nil, "berth", "", nil).text("berth runs"); got != "berth runs" {
		t.Errorf("the program's name became %q", got)
	}
}

// conversation is a server that has said everything already.
type conversation struct {
	io.Reader
	io.Writer
}

func TestQueries(t *testing.T) {
	const loggedIn = "R\x00\x00\x00\x08\x00\x00\x00\x00Z\x00\x00\x00\x05I"
	for name, c := range map[string]struct {
		protocol, says, wrong string
	}{
		"redis":                {"redis", "+PONG\r\n", ""},
		"redis_wants_password": {"redis", "-NOAUTH\r\n", "-NOAUTH"},
		"mysql":                {"mysql", "\x4a\x00\x00\x00\x0a8.0", ""},
		"mysql_refuses":        {"mysql", "\x4a\x00\x00\x00\xff\x10", "protocol 255"},
		"mysql_hangs_up":       {"mysql", "", "EOF"},
		"postgres":             {"postgres", loggedIn + "D\x00\x00\x00\x06\x00\x01Z\x00\x00\x00\x05I", ""},
		"postgres_no_row":      {"postgres", loggedIn + "Z\x00\x00\x00\x05I", "0 rows"},
		"postgres_refuses":     {"postgres", "E\x00\x00\x00\x0cMdenied\x00", "denied"},
		"postgres_huge":        {"postgres", "R\xff\xff\xff\xff", "bytes"},
		"postgres_negative":    {"postgres", "R\x00\x00\x00\x01", "bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			var sent bytes.Buffer
			err := queries[c.protocol](conversation{strings.NewReader(c.says), &sent}, state.Tunnel{})
			switch {
			case c.wrong == "" && err != nil:
				t.Error(err)
			case c.wrong != "" && (err == nil || !strings.Contains(err.Error(), c.wrong)):
				t.Errorf("the error is %v, want one with %q", err, c.wrong)
			}
		})
	}
}

func FuzzUntilReady(f *testing.F) {
	f.Add([]byte("D\x00\x00\x00\x06\x00\x01Z\x00\x00\x00\x05I"))
	f.Fuzz(func(_ *testing.T, says []byte) {
		_, _ = untilReady(bufio.NewReader(bytes.NewReader(says))) // whatever it is, it ends
	})
}

func TestFindDemo(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	dir, links := t.TempDir(), t.TempDir()
	program := filepath.Join(dir, "berth")
	if got := FindDemo(program); got != "" {
		t.Errorf("found %q where there is none", got)
	}
	demo := filepath.Join(dir, "berth-demo")
	for _, path := range []string{program, demo} {
		if err := os.WriteFile(path, nil, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	link := filepath.Join(links, "berth")
	testneeds.Here(t, "links", os.Symlink(program, link))
	for _, called := range []string{program, link} {
		got, err := filepath.EvalSymlinks(FindDemo(called))
		if want, _ := filepath.EvalSymlinks(demo); err != nil || got != want {
			t.Errorf("beside %s found %q (%v)", called, got, err)
		}
	}
}

// TestEnviron: what is started here is led away from the user's own berth.
func TestEnviron(t *testing.T) {
	r := &run{dir: "/d", Config: Config{Environ: []string{"PATH=/bin", "BERTH_HOME=/mine", "TELEPORT_HOME=/tsh", "NOTIFY_SOCKET=/n", "LISTEN_FDS=3"}}}
	if got, want := strings.Join(r.environ(), " "), "PATH=/bin BERTH_HOME="+filepath.Join("/d", "berth"); got != want {
		t.Errorf("the environment is %q, want %q", got, want)
	}
	r.ownConfig = true
	if want := "XDG_CONFIG_HOME=" + filepath.Join("/d", "config"); !slices.Contains(r.environ(), want) {
		t.Errorf("the environment is %q, without %s", r.environ(), want)
	}
}

// TestOwns: what calls itself berth-demo cannot lead the test to another berth.
func TestOwns(t *testing.T) {
	r := &run{dir: t.TempDir()}
	inside, outside := filepath.Join(r.dir, "demo"), t.TempDir()
	if err := os.Mkdir(inside, 0o700); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]bool{
		inside: true, r.dir: false, outside: false, "": false, filepath.Join(inside, "..", "..", filepath.Base(outside)): false,
	} {
		if got := r.owns(dir); got != want {
			t.Errorf("%q is the test's own: %t, want %t", dir, got, want)
		}
	}
	link := filepath.Join(r.dir, "link")
	testneeds.Here(t, "links", os.Symlink(outside, link))
	if r.owns(link) {
		t.Error("a link to another folder is the test's own")
	}
}

func TestForbidden(t *testing.T) {
	s := state.Snapshot{Tunnels: []state.Tunnel{{Problem: &state.Problem{Code: state.CodeLoginNeeded, Text: "log in"}}}}
	if why := forbidden(s); why != "" {
		t.Errorf("a missing login is a policy: %q", why)
	}
	s.Tunnels[0].Problem = &state.Problem{Code: state.CodeProxyForbidden, Text: "the proxy is not allowed by it.yaml"}
	if why := forbidden(s); !strings.Contains(why, "policy") || !strings.Contains(why, "it.yaml") {
		t.Errorf("a policy is in the way: %q", why)
	}
}

func TestComplaint(t *testing.T) {
	var said tail
	_, _ = io.WriteString(&said, "berth: no room\nberth: hint: make some\n")
	if v := failed(said.error(), "else"); v.text != "no room" || v.next != "make some" {
		t.Errorf("the complaint is %+v", v)
	}
	_, _ = said.Write(bytes.Repeat([]byte{'x'}, 3*tailSize))
	if len(said.text()) > tailSize {
		t.Errorf("%d bytes were kept", len(said.text()))
	}
}
