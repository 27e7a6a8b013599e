package main

import (
	"io"
	"os"
	"path/filepath"
	"testing"
)

// TestJournalIsCleaned: what the journal has reaches no terminal as it is, and each line
// comes as soon as it is there.
func TestJournalIsCleaned(t *testing.T) {
	dir := t.TempDir()
	mark := filepath.Join(dir, "go-on")
	// journalctl is cut in the middle of a sequence, and goes on when its first line was read.
	script := "#!/bin/sh\nprintf 'one\\033[31m red\\033]0;ti'\nprintf 'tle\\007\\n'\n" +
		"while [ ! -e " + mark + " ]; do sleep 0.01; done\nprintf 'two\\033[2J'\n"
	if err := os.WriteFile(filepath.Join(dir, "journalctl"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	a, _, _ := testApp()
	r, w := io.Pipe()
	a.out = w
	done := make(chan error, 1)
	go func() {
		done <- a.journal(t.Context(), logsOptions{follow: true})
		_ = w.Close()
	}()
	first := make([]byte, len("one red\n"))
	if _, err := io.ReadFull(r, first); err != nil || string(first) != "one red\n" {
		t.Fatalf("the first line is %q, %v", first, err)
	}
	if err := os.WriteFile(mark, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(r); err != nil || string(rest) != "two" {
		t.Errorf("the rest is %q, %v", rest, err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
