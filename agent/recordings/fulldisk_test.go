package recordings

import (
	"bufio"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"berth/agent/cluster"
	"berth/agent/ipc"
	"berth/agent/sessions"
	"berth/agent/state"
	"berth/internal/simcluster"
	"berth/internal/simworld"
)

// oneSession is a session at one cluster.
type oneSession struct{ sessions.Session }

func (s oneSession) Clusters(context.Context, time.Time) []string { return []string{"sim.test"} }

func (s oneSession) Discover(context.Context, string, string, time.Time) sessions.Session {
	return s.Session
}

// smallDisk takes as many bytes as it has room for.
type smallDisk struct {
	file *os.File
	room int
}

func (d *smallDisk) Write(p []byte) (int, error) {
	n, err := d.file.Write(p[:min(len(p), d.room)])
	d.room -= n
	if n < len(p) && err == nil {
		err = &fs.PathError{Op: "write", Path: d.file.Name(), Err: syscall.ENOSPC}
	}
	return n, err
}

// TestDiskIsFull: where the disk is full while a recording is fetched, its reader gets
// what was kept, and one sentence. Nothing is left, and the next reader begins anew.
func TestDiskIsFull(t *testing.T) {
	sim, err := simcluster.Start(simcluster.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sim.Close() }()
	home := t.TempDir()
	if err := sim.Login(home, "alice"); err != nil {
		t.Fatal(err)
	}
	chunks := make([]string, 600)
	for i := range chunks {
		chunks[i] = strings.Repeat("x", 1000)
	}
	recorded := simcluster.PrintedSession("00000001-1111-4222-8333-444444444444", "alice", time.Now(), time.Second, chunks...)
	sim.Record(recorded)
	session := oneSession{sessions.Session{Profile: simworld.Profile(t, home)}}
	session.Cluster, err = cluster.New(cluster.Config{Profile: session.Profile, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = session.Cluster.Close() }()
	dir := filepath.Join(t.TempDir(), "recordings")
	rs := New(t.Context(), Config{
		Sessions: session, Word: func(err error, _ string) error { return err }, Dir: dir, Logger: slog.New(slog.DiscardHandler),
	})
	defer rs.Close()
	read := func(room int) (printed int, last ipc.RecordingPart, err error) {
		rs.spool = func(dir string) (*spool, error) {
			sp, err := newSpool(dir)
			if err == nil && room >= 0 {
				sp.out = bufio.NewWriterSize(&smallDisk{sp.file, room}, 64<<10)
			}
			return sp, err
		}
		err = rs.ReadRecording(t.Context(), ipc.RecordingRead{ID: recorded.ID}, func(part ipc.RecordingPart) error {
			for _, ev := range part.Events {
				printed += len(ev.Data)
			}
			last = part
			return nil
		})
		if left, globErr := filepath.Glob(filepath.Join(dir, "*")); globErr != nil || len(left) > 0 && runtime.GOOS != "windows" {
			t.Errorf("left are %q, %v", left, globErr)
		}
		return printed, last, err
	}

	const full = "cannot keep it in "
	printed, last, err := read(200_000)
	if err != nil || last.State != state.RecordingDamaged || printed == 0 || printed > 200_000 || printed%1000 != 0 {
		t.Errorf("with room for a part: %d bytes, %+v, %v", printed, last, err)
	}
	if want := "the rest cannot be read: the agent " + full + dir + ": " + syscall.ENOSPC.Error(); last.Text != want {
		t.Errorf("the reader hears %q, want %q", last.Text, want)
	}
	printed, _, err = read(0)
	if _, isFull := errors.AsType[*spoolError](err); !isFull || printed != 0 ||
		err.Error() != "the recording cannot be read: the agent "+full+dir+": "+syscall.ENOSPC.Error() {
		t.Errorf("without room: %d bytes, %v", printed, err)
	}
	if printed, last, err = read(-1); err != nil || printed != 600_000 || last.State != state.RecordingComplete {
		t.Errorf("with room again: %d bytes, %+v, %v", printed, last, err)
	}
}
