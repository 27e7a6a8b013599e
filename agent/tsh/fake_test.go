package tsh

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/term"

	"berth/internal/simcluster/faketsh"
	"berth/internal/testneeds"
	"berth/internal/testwait"
)

// The test binary plays tsh, and an agent that can be killed. It is started by a name
// of this prefix and the part to play, and leaves its notes in the folder of that name.
const fakePrefix = "fake-"

// tapWords are what tsh says when it wants a security key, and pinWords of one that wants
// its PIN.
const (
	tapWords = "Tap any security key"
	pinWords = tapWords + "\nDetected security key tap\nEnter your security key PIN:\n"
)

func TestMain(m *testing.M) {
	if part, ok := strings.CutPrefix(strings.TrimSuffix(filepath.Base(os.Args[0]), ".exe"), fakePrefix); ok {
		os.Exit(play(part))
	}
	// RSA takes a child a second.
	for key, value := range map[string]string{"BERTH_FAKE_TSH_KEY": "ecdsa", "GORACE": testneeds.RaceOptions} {
		if err := os.Setenv(key, value); err != nil {
			panic(err)
		}
	}
	testwait.ManyAtOnce()
	testwait.NoLeaks(m)
}

func play(part string) int {
	note("args", strings.Join(os.Args[1:], "\n")+"\n")
	note("env", strings.Join(os.Environ(), "\n")+"\n")
	note("runs", "x")
	switch part {
	case "serve":
		return serveDB(echo)
	case "stubborn":
		signal.Ignore(syscall.SIGTERM)
		return serveDB(echo)
	case "notes_clients": // and says something once it may
		return serveDB(func(c net.Conn) {
			note("clients", "x")
			awaitNote("speak")
			fmt.Fprint(c, "hello")
			echo(c)
		})
	case "closes_at_once":
		return serveDB(func(c net.Conn) { _ = c.Close() })
	case "speaks_first":
		return serveDB(func(c net.Conn) { fmt.Fprint(c, "hello"); echo(c) })
	case "exits":
		fmt.Fprintln(os.Stderr, "\x1b[31mERROR: \x1b[0mdatabase \"nope\" not found in cluster")
		return 1
	case "exits_after_banner":
		if _, code := listenDB(); code != 0 {
			return code
		}
		fmt.Fprintln(os.Stderr, "\x1b[31mERROR: \x1b[0maccess to resource requires MFA")
		return 1
	case "flaky": // the first two runs fail
		if len(notes("runs")) <= 2 {
			fmt.Fprintln(os.Stderr, "ERROR: not yet")
			return 1
		}
		return serveDB(echo)
	case "port_is_taken": // the first two runs find it so, by one that speaks first
		if len(notes("runs")) > 2 {
			return serveDB(echo)
		}
		ln, err := net.Listen("tcp4", "127.0.0.1:"+flagOf("--port="))
		if err == nil {
			go func() {
				for c, err := ln.Accept(); err == nil; c, err = ln.Accept() {
					fmt.Fprint(c, "hello")
				}
			}()
			_, err = net.Listen("tcp4", ln.Addr().String())
		}
		fmt.Fprintln(os.Stderr, "ERROR:", err)
		testwait.Moment() // it takes its time to end
		return 1
	case "fails_later": // the first run is well, the others are not
		if len(notes("runs")) > 1 {
			fmt.Fprintln(os.Stderr, "ERROR: no longer")
			return 1
		}
		return serveDB(echo)
	case "login":
		return faketsh.Main(os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr)
	case "console", "console_echo":
		return playConsole(part == "console_echo")
	case "shows_secrets": // asks without turning echo off
		fmt.Fprint(os.Stderr, "Enter password for Teleport user alice:")
		return hang()
	case "asks_and_is_killed", "requests_and_is_killed":
		if part == "requests_and_is_killed" {
			fmt.Println("Waiting for request approval...")
		}
		fmt.Fprintln(os.Stderr, "Enter password for Teleport user alice:")
		if self, err := os.FindProcess(os.Getpid()); err == nil {
			_ = self.Kill()
		}
		return hang()
	case "aborts", "is_killed":
		kill := map[string]string{"aborts": "ABRT", "is_killed": "KILL"}[part]
		err := syscall.Exec("/bin/sh", []string{"sh", "-c", "echo Library not loaded >&2; kill -" + kill + " $$"}, os.Environ())
		fmt.Fprintln(os.Stderr, "ERROR:", err)
		return 1
	case "asks_unfinished":
		fmt.Fprintln(os.Stderr, "Shall I?")
		fmt.Fprint(os.Stderr, "\x1b[1mTap any security key or enter a code from a OTP device:\x1b[0m ")
		return hang()
	case "hangs":
		return hang()
	case "waits_for_approval":
		fmt.Println("Creating request...\nWaiting for request approval...")
		return hang()
	case "is_not_approved":
		fmt.Println("Waiting for request approval...")
		fmt.Fprintln(os.Stderr, `ERROR: request 0192f6c7 has been set to DENIED, reason="not today"`)
		return 1
	case "garbage":
		for i := range 300 {
			fmt.Print(strings.Repeat("\x00\xff\x1b[2J", 2000+i))
		}
		fmt.Println()
		fmt.Fprintln(os.Stderr, "confused")
		return hang()
	case "asks_pin_first_client": // as tsh does when it listens before it has a cert
		ask := sync.OnceFunc(func() { fmt.Fprint(os.Stderr, pinWords) })
		return serveDB(func(c net.Conn) {
			ask()
			echo(c)
		})
	case "wants_pin_each_client":
		return serveDB(func(c net.Conn) {
			if wantPIN() {
				echo(c)
			}
		})
	case "wants_pin_first_run": // once a client has said something; it never listens in its other runs
		if len(notes("runs")) > 1 {
			return hang()
		}
		return serveDB(func(c net.Conn) { echoAfter(c, wantPIN) })
	case "taps_unheard": // its later runs before they listen, the first one for a client that is new by then
		wantTap := func() bool {
			if len(notes("runs")) > 1 {
				fmt.Fprintln(os.Stderr, tapWords)
				hang()
			}
			return true
		}
		wantTap()
		return serveDB(func(c net.Conn) { echoAfter(c, wantTap) })
	case "taps_for_client": // once it has said something, and waits
		return serveDB(func(c net.Conn) {
			echoAfter(c, func() bool {
				fmt.Fprintln(os.Stderr, tapWords)
				hang()
				return false
			})
		})
	case "taps_listening":
		return serveDB(func(net.Conn) { hang() }, tapWords)
	case "taps":
		fmt.Fprintln(os.Stderr, tapWords)
		awaitNote("tapped")
		return serveDB(echo)
	case "parent", "parent_that_leaves":
		child := exec.Command(os.Args[0])
		child.Args[0] = filepath.Join(filepath.Dir(os.Args[0]), fakePrefix+"orphan")
		child.Stdout, child.Stderr = os.Stdout, os.Stderr // keeps the pipes open
		if err := child.Start(); err != nil {
			return 1
		}
		note("grandchild", fmt.Sprint(child.Process.Pid))
		if part == "parent_that_leaves" {
			return 1
		}
		return serveDB(echo)
	case "orphan":
		signal.Ignore(syscall.SIGTERM)
		return hang()
	case "agent":
		return playAgent()
	case "version_json":
		if !contains(os.Args, "--format=json") || !contains(os.Args, "--client") {
			return 2
		}
		fmt.Println(`{"version":"17.2.1","gitref":"v17.2.1-0-gabc","runtime":"go1.23.4"}`)
		return 0
	case "version_text":
		if contains(os.Args, "--format=json") {
			fmt.Fprintln(os.Stderr, "ERROR: unknown long flag '--format'")
			return 1
		}
		fmt.Println("Teleport v13.4.26 git:v13.4.26-0-g1 go1.21.10")
		return 0
	case "prints_and_fails":
		fmt.Println(`{"active":null}`)
		fmt.Fprintln(os.Stderr, "\x1b[31mERROR: \x1b[0mActive profile expired.")
		return 1
	case "reads_stdin":
		n, err := io.Copy(io.Discard, os.Stdin)
		fmt.Println(n, err)
		return 0
	}
	panic("no such part: " + part)
}

