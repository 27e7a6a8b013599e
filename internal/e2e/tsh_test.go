//go:build e2e && linux

package e2e

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"berth/internal/pty/ptytest"
)

// person is a Teleport user at a machine of their own: a TELEPORT_HOME, a
// BERTH_HOME, and perhaps a running agent.
type person struct {
	t        *testing.T
	at       *teleport
	name     string
	password string
	dir      string
	tshHome  string
	agent    *proc
	via      string   // where the proxy is for this machine; empty means where it is
	more     []string // more of berth's environment
}

var people atomic.Int64

// newPerson makes a user with the roles, and a machine.
func newPerson(t *testing.T, roles ...string) *person {
	t.Helper()
	return newPersonAt(t, lab.teleport, roles...)
}

// newPersonAt makes a user of a cluster with the roles, and a machine.
func newPersonAt(t *testing.T, at *teleport, roles ...string) *person {
	t.Helper()
	p := &person{t: t, at: at, name: fmt.Sprintf("user%d", people.Add(1)), password: "correct-horse-battery-staple"}
	p.dir = filepath.Join(lab.dir, p.name)
	p.tshHome = filepath.Join(p.dir, "tsh")
	if err := os.MkdirAll(p.berthHome(), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := at.addUser(t.Context(), p.name, p.password, roles...); err != nil {
		t.Fatal(err)
	}
	return p
}

// proxy is the proxy's address as the person's machine knows it.
func (p *person) proxy() string { return cmp.Or(p.via, p.at.addr()) }

func (p *person) berthHome() string { return filepath.Join(p.dir, "berth") }

// env is the environment of the person's terminal. The proxy's web CA is
// known to tsh alone; berth is told in its config.
func (p *person) env(tshHome string) []string { return p.shell().env(tshHome) }

func (p *person) shell() shell {
	return shell{tsh: filepath.Join(lab.bin, "tsh"), caFile: lab.webCA.file, dir: p.dir}
}

// shell runs a tsh, the real one or a fake one.
type shell struct {
	tsh    string // its path
	caFile string // of the proxy's web certificate
	dir    string // HOME
}

func (s shell) env(tshHome string) []string {
	return environment("HOME="+s.dir, "TELEPORT_HOME="+tshHome, "SSL_CERT_FILE="+s.caFile,
		"TELEPORT_TOOLS_VERSION=off", "TELEPORT_LOGIN_BROWSER=none")
}

// login logs in for real, in the person's own home.
func (p *person) login(args ...string) {
	p.t.Helper()
	p.loginIn(p.tshHome, args...)
}

// loginIn runs "tsh login" on a terminal and types the password.
func (p *person) loginIn(tshHome string, args ...string) {
	p.t.Helper()
	if err := p.tryLoginIn(p.t.Context(), tshHome, args...); err != nil {
		p.t.Fatal(err)
	}
}

// tryLoginIn is loginIn where it may fail.
func (p *person) tryLoginIn(ctx context.Context, tshHome string, args ...string) error {
	args = append([]string{"login", "--proxy=" + p.at.addr(), "--user=" + p.name, "--auth=local"}, args...)
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	screen, code, err := p.shell().onTerminal(ctx, tshHome, passwordPrompt, p.password, args...)
	if err != nil || code != 0 {
		return fmt.Errorf("tsh %q: exit code %d, %w\n%s", args, code, err, screen)
	}
	return nil
}

const passwordPrompt = "Enter password for Teleport user"

// onTerminal runs tsh on a terminal of its own and types answer when it asks
// the question. It returns all that appeared there.
func (s shell) onTerminal(ctx context.Context, tshHome, question, answer string, args ...string) (string, int, error) {
	cmd := exec.CommandContext(ctx, s.tsh, args...)
	cmd.Env = s.env(tshHome)
	return onTerminal(ctx, cmd, question, answer)
}

// onTerminal runs a command on a terminal of its own and types answer when it
// asks the question. It returns all that appeared there.
func onTerminal(ctx context.Context, cmd *exec.Cmd, question, answer string) (string, int, error) {
	terminal, err := ptytest.Start(cmd, nil)
	if err != nil {
		return "", -1, err
	}
	defer terminal.Close()
	var screen bytes.Buffer
	buf := make([]byte, 4096)
	asked := false
	for err == nil { // it ends with EIO: the other end is closed
		var n int
		n, err = terminal.Read(buf)
		screen.Write(buf[:n])
		if !asked && strings.Contains(screen.String(), question) {
			asked = true
			if err := echoIsOff(ctx, terminal); err != nil {
				return screen.String(), -1, errors.Join(err, cmd.Process.Kill(), cmd.Wait())
			}
			if _, err := terminal.WriteString(answer + "\r"); err != nil {
				return screen.String(), -1, errors.Join(err, cmd.Wait())
			}
		}
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) && ctx.Err() == nil {
		err = nil // the code says it
	}
	if err == nil && !asked {
		err = fmt.Errorf("it did not ask %q", question)
	}
	return screen.String(), cmd.ProcessState.ExitCode(), err
}

// echoIsOff waits until a terminal shows no longer what is typed: tsh asks
// first and turns the echo off a moment later.
func echoIsOff(ctx context.Context, terminal *os.File) error {
	raw, err := terminal.SyscallConn()
	if err != nil {
		return err
	}
	return until(ctx, 5*time.Second, time.Millisecond, func() error {
		var mode *unix.Termios
		var modeErr error
		if err := raw.Control(func(fd uintptr) { mode, modeErr = unix.IoctlGetTermios(int(fd), unix.TCGETS) }); err != nil {
			return err
		}
		if modeErr == nil && mode.Lflag&unix.ECHO != 0 {
			modeErr = errors.New("the password would be seen")
		}
		return modeErr
	})
}

// tsh runs tsh without a terminal; it has to exit 0.
func (p *person) tsh(args ...string) string {
	p.t.Helper()
	out, err := mustRun(p.t.Context(), p.env(p.tshHome), "", filepath.Join(lab.bin, "tsh"), args...)
	if err != nil {
		p.t.Fatal(err)
	}
	return out
}

// logout removes all of tsh's profiles.
func (p *person) logout() {
	p.t.Helper()
	p.tsh("logout")
}

// startTSHTunnel starts "tsh proxy db --tunnel" and returns its address.
func (p *person) startTSHTunnel(args ...string) (addr string) {
	p.t.Helper()
	cmd := exec.Command(filepath.Join(lab.bin, "tsh"), append([]string{"proxy", "db", "--tunnel"}, args...)...)
	cmd.Env = p.env(p.tshHome)
	child, err := startProc("tsh proxy db", filepath.Join(p.dir, "tsh-proxy.log"), cmd)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		if err := child.stop(syscall.SIGTERM, 5*time.Second); err != nil {
			p.t.Error(err)
		}
	})
	address := regexp.MustCompile(`on (127\.0\.0\.1:\d+)`)
	err = until(p.t.Context(), 20*time.Second, 50*time.Millisecond, func() error {
		log, err := os.ReadFile(child.log)
		if err != nil {
			return err
		}
		found := address.FindSubmatch(log)
		if found == nil {
			return fmt.Errorf("it names no address yet")
		}
		addr = string(found[1])
		return nil
	})
	if err != nil {
		p.t.Fatalf("tsh proxy db: %v\n%s", err, child.tail())
	}
	return addr
}

