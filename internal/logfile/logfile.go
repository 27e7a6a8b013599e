// Package logfile is where the agent's log goes: a file that rotates, and the
// terminal when there is one.
package logfile

import (
	"context"
	"io"
	"log/slog"

	"gopkg.in/natefinch/lumberjack.v2"
)

// Rotation: small enough to attach to a bug report, enough for weeks of one
// line per transition.
const (
	maxSizeMB  = 5
	maxBackups = 3
	maxAgeDays = 30
)

// New returns a logger that writes to the file at path and, unless it is nil,
// to console. The file is made, 0600, with the first line. The returned
// function closes the file.
func New(path string, level slog.Level, console io.Writer) (log *slog.Logger, closeLog func()) {
	file := &lumberjack.Logger{Filename: path, MaxSize: maxSizeMB, MaxBackups: maxBackups, MaxAge: maxAgeDays}
	opts := &slog.HandlerOptions{Level: level}
	handlers := []slog.Handler{slog.NewTextHandler(file, opts)}
	if console != nil {
		handlers = append(handlers, slog.NewTextHandler(console, opts))
	}
	return slog.New(slog.NewMultiHandler(handlers...)), func() {
		_ = file.Close() // nothing is left to tell it to
	}
}

// Demote returns a handler that passes records on as Debug, for libraries
// whose "info" is not the user's.
func Demote(h slog.Handler) slog.Handler { return demoted{h} }

type demoted struct{ slog.Handler }

func (d demoted) Enabled(ctx context.Context, _ slog.Level) bool {
	return d.Handler.Enabled(ctx, slog.LevelDebug)
}

func (d demoted) Handle(ctx context.Context, r slog.Record) error {
	r.Level = slog.LevelDebug
	return d.Handler.Handle(ctx, r)
}

func (d demoted) WithAttrs(attrs []slog.Attr) slog.Handler {
	return demoted{d.Handler.WithAttrs(attrs)}
}

func (d demoted) WithGroup(name string) slog.Handler { return demoted{d.Handler.WithGroup(name)} }