func hang() int {
	testwait.Hang()
	return 0
}

// listenDB listens at the address it was given and says so as tsh does, and in one go
// what it asks at once.
func listenDB(asks ...string) (_ net.Listener, code int) {
	ln, err := net.Listen("tcp4", "127.0.0.1:"+flagOf("--port="))
	if err != nil {
		fmt.Fprintln(os.Stderr, "ERROR:", err)
		return nil, 1
	}
	listens := fmt.Sprintf("Started authenticated tunnel for the PostgreSQL database %q in cluster \"ref.test\" on %s.",
		os.Args[len(os.Args)-1], ln.Addr())
	fmt.Println(strings.Join(append([]string{listens}, asks...), "\n"))
	return ln, 0
}

// flagOf is what follows name among the arguments.
func flagOf(name string) string {
	for _, a := range os.Args {
		if value, ok := strings.CutPrefix(a, name); ok {
			return value
		}
	}
	return ""
}

// serveDB serves each connection, after what tsh asks at once.
func serveDB(serve func(net.Conn), asks ...string) int {
	ln, code := listenDB(asks...)
	if code != 0 {
		return code
	}
	for {
		conn, err := ln.Accept()
		if err != nil {
			return 1
		}
		go serve(conn)
	}
}

// wantPIN asks for a PIN, for one client after the other.
func wantPIN() bool {
	oneKey.Lock()
	defer oneKey.Unlock()
	fmt.Fprint(os.Stderr, pinWords)
	_, err := term.ReadPassword(int(os.Stdin.Fd()))
	return err == nil
}

