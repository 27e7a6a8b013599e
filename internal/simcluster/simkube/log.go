package simkube

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"berth/internal/wake"
)

// maxLines is how many lines a pod's log keeps.
const maxLines = 10_000

// logs are the logs of the pods, as far as they are not made up.
type logs struct {
	mu      sync.Mutex
	lines   map[key][]line
	changed wake.Broadcast // a line has come, or a log is gone
}

type line struct {
	number int // since the pod began
	at     time.Time
	text   string
}

func newLogs() *logs { return &logs{lines: make(map[key][]line)} }

func (l *logs) forget(k key) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.lines, k)
	l.changed.Wake()
}

// Log writes a line to a pod's log.
func (s *Server) Log(namespace, pod, text string) {
	l, k := s.logs, key{namespace, pod}
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 1
	if all := l.lines[k]; len(all) > 0 {
		n = all[len(all)-1].number + 1
		l.lines[k] = all[max(0, len(all)+1-maxLines):]
	}
	l.lines[k] = append(l.lines[k], line{n, time.Now().UTC(), text})
	l.changed.Wake()
}

// after returns the lines with a higher number, and a channel that is closed
// when there may be more.
func (l *logs) after(k key, number int) ([]line, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var found []line
	for _, ln := range l.lines[k] {
		if ln.number > number {
			found = append(found, ln)
		}
	}
	return found, l.changed.Changed()
}

// logOptions are what a client wants of a log.
type logOptions struct {
	follow, timestamps bool
	tail, limit        int64 // negative: no limit
}

func logOptionsOf(r *http.Request) (logOptions, error) {
	q := r.URL.Query()
	o := logOptions{follow: q.Get("follow") == "true", timestamps: q.Get("timestamps") == "true", tail: -1, limit: -1}
	for name, to := range map[string]*int64{"tailLines": &o.tail, "limitBytes": &o.limit} {
		v := q.Get(name)
		if v == "" {
			continue
		}
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n < 0 {
			return o, badRequest("invalid " + name + ": " + strconv.Quote(v))
		}
		*to = n
	}
	return o, nil
}

// limitedWriter ends with io.EOF when its limit is reached; negative is none.
type limitedWriter struct {
	w    io.Writer
	left int64
}

func (lw *limitedWriter) Write(p []byte) (int, error) {
	if lw.left < 0 {
		return lw.w.Write(p)
	}
	cut := p[:min(int64(len(p)), lw.left)]
	n, err := lw.w.Write(cut)
	lw.left -= int64(n)
	if err == nil && lw.left == 0 {
		err = io.EOF
	}
	return n, err
}

// serveLog answers "kubectl logs".
func (s *Server) serveLog(w http.ResponseWriter, r *http.Request, rec *record) error {
	o, err := logOptionsOf(r)
	if err != nil {
		return err
	}
	pod := rec.decode()
	if err := container(pod, r.URL.Query().Get("container")); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/plain")
	w.WriteHeader(http.StatusOK)
	ctx, done := s.streaming(r)
	defer done()
	out := &limitedWriter{w, o.limit}
	if size, err := strconv.ParseInt(str(pod, "metadata", "annotations", annotationLogBytes), 10, 64); err == nil {
		_ = madeUpLog(ctx, out, size) // the client left, or had enough
		return nil
	}
	if o.follow {
		s.following.Add(1)
		defer s.following.Add(-1)
	}
	_ = s.copyLog(ctx, out, w, key{rec.namespace, rec.name}, o) // the client may be gone
	return nil
}

// container checks that a pod has the container asked for.
func container(pod object, name string) error {
	for _, c := range list(pod, "spec", "containers") {
		if name == "" || str(c, "name") == name {
			return nil
		}
	}
	return badRequest(fmt.Sprintf("container %s is not valid for pod %s", name, str(pod, "metadata", "name")))
}

// madeUpLog writes a log of that many bytes.
func madeUpLog(ctx context.Context, w io.Writer, size int64) error {
	const width = 128
	bw := bufio.NewWriterSize(w, 64<<10)
	for n := int64(0); size > 0; n++ {
		if n%512 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		text := fmt.Appendf(make([]byte, 0, width), "%012d ", n)
		for len(text) < width-1 {
			text = append(text, 'a'+byte(len(text)%26))
		}
		text = append(text, '\n')
		text = text[:min(int64(width), size)]
		if _, err := bw.Write(text); err != nil {
			return err
		}
		size -= int64(len(text))
	}
	return bw.Flush()
}

// copyLog writes what a pod has logged and, if the client follows, what it
// will.
func (s *Server) copyLog(ctx context.Context, out io.Writer, w http.ResponseWriter, k key, o logOptions) error {
	write := func(ln line) error {
		if o.timestamps {
			if _, err := io.WriteString(out, ln.at.Format(time.RFC3339Nano)+" "); err != nil {
				return err
			}
		}
		_, err := io.WriteString(out, ln.text+"\n")
		return err
	}
	lines, more := s.logs.after(k, 0)
	if o.tail >= 0 {
		lines = lines[max(0, len(lines)-int(o.tail)):]
	}
	talk := time.NewTicker(max(s.cfg.LogInterval, time.Millisecond))
	defer talk.Stop()
	if s.cfg.LogInterval < 0 || k.name != PodTalker {
		talk.Stop()
	}
	last := 0
	for said := 1; ; {
		for _, ln := range lines {
			if err := write(ln); err != nil {
				return err
			}
			last = ln.number
		}
		if !o.follow {
			return nil
		}
		if f, ok := w.(http.Flusher); ok {
			f.Flush()
		}
		lines = nil
		select {
		case <-more:
			lines, more = s.logs.after(k, last)
		case now := <-talk.C:
			lines = []line{{last, now.UTC(), fmt.Sprintf("still here, %d", said)}}
			said++
		case <-ctx.Done():
			return ctx.Err()
		}
		if _, ok := s.store.get(pods, k); !ok {
			return nil // a log ends with its pod
		}
	}
}
