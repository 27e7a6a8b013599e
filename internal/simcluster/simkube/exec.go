package simkube

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// streamWait is how long a client has to open the streams it announced.
const streamWait = 30 * time.Second

// execOptions are what a client wants to run and to be connected to.
type execOptions struct {
	command                    []string
	stdin, stdout, stderr, tty bool
}

func execOptionsOf(r *http.Request) execOptions {
	q := r.URL.Query()
	on := func(name string) bool { v, err := strconv.ParseBool(q.Get(name)); return err == nil && v }
	return execOptions{q["command"], on("stdin"), on("stdout"), on("stderr"), on("tty")}
}

// terminal is one client's side of a running command.
type terminal struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	resize         io.Reader // JSON values; nil means there is no terminal
	// exit tells the client how the command ended.
	exit func(error) error
	// close ends the connection once all has been sent, abort at once.
	close, abort func()
}

// serveExec answers exec and attach, over SPDY or WebSocket.
func (s *Server) serveExec(w http.ResponseWriter, r *http.Request, rec *record, sub string) error {
	if err := container(rec.decode(), r.URL.Query().Get("container")); err != nil {
		return err
	}
	o := execOptionsOf(r)
	if sub == "exec" && len(o.command) == 0 {
		return badRequest("you must specify at least 1 command to execute")
	}
	if !o.stdin && !o.stdout && !o.stderr {
		return badRequest("you must specify at least 1 of stdin, stdout, stderr")
	}
	ctx, done := s.streaming(r)
	defer done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var t *terminal
	var err error
	switch upgrade := strings.ToLower(r.Header.Get("Upgrade")); upgrade {
	case "websocket":
		t, err = webSocketTerminal(w, r, o, cancel)
	case "spdy/3.1":
		t, err = spdyTerminal(ctx, w, r, o, cancel)
	default:
		return badRequest("Upgrade request required")
	}
	if err != nil {
		return err
	}
	if t == nil {
		return nil // the connection is gone
	}
	s.streams.Add(1)
	defer s.streams.Add(-1)
	defer t.close()
	stop := context.AfterFunc(ctx, t.abort)
	defer stop()
	err = s.runIn(ctx, key{rec.namespace, rec.name}, t, o, sub)
	if ctx.Err() == nil {
		_ = t.exit(err) // or the client left at this very moment
	}
	return nil
}

// runIn runs the command, or attaches to what the pod runs anyway.
func (s *Server) runIn(ctx context.Context, k key, t *terminal, o execOptions, sub string) error {
	p := &process{s: s, pod: k, stdin: t.stdin, stdout: t.stdout, stderr: t.stderr, tty: o.tty}
	if t.resize != nil {
		go func() { _, _ = io.Copy(io.Discard, t.resize) }() // ends with the connection
	}
	if sub == "exec" {
		return p.run(ctx, o.command)
	}
	if o.stdin {
		return p.cat(ctx, nil)
	}
	return s.copyLog(ctx, t.stdout, nil, k, logOptions{follow: true, limit: -1, tail: 0})
}

// exitReport tells how a command ended, as the error stream of the fourth
// version of the protocol has it.
func exitReport(err error) object {
	report := object{"metadata": object{}, "status": "Success"}
	if err == nil {
		return report
	}
	code := int(0)
	var status exitStatus
	var quit exitNow
	var missing notFoundError
	switch {
	case errors.As(err, &status):
		code = int(status)
	case errors.As(err, &quit) && quit == 0:
		return report
	case errors.As(err, &quit):
		code = int(quit)
	case errors.As(err, &missing):
		return object{
			"metadata": object{}, "status": "Failure", "reason": "InternalError", "code": http.StatusInternalServerError,
			"message": "Internal error occurred: error executing command in container: " + missing.Error(),
		}
	default:
		return object{
			"metadata": object{}, "status": "Failure", "reason": "InternalError", "code": http.StatusInternalServerError,
			"message": "Internal error occurred: " + err.Error(),
		}
	}
	return object{
		"metadata": object{}, "status": "Failure", "reason": "NonZeroExitCode",
		"message": exitStatus(code).Error(),
		"details": object{"causes": []any{object{"reason": "ExitCode", "message": strconv.Itoa(code)}}},
	}
}
