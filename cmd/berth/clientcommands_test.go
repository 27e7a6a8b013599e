package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"berth/internal/clientfiles"
	"berth/internal/pty"
	"berth/internal/testneeds"
	"berth/proxies/db"
)

// TestClientAsks: on a terminal the file is written after a yes, and only then.
func TestClientAsks(t *testing.T) {
	for answer, want := range map[string]bool{"y\n": true, "n\n": false, "\n": false} {
		t.Run(strings.TrimSpace(answer), func(t *testing.T) {
			terminal, tty, err := pty.Open()
			testneeds.Here(t, "a pseudo terminal", err)
			defer terminal.Close()
			defer tty.Close()
			if _, err := io.WriteString(terminal, answer); err != nil {
				t.Fatal(err)
			}
			a, out, errOut := testApp()
			a.in = tty
			client, _ := clientfiles.Lookup("pgservice")
			proto, _ := db.Lookup("postgres")
			dir := t.TempDir()
			f := clientfiles.File{Client: client, Path: filepath.Join(dir, "service.conf"), Record: filepath.Join(dir, "record.json")}
			change, err := f.Add(proto, db.Endpoint{Host: "127.0.0.1", Port: 15432, TunnelName: "pg"})
			if err != nil {
				t.Fatal(err)
			}
			err = a.applyClient(t.Context(), change, clientChange{Client: "pgservice", Tunnel: "pg"}, "added", clientOptions{})
			if (err == nil) != want {
				t.Errorf("applyClient = %v", err)
			}
			if _, err := os.Stat(f.Path); (err == nil) != want {
				t.Errorf("written: %v", err == nil)
			}
			if !strings.Contains(out.String(), "+port=15432") || !strings.Contains(errOut.String(), "Write it?") {
				t.Errorf("shown: %s%s", out, errOut)
			}
		})
	}
}
