package route

import (
	"encoding/binary"
	"errors"
	"net"
	"os"
	"sync"

	"berth/proxies/internal/frugal"
)

// recordHeader is the length of what stands before a TLS record.
const recordHeader = 5

// errNotYet says that nothing more has come. It is temporary, which lets a
// tls.Conn go on after it where it stood.
var errNotYet net.Error = notYet{}

type notYet struct{}

func (notYet) Error() string   { return "nothing more has come yet" }
func (notYet) Timeout() bool   { return false }
func (notYet) Temporary() bool { return true }

// records is the connection beneath a tls.Conn. It reads in large pieces and
// hands them on by the record, so that the tls.Conn needs room for one alone.
// While nothing comes it has no buffer. It also sends several records as one
// piece.
//
// One goroutine may read while others write.
type records struct {
	net.Conn
	from frugal.Reader

	buf  *frugal.Buffer // nil: nothing is held
	r, w int            // buf[r:w] is held
	left int            // of the record that Read is in the middle of
	err  error          // how the connection ended; what is held comes first
	held bool           // Read returns errNotYet instead of waiting

	mu     sync.Mutex // guards everything below, and Conn's writes
	corked bool
	cork   []byte // records to be sent
}

func newRecords(conn net.Conn) *records {
	return &records{Conn: conn, from: frugal.NewReader(conn)}
}

// fill waits for more. An end is kept in err; what is returned can pass.
func (c *records) fill() error {
	if c.err != nil {
		return nil
	}
	if c.r > 0 && c.w == len(c.buf) {
		c.w = copy(c.buf[:], c.buf[c.r:c.w])
		c.r = 0
	}
	n, err := c.from.Read(&c.buf, c.w)
	c.w += n
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	c.err = err
	return nil
}

// need waits until n bytes are held.
func (c *records) need(n int) error {
	for c.w-c.r < n {
		switch {
		case c.err != nil:
			return c.err
		case c.held:
			return errNotYet
		}
		if err := c.fill(); err != nil {
			return err
		}
	}
	return nil
}

// Read returns bytes of one record, never of two.
func (c *records) Read(p []byte) (int, error) {
	if c.left == 0 {
		err := c.need(recordHeader)
		switch {
		case err == nil:
			c.left = recordHeader + int(binary.BigEndian.Uint16(c.buf[c.r+3:]))
		case err == c.err && c.r < c.w: //nolint:errorlint // the same value
			c.left = c.w - c.r // the last bytes, which are no record
		default:
			return 0, err
		}
	}
	if err := c.need(1); err != nil {
		return 0, err
	}
	n := copy(p[:min(len(p), c.left)], c.buf[c.r:c.w])
	c.left -= n
	if c.r += n; c.r == c.w {
		frugal.Give(c.buf)
		c.buf, c.r, c.w = nil, 0, 0
	}
	return n, nil
}

// Write sends records, or keeps them until flush.
func (c *records) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.corked && len(c.cork)+len(p) <= cap(c.cork) {
		c.cork = append(c.cork, p...)
		return len(p), nil
	}
	if err := c.sendCork(); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// together has what write writes sent as one piece.
func (c *records) together(write func() error) error {
	room := corks.Get().(*[corkSize]byte)
	defer corks.Put(room)
	c.mu.Lock()
	c.corked, c.cork = true, room[:0]
	c.mu.Unlock()
	err := write()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.corked = false
	err = errors.Join(err, c.sendCork())
	c.cork = nil
	return err
}

// corkSize has room for what togetherMax becomes in TLS.
const corkSize = togetherMax + 1<<10

var corks = sync.Pool{New: func() any { return new([corkSize]byte) }}

func (c *records) sendCork() error {
	if len(c.cork) == 0 {
		return nil
	}
	_, err := c.Conn.Write(c.cork)
	c.cork = c.cork[:0]
	return err
}
