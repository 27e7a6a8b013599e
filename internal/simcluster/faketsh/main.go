package faketsh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"berth/internal/simcluster"
	"berth/internal/tshhome"
	"berth/internal/wake"
)

// Invoked reports whether a program started as argv0 with that environment is
// to be a fake tsh.
func Invoked(argv0 string, env []string) bool {
	name := strings.TrimSuffix(filepath.Base(argv0), ".exe")
	return name == "tsh" || slices.Contains(env, "BERTH_FAKE_TSH=1")
}

// Main runs tsh with args, which do not include the program's name, until it
// is done or interrupted, and returns its exit code.
func Main(args, env []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return Run(ctx, args, env, stdin, stdout, stderr)
}

// Run is Main for callers that stop it themselves.
func Run(ctx context.Context, args, env []string, stdin io.Reader, stdout, stderr io.Writer) int {
	t := &tsh{env: environment(env), stdin: stdin, stdout: stdout, stderr: stderr}
	err := t.run(ctx, args)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errSilent):
		return 1
	default:
		// Red even without a terminal, as tsh's is.
		fmt.Fprintf(stderr, "\x1b[31mERROR: \x1b[0m%v\n\n", err)
		return 1
	}
}

// errSilent makes tsh exit with 1 when all has been said.
var errSilent = errors.New("failed")

// tsh is one run of tsh.
type tsh struct {
	env            map[string]string
	stdin          io.Reader
	stdout, stderr io.Writer
	flags          flags
	words          []string // what is left after the command
	betweenCAs     func()   // waits between the two times that tsh writes the CAs
}

func environment(env []string) map[string]string {
	m := make(map[string]string, len(env))
	for _, kv := range env {
		if key, value, ok := strings.Cut(kv, "="); ok {
			m[key] = value
		}
	}
	return m
}

// command is one of tsh's commands.
type command struct {
	name string // its words
	run  func(*tsh, context.Context) error
}

// commands returns the commands, those with more words first.
func commands() []command {
	return []command{
		{"db config", (*tsh).dbConfig},
		{"db ls", (*tsh).dbList},
		{"db login", (*tsh).dbLogin},
		{"db logout", (*tsh).dbLogout},
		{"kube credentials", (*tsh).kubeCredentials},
		{"kube ls", (*tsh).kubeList},
		{"proxy db", (*tsh).proxyDB},
		{"proxy kube", (*tsh).proxyKube},
		{"request ls", (*tsh).requestList},
		{"request list", (*tsh).requestList},
		{"request show", (*tsh).requestShow},
		{"request create", (*tsh).requestCreate},
		{"request new", (*tsh).requestCreate},
		{"request review", (*tsh).requestReview},
		{"request drop", (*tsh).requestDrop},
		{"login", (*tsh).login},
		{"logout", (*tsh).logout},
		{"status", (*tsh).status},
		{"version", (*tsh).version},
	}
}

func (t *tsh) run(ctx context.Context, args []string) error {
	f, words, err := parseFlags(args)
	if err != nil {
		return err
	}
	t.flags = f
	t.betweenCAs = func() { wake.Sleep(ctx, 50*time.Millisecond) }
	line := strings.Join(words, " ") + " "
	for _, cmd := range commands() {
		if strings.HasPrefix(line, cmd.name+" ") {
			t.words = words[len(strings.Fields(cmd.name)):]
			return cmd.run(t, ctx)
		}
	}
	if len(words) == 0 {
		return errors.New("command not specified, try 'tsh help'")
	}
	return fmt.Errorf("expected command but got %q, try 'tsh help'", words[0])
}

// home returns the TELEPORT_HOME to read and write.
func (t *tsh) home() (tshhome.Home, error) {
	h := tshhome.Home{Dir: t.env["TELEPORT_HOME"], Layout: t.layout(), CAsAgain: t.betweenCAs}
	if h.Dir != "" {
		return h, nil
	}
	for _, key := range []string{"HOME", "USERPROFILE"} {
		if dir := t.env[key]; dir != "" {
			h.Dir = filepath.Join(dir, ".tsh")
			return h, nil
		}
	}
	return h, errors.New("neither TELEPORT_HOME nor HOME is set")
}

func (t *tsh) teleportVersion() string {
	if v := t.env["BERTH_FAKE_TSH_VERSION"]; v != "" {
		return v
	}
	return simcluster.V16
}

// layout returns the layout that this version writes.
func (t *tsh) layout() tshhome.Layout {
	if major, _, _ := strings.Cut(t.teleportVersion(), "."); len(major) > 1 && major >= "17" {
		return tshhome.V17
	}
	return tshhome.V16
}
