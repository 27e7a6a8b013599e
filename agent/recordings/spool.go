package recordings

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"google.golang.org/protobuf/proto"

	"berth/agent/ipc"
	pb "berth/agent/ipc/berthv1"
	"berth/agent/state"
)

const (
	// spoolName matches the files of the folder.
	spoolName = "recording-*"
	// stride is how many events lie between two places that are remembered.
	stride = 256
	// maxSpool bounds a recording.
	maxSpool = 8 << 30
)

// clean removes what an agent that died has left, on systems where a file that
// is open keeps its name.
func clean(dir string) {
	left, err := filepath.Glob(filepath.Join(dir, spoolName))
	if err != nil {
		return // only for a pattern that is wrong
	}
	for _, path := range left {
		_ = os.Remove(path) // it is tried again at the next start
	}
}

// spool is a file with a recording's events, each after its length. It grows at
// its end; what is written does not change. Only the writer calls add.
type spool struct {
	file   *os.File
	out    *bufio.Writer
	size   int64
	count  int64
	places []int64 // of each stride'th event
	// written is the part of size, and of places, that is in the file.
	written struct {
		size   int64
		places int
	}
}

func newSpool(dir string) (*spool, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("keep the recording while it is read: %w", err)
	}
	file, err := os.CreateTemp(dir, spoolName) // 0600
	if err != nil {
		return nil, fmt.Errorf("keep the recording while it is read: %w", err)
	}
	_ = os.Remove(file.Name()) // where that is possible: then it ends with the agent, however that ends
	return &spool{file: file, out: bufio.NewWriterSize(file, 64<<10)}, nil
}

// add writes an event; it can be read after flush.
func (s *spool) add(ev state.RecordingEvent) error {
	raw, err := proto.Marshal(ipc.ToProto[pb.RecordingEvent](ev))
	if err != nil {
		return fmt.Errorf("keep event %d of the recording: %w", ev.Seq, err)
	}
	if s.size+int64(len(raw)) > maxSpool {
		return errors.New("the recording is too large")
	}
	if s.count%stride == 0 {
		s.places = append(s.places, s.size)
	}
	var length [binary.MaxVarintLen64]byte
	n := binary.PutUvarint(length[:], uint64(len(raw)))
	for _, part := range [][]byte{length[:n], raw} {
		if _, err := s.out.Write(part); err != nil {
			return s.failed(err)
		}
	}
	s.size += int64(n + len(raw))
	s.count++
	return nil
}

func (s *spool) flush() error {
	if err := s.out.Flush(); err != nil {
		return s.failed(err)
	}
	s.written.size, s.written.places = s.size, len(s.places)
	return nil
}

// spoolError says that a recording cannot be kept, as on a disk that is full.
type spoolError struct{ text string }

func (e *spoolError) Error() string { return e.text }

func (s *spool) failed(err error) error {
	if failed, ok := errors.AsType[*fs.PathError](err); ok {
		err = failed.Err // the file has no name that a person could look for
	}
	return &spoolError{fmt.Sprintf("the agent cannot keep it in %s: %v", filepath.Dir(s.file.Name()), err)}
}

// close removes the file.
func (s *spool) close() {
	_ = s.file.Close()
	_ = os.Remove(s.file.Name()) // most often it has no name any longer
}

// cursor reads a spool from a place on.
type cursor struct {
	file *os.File
	at   int64
}

// read calls show with the events up to the place end, a batch at a time.
func (c *cursor) read(end int64, from int64, show func([]state.RecordingEvent) error) error {
	in := bufio.NewReaderSize(io.NewSectionReader(c.file, c.at, end-c.at), 64<<10)
	for c.at < end {
		var batch []state.RecordingEvent
		for bytes := 0; c.at < end && bytes < batchBytes && len(batch) < batchEvents; {
			length, err := binary.ReadUvarint(in)
			if err != nil {
				return fmt.Errorf("read the recording back: %w", err)
			}
			raw := make([]byte, length)
			if _, err := io.ReadFull(in, raw); err != nil {
				return fmt.Errorf("read the recording back: %w", err)
			}
			var message pb.RecordingEvent
			if err := proto.Unmarshal(raw, &message); err != nil {
				return fmt.Errorf("read the recording back: %w", err)
			}
			c.at += int64(len(binary.AppendUvarint(nil, length))) + int64(length)
			if message.GetSeq() >= from {
				batch = append(batch, ipc.FromProto[state.RecordingEvent](&message))
				bytes += len(raw)
			}
		}
		if len(batch) > 0 {
			if err := show(batch); err != nil {
				return err
			}
		}
	}
	return nil
}

// A batch of events fits into a buffer of 32 KB, of which gRPC keeps a pool, or
// is one event: the next larger buffer has 1 MB.
const (
	batchBytes  = 24 << 10
	batchEvents = 1024
)