// files lists what is below dir: path, mode, and nothing of the content.
func files(dir string) (map[string]os.FileMode, error) {
	found := make(map[string]os.FileMode)
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		found[rel] = info.Mode()
		return err
	})
	return found, err
}

// install moves the files of a login made in a staging home into the person's
// home, each by a temporary file and a rename: CAs first if they differ, then
// keys and certificates, then the profile. It returns when the last of the
// credentials was in place.
func (p *person) install(staged string) (installed time.Time) {
	p.t.Helper()
	keys := filepath.Join("keys", "127.0.0.1")
	required := []string{
		filepath.Join(keys, p.name),
		filepath.Join(keys, p.name+".pub"),
		filepath.Join(keys, p.name+"-x509.pem"),
		filepath.Join(keys, p.name+"-ssh", lab.teleport.cfg.cluster+"-cert.pub"),
	}
	if _, err := os.Stat(filepath.Join(staged, keys, p.name+".crt")); err == nil { // v17's layout
		required = append([]string{filepath.Join(keys, p.name+".key"), filepath.Join(keys, p.name+".crt")},
			required[0], required[1], required[3])
	}
	ifDiffers := []string{
		filepath.Join(keys, "cas", lab.teleport.cfg.cluster+".pem"), filepath.Join(keys, "certs.pem"), "known_hosts",
	}
	for _, rel := range ifDiffers {
		p.move(staged, rel, false)
	}
	for _, rel := range required {
		p.move(staged, rel, true)
	}
	installed = time.Now()
	for _, rel := range []string{"127.0.0.1.yaml", "current-profile"} {
		p.move(staged, rel, false)
	}
	// What was signed for the old key is of no use any more.
	for _, suffix := range []string{"-db", "-kube", "-app"} {
		if err := os.RemoveAll(filepath.Join(p.tshHome, keys, p.name+suffix)); err != nil {
			p.t.Fatal(err)
		}
	}
	return installed
}

// move installs one staged file; unless always is set, only if it differs.
func (p *person) move(staged, rel string, always bool) {
	p.t.Helper()
	content, err := os.ReadFile(filepath.Join(staged, rel))
	if err != nil {
		p.t.Fatal(err)
	}
	target := filepath.Join(p.tshHome, rel)
	if there, err := os.ReadFile(target); err == nil && bytes.Equal(there, content) && !always {
		return
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
		p.t.Fatal(err)
	}
	temp, err := os.CreateTemp(filepath.Dir(target), ".install-*") // 0600
	if err != nil {
		p.t.Fatal(err)
	}
	w := bufio.NewWriter(temp)
	_, err = w.Write(content)
	for _, step := range []func() error{w.Flush, temp.Sync, temp.Close} {
		if err == nil {
			err = step()
		}
	}
	if err == nil {
		err = os.Rename(temp.Name(), target)
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

// stagedLogin logs in to a home of its own and installs the result.
func (p *person) stagedLogin(args ...string) (installed time.Time) {
	p.t.Helper()
	staging, err := os.MkdirTemp(p.dir, "staging-")
	if err != nil {
		p.t.Fatal(err)
	}
	defer os.RemoveAll(staging)
	p.loginIn(staging, append(args, "--add-keys-to-agent=no")...)
	return p.install(staging)
}
