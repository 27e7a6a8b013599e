package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"berth/agent/ipc/client"
	"berth/internal/doctor"
	"berth/internal/replay"
	"berth/internal/web"
)

// examinedJSON is what the window shows of the doctor.
type examinedJSON struct {
	Findings []doctor.Finding `json:"findings"`
}

// examined runs "berth doctor" in a process of its own, as the tray does.
func examined(ctx context.Context, flags ...string) (examinedJSON, error) {
	self, err := ownProgram()
	if err != nil {
		return examinedJSON{}, err
	}
	findings, err := askDoctor(ctx, self, flags...)
	return examinedJSON{Findings: findings}, err
}

// logJSON is the end of the agent's log.
type logJSON struct {
	Path  string   `json:"path"`
	Lines []string `json:"lines"`
}

// maxLogLines bounds what the window shows of the log.
const maxLogLines = 10_000

func logEnd(path, lines string) (logJSON, error) {
	n, err := strconv.Atoi(lines)
	if err != nil || n < 1 {
		n = 200
	}
	log, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return logJSON{Path: path, Lines: []string{}}, nil
	}
	if err != nil {
		return logJSON{}, fmt.Errorf("read the log: %w", err)
	}
	defer func() { _ = log.Close() }()
	var text bytes.Buffer
	if err := copyTail(&text, log, min(n, maxLogLines)); err != nil {
		return logJSON{}, fmt.Errorf("read the log: %w", err)
	}
	return logJSON{Path: path, Lines: strings.Split(strings.TrimSuffix(text.String(), "\n"), "\n")}, nil
}

// licensesJSON says what berth is made of.
type licensesJSON struct {
	Text string `json:"text"`
}

// licenses returns the text that packages and archives have beside the program, else
// the list of what it was built from.
func licenses() (licensesJSON, error) {
	self, err := ownProgram()
	if err != nil {
		return licensesJSON{}, err
	}
	dir := filepath.Dir(self)
	for _, path := range []string{
		filepath.Join(dir, "THIRD_PARTY_LICENSES"), filepath.Join(dir, "THIRD_PARTY_LICENSES.txt"),
		filepath.Join(dir, "..", "share", "doc", "berth", "THIRD_PARTY_LICENSES"),
	} {
		if text, err := os.ReadFile(path); err == nil {
			return licensesJSON{Text: string(text)}, nil
		}
	}
	text := "berth is under the Apache License 2.0. It was built from these modules:\n\n"
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			text += m.Path + " " + m.Version + "\n"
		}
	}
	return licensesJSON{Text: text}, nil
}

// showRecording writes the page that plays a recording.
func (a *app) showRecording(c *client.Client) func(ctx context.Context, cluster, id string, w io.Writer) error {
	return func(ctx context.Context, cluster, id string, w io.Writer) error {
		s, err := openRecording(ctx, c, client.RecordingRead{ID: id, Cluster: cluster})
		if err != nil {
			return err
		}
		page, err := replay.NewHTML(w, web.Player(), replay.Header{
			Recording: s.recording, ExportedBy: s.reader, ExportedAt: time.Now().UTC().Truncate(time.Second),
		})
		if err != nil {
			return err
		}
		quiet := *a
		quiet.err = io.Discard
		_, _, err = s.copyTo(ctx, &quiet, page)
		return err
	}
}