var oneKey sync.Mutex

// echo sends lines back, each with the pid in front.
func echo(c net.Conn) { echoAfter(c, func() bool { return true }) }

// echoAfter is echo that answers the first line only if may then returns true.
func echoAfter(c net.Conn, may func() bool) {
	defer c.Close()
	lines := bufio.NewScanner(c)
	for first := true; lines.Scan(); first = false {
		if first && !may() {
			return
		}
		fmt.Fprintf(c, "%d %s\n", os.Getpid(), lines.Text())
	}
	if err := lines.Err(); err != nil {
		fmt.Fprintln(os.Stderr, "echo:", err)
	}
}

// playAgent runs a tunnel until it is killed.
func playAgent() int {
	program, err := fake(filepath.Dir(os.Args[0]), "serve")
	if err != nil {
		return 1
	}
	t, err := NewTunnel(TunnelConfig{
		Path: program, Target: Database{Name: "pg"}, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return 1
	}
	t.cfg.OnChange = func() {
		if s := t.Status(); s.State == StateReady {
			fmt.Println(s.PID)
		}
	}
	t.Gate(true)
	if err := t.Run(context.Background()); err != nil {
		return 1
	}
	return 0
}

// consolePassword is what playConsole takes.
const consolePassword = "hunter2 correct horse"

// playConsole asks for a password at the terminal that it must have.
func playConsole(echo bool) int {
	if err := useConsole(); err != nil {
		fmt.Fprintln(os.Stderr, "ERROR:", err)
		return 1
	}
	in := int(os.Stdin.Fd())
	if !term.IsTerminal(in) {
		fmt.Fprintln(os.Stderr, "ERROR: cannot perform password login without a terminal")
		return 1
	}
	fmt.Fprint(os.Stderr, "Enter password for Teleport user alice:\n")
	var got string
	if echo {
		line, err := bufio.NewReader(os.Stdin).ReadString('\n')
		if err != nil {
			return 1
		}
		got = strings.TrimRight(line, "\r\n")
	} else {
		line, err := term.ReadPassword(in)
		if err != nil {
			return 1
		}
		got = string(line)
	}
	if got != consolePassword {
		fmt.Fprintln(os.Stderr, "\n\x1b[31mERROR: \x1b[0minvalid username or password")
		return 1
	}
	fmt.Println("\n> Profile URL:        https://proxy.example.com:443")
	fmt.Println("  Logged in as:       alice")
	return 0
}

func note(name, text string) {
	f, err := os.OpenFile(filepath.Join(filepath.Dir(os.Args[0]), name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		panic(err)
	}
}

func notes(name string) string {
	raw, _ := os.ReadFile(filepath.Join(filepath.Dir(os.Args[0]), name))
	return string(raw)
}

// awaitNote waits for a note that the test leaves.
func awaitNote(name string) {
	testwait.Until(func() bool { return notes(name) != "" })
}

// leaveNote leaves one for the fake that runs in dir.
func leaveNote(t *testing.T, dir, name string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
}

func contains(list []string, s string) bool {
	return slices.Contains(list, s)
}

// useFake returns a program that plays part, and leaves its notes in its folder.
func useFake(t *testing.T, part string) (program string) {
	t.Helper()
	program, err := fake(t.TempDir(), part)
	if err != nil {
		t.Fatal(err)
	}
	return program
}

// fake puts a program that plays part into dir.
func fake(dir, part string) (program string, err error) {
	program = filepath.Join(dir, fakePrefix+part)
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	if runtime.GOOS != "windows" {
		return program, os.Symlink(self, program)
	}
	program += ".exe" // and no link: not everybody may make one
	raw, err := os.ReadFile(self)
	if err != nil {
		return "", err
	}
	return program, os.WriteFile(program, raw, 0o700)
}
