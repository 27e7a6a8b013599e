//go:build linux

package recordings

import (
	"bufio"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"berth/agent/ipc"
	"berth/agent/state"
)

// TestSpoolFull: on a disk that is full, readers get what was written, and one
// sentence.
func TestSpoolFull(t *testing.T) {
	sp, err := newSpool(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer sp.close()
	add := func(n int) (err error) {
		for range n {
			err = errors.Join(err, sp.add(state.RecordingEvent{Seq: sp.count, Kind: state.EventPrint, Data: []byte(strings.Repeat("x", 1000))}))
		}
		return errors.Join(err, sp.flush())
	}
	if err := add(2 * stride); err != nil {
		t.Fatal(err)
	}
	s := &stream{spool: sp}
	s.grow()
	written := s.size
	full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close() //nolint:errcheck // nothing is in it
	sp.out = bufio.NewWriterSize(full, 64<<10)
	err = add(stride + 1)
	if _, ok := errors.AsType[*spoolError](err); !ok || !strings.Contains(err.Error(), "the agent cannot keep it in "+filepath.Dir(sp.file.Name())+": no space left") {
		t.Errorf("the error is %v", err)
	}
	s.state, s.text = state.RecordingDamaged, "full"
	s.grow()
	if s.size != written || len(s.places) != 2 {
		t.Errorf("%d bytes and %d places can be read, want %d and 2", s.size, len(s.places), written)
	}
	for _, from := range []int64{0, 300, 600} {
		events := 0
		if err := s.follow(t.Context(), from, func(part ipc.RecordingPart) error {
			events += len(part.Events)
			return nil
		}); err != nil || events != int(max(0, 2*stride-from)) {
			t.Errorf("from %d: %d events, %v", from, events, err)
		}
	}
}
