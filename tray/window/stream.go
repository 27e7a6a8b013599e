package window

import (
	"context"
	"io"
	"net/http"
)

// stream is an answer that goes on: each piece is sent at once.
type stream struct {
	w   io.Writer
	out *http.ResponseController
	err error // why the page gets no further piece
}

func newStream(w http.ResponseWriter, kind string) *stream {
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(http.StatusOK)
	s := &stream{w: w, out: http.NewResponseController(w)}
	s.write("")
	return s
}

func (s *stream) write(text string) {
	if s.err == nil {
		_, s.err = io.WriteString(s.w, text)
	}
	if s.err == nil {
		s.err = s.out.Flush()
	}
}

// event sends a server-sent event; its data is JSON, which has no line breaks.
func (s *stream) event(name string, data []byte) {
	text := "data: " + string(data) + "\n\n"
	if name != "" {
		text = "event: " + name + "\n" + text
	}
	s.write(text)
}

type sessionKey struct{}

func withSession(ctx context.Context, s *session) context.Context {
	return context.WithValue(ctx, sessionKey{}, s)
}

// sessionOf is the session that forSession found.
func sessionOf(ctx context.Context) *session {
	s, _ := ctx.Value(sessionKey{}).(*session)
	return s
}
