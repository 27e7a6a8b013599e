// Package logfile is where the agent's log goes: a file that rotates, and the
// terminal when there is one.
//
// It promises that only the user can read the file, that the files together
// stay small, and that a log that cannot be written stops no program.
package logfile

import (
	"context"
	"io"
	"log/slog"
	"sync/atomic"
)

// Size is how large a log's file may become, in bytes.
type Size struct{ atomic.Int64 }

// New returns a logger that writes what level lets through to the file at path
// and, unless it is nil, to console. The file is made with the first line. The
// returned function closes it. A nil size is the default.
func New(path string, level slog.Leveler, size *Size, console io.Writer) (log *slog.Logger, closeLog func()) {
	if size == nil {
		size = new(Size)
	}
	size.CompareAndSwap(0, defaultSize)
	f := &file{path: path, max: &size.Int64, keep: maxOld}
	opts := &slog.HandlerOptions{Level: level}
	handlers := []slog.Handler{slog.NewTextHandler(f, opts)}
	if console != nil {
		handlers = append(handlers, slog.NewTextHandler(console, opts))
	}
	return slog.New(slog.NewMultiHandler(handlers...)), f.close
}

// Files returns the files that a log at path may consist of, the newest first:
// the one in use, and those set aside.
func Files(path string) []string {
	f := file{path: path}
	files := []string{path}
	for n := 1; n <= maxOld; n++ {
		files = append(files, f.old(n))
	}
	return files
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
