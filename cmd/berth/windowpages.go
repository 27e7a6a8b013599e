package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
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
