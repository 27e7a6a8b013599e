//go:build e2e && linux

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/internal/pty/ptytest"
	"berth/internal/simcluster/simkube"
)

// The roles of the journeys with recordings.
const (
	roleRecorded = "recorded"       // SSH and databases, and every recording
	roleOwnOnly  = "recorded-own"   // the same, and only their own recordings, as the preset role "access"
	roleNoList   = "recorded-blind" // the same, and no recording
)

func recordingRoles() []string {
	who := "nobody"
	if u, err := user.Current(); err == nil {
		who = u.Username
	}
	role := func(name, rules string) string {
		return `kind: role
version: v7
metadata: {name: ` + name + `}
spec:
  options: {max_session_ttl: 12h}
  allow:
    logins: [` + who + `]
    node_labels: {'*': '*'}
    db_labels: {'*': '*'}
    db_users: [app, tester]
    db_names: [appdb]
    kubernetes_labels: {'*': '*'}
    kubernetes_resources: [{kind: '*', namespace: '*', name: '*', verbs: ['*']}]
    kubernetes_groups: [system:masters]
` + rules
	}
	return []string{
		role(roleRecorded, "    rules: [{resources: [session], verbs: [list, read]}]\n"),
		role(roleOwnOnly, "    rules: [{resources: [session], verbs: [list, read], where: 'contains(session.participants, user.metadata.name)'}]\n"),
		role(roleNoList, ""),
	}
}

// startSSHCluster starts a cluster with an SSH server, which records.
func startSSHCluster(t *testing.T) *teleport {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	tp := startAnother(t, func(cfg *teleportConfig) {
		cfg.ssh = true
		cfg.kubes, cfg.kubeconfig = []string{kubeProd}, lab.kubeconfig()
	})
	if err := tp.apply(ctx, strings.Join(recordingRoles(), "---\n")); err != nil {
		t.Fatal(err)
	}
	return tp
}

// screen is a program on a terminal whose output is kept.
type screen struct {
	t    *testing.T
	tty  *os.File
	done chan error

	mu  sync.Mutex
	out []byte
}

// onScreen starts a command on a terminal of 80 by 24.
func onScreen(t *testing.T, cmd *exec.Cmd) *screen {
	t.Helper()
	tty, err := ptytest.Start(cmd, &ptytest.Size{Columns: 80, Rows: 24})
	if err != nil {
		t.Fatal(err)
	}
	s := &screen{t: t, tty: tty, done: make(chan error, 1)}
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := tty.Read(buf)
			s.mu.Lock()
			s.out = append(s.out, buf[:n]...)
			s.mu.Unlock()
			if err != nil { // EIO: the other end is closed
				s.done <- cmd.Wait()
				return
			}
		}
	}()
	t.Cleanup(func() { _ = tty.Close() }) // it has ended
	return s
}

func (s *screen) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.out)
}

// await waits until the program has printed a text.
func (s *screen) await(text string) {
	s.t.Helper()
	err := until(s.t.Context(), 30*time.Second, 20*time.Millisecond, func() error {
		if !strings.Contains(s.text(), text) {
			return fmt.Errorf("no %q on the screen", text)
		}
		return nil
	})
	if err != nil {
		s.t.Fatalf("%v:\n%q", err, s.text())
	}
}

// rest leaves the terminal alone for a time.
func (s *screen) rest(d time.Duration) { sleepUntil(s.t.Context(), time.Now().Add(d)) }

// send types.
func (s *screen) send(keys string) {
	s.t.Helper()
	if _, err := s.tty.WriteString(keys); err != nil {
		s.t.Fatal(err)
	}
}

// end waits for the program's end.
func (s *screen) end() {
	s.t.Helper()
	select {
	case err := <-s.done:
		if err != nil {
			s.t.Fatalf("%v:\n%q", err, s.text())
		}
	case <-time.After(30 * time.Second):
		s.t.Fatalf("it does not end:\n%q", s.text())
	}
}

// sshSession is an interactive session with colours, an editor, another size,
// text that is not ASCII, and a pause.
func (p *person) sshSession(pause time.Duration) {
	t := p.t
	t.Helper()
	who, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(lab.bin, "tsh"), "ssh", who.Username+"@e2e")
	cmd.Env = append(p.env(p.tshHome), "TERM=xterm-256color")
	s := onScreen(t, cmd)
	step := func(line, see string) {
		s.send(line + "\r")
		s.await(see)
		s.rest(300 * time.Millisecond) // for the recording to have a pace
	}
	s.rest(2 * time.Second) // a shell's first prompt may be anything
	step(`PS1='demo$ '; unset PROMPT_COMMAND; set +o history; cd "$(mktemp -d)"; clear`, "demo$ ")
	step(`printf '\033[1;31mred\033[0m \033[32mgreen\033[0m \033[38;5;208morange\033[0m \033[38;2;90;120;250mtruecolour\033[0m%s\n' .`, "truecolour\x1b[0m.")
	step(`printf '┌──────┐\n│ héllo │ 漢字 🚀\n└──────┘\n%s\n' art-done`, "art-done\r")
	step(`printf 'first line\nsecond line\nthe needle is here\n' > notes.txt; echo written-$((40+2))`, "written-42")
	s.send("vim -u NONE -n notes.txt\r")
	s.await("3 lines, 42 bytes")
	s.rest(500 * time.Millisecond)
	s.send("Gofrom vim\x1b")
	s.rest(300 * time.Millisecond)
	s.send(":wq\r")
	s.await("\x1b[?1049l")
	s.rest(time.Second) // what is typed before the shell is back would be lost
	step("cat notes.txt; echo after-$((1+1))vim", "after-2vim")
	if err := ptytest.Resize(s.tty, ptytest.Size{Columns: 100, Rows: 30}); err != nil {
		t.Fatal(err)
	}
	s.rest(500 * time.Millisecond)
	step("stty size", "30 100")
	s.rest(pause)
	step("echo after the pause: $((6*7))", "pause: 42")
	s.send("exit\r")
	s.end()
}

// psqlSession asks a database twice, once in vain.
func (p *person) psqlSession() {
	t := p.t
	t.Helper()
	cmd := exec.Command(filepath.Join(lab.bin, "tsh"), "db", "connect", "--db-user=app", "--db-name=appdb", "pg")
	cmd.Env = append(p.env(p.tshHome), "TERM=xterm", "PAGER=cat")
	s := onScreen(t, cmd)
	s.await("=>")
	s.send("select 40+2 as answer;\r")
	s.await("42")
	s.send("select * from nowhere;\r")
	s.await("does not exist")
	s.send("\\q\r")
	s.end()
}

// execSession runs a command in a pod.
func (p *person) execSession() {
	t := p.t
	t.Helper()
	env := append(p.env(p.tshHome), "KUBECONFIG="+filepath.Join(p.dir, "kubeconfig"), "TERM=xterm")
	tsh := filepath.Join(lab.bin, "tsh")
	if _, err := mustRun(t.Context(), env, "", tsh, "kube", "login", kubeProd); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(tsh, "kube", "exec", "--stdin", "--tty", simkube.PodWeb, "--", "sh", "-c", "echo in the pod")
	cmd.Env = env
	s := onScreen(t, cmd)
	s.end()
}
