package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"berth/internal/simcluster/simdb"
	"berth/internal/wake"
)

const (
	// longestSocket is how long a socket's path may be on every system.
	longestSocket = 100
	// programStop is how long a server may take to end before it is killed.
	programStop = 5 * time.Second
	// askEvery is how often a starting server is asked whether it is ready.
	askEvery = 50 * time.Millisecond
)

// lab is the folder in which one real server runs, as a user who is not root:
// some servers refuse to be root's, and none needs to.
type lab struct {
	dir   string
	owner owner
}

// newLab makes a folder for a server that root runs as one of users.
func newLab(parent, name string, users ...string) (*lab, error) {
	l := &lab{dir: filepath.Join(parent, name)}
	if len(l.socket("")) > longestSocket {
		return nil, errors.New("the temporary folder's name is too long for its socket")
	}
	var err error
	if l.owner, err = ownerOf(append(users, "nobody")); err != nil {
		return nil, err
	}
	if err := os.Mkdir(l.dir, 0o700); err != nil {
		return nil, err
	}
	return l, l.owner.give(parent, l.dir)
}

// socket is the path of a socket in the lab; the longest is Postgres's.
func (l *lab) socket(name string) string {
	if name == "" {
		name = ".s.PGSQL.5432.lock"
	}
	return filepath.Join(l.dir, name)
}

func (l *lab) dialer(socket string) simdb.Dialer {
	path := l.socket(socket)
	return func(ctx context.Context) (net.Conn, error) { return (&net.Dialer{}).DialContext(ctx, "unix", path) }
}

func (l *lab) command(ctx context.Context, argv ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = l.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH") + ":/usr/sbin:/sbin", "HOME=" + l.dir, "TMPDIR=" + l.dir, "LC_ALL=C"}
	l.owner.detach(cmd)
	return cmd
}

// run runs a program to its end.
func (l *lab) run(ctx context.Context, argv ...string) error {
	cmd := l.command(ctx, argv...)
	cmd.Cancel = func() error { return killGroup(cmd) }
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", filepath.Base(argv[0]), err, lastLine(out))
	}
	return nil
}

// program is a real server that runs.
type program struct {
	name string
	stop context.CancelFunc
	done chan struct{}
	err  error // set when done is closed
	out  lockedBuffer
}

// start starts a server, which ends by sig.
func (l *lab) start(sig os.Signal, argv ...string) *program {
	ctx, stop := context.WithCancel(context.Background()) // it ends by close
	p := &program{name: filepath.Base(argv[0]), stop: stop, done: make(chan struct{})}
	cmd := l.command(ctx, argv...)
	cmd.Stdout, cmd.Stderr = &p.out, &p.out
	cmd.Cancel = func() error { return cmd.Process.Signal(sig) }
	cmd.WaitDelay = programStop
	go func() {
		// On Linux a server gets a signal when the thread that started it ends.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.done)
		err := cmd.Run()
		_ = killGroup(cmd) // what a killed server has left; nearly always nothing
		if ctx.Err() == nil {
			p.err = fmt.Errorf("%s ended: %w: %s", p.name, orEnded(err), lastLine(p.out.bytes()))
		}
	}()
	return p
}

func orEnded(err error) error {
	if err == nil {
		return errors.New("without an error")
	}
	return err
}

// watch waits for ctx, or for the end of the server, which is an error.
func (p *program) watch(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-p.done:
		return p.err
	}
}

// close stops the server and waits for its end.
func (p *program) close() error {
	p.stop()
	<-p.done
	return p.err
}

// await calls ready until it succeeds, the server ends or ctx does.
func (p *program) await(ctx context.Context, ready func(context.Context) error) error {
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return p.err
		default:
		}
		if !wake.Sleep(ctx, askEvery) {
			return fmt.Errorf("%s does not get ready: %w", p.name, err)
		}
	}
}

// lastLine returns the last line of a program's output that says anything.
func lastLine(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}

// lockedBuffer keeps the end of what a program says.
type lockedBuffer struct {
	mu sync.Mutex
	b  []byte
}

// keptOutput is how much of it is kept.
const keptOutput = 4 << 10

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b = append(l.b, p...)
	l.b = l.b[max(0, len(l.b)-keptOutput):]
	return len(p), nil
}

func (l *lockedBuffer) bytes() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Clone(l.b)
}

// look finds a program on PATH, or where servers are that no user calls.
func look(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/usr/local/sbin", "/usr/libexec"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", err
}
