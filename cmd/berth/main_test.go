package main

import (
	"os"
	"slices"
	"testing"
)

// TestAppArgs: the application of macOS is the tray, and a berth that it starts is
// what its arguments say.
func TestAppArgs(t *testing.T) {
	for _, c := range []struct {
		args []string
		app  string
		want []string
	}{
		{nil, "", nil},
		{nil, "tray", []string{"tray", "--quiet"}},
		{nil, "other", nil},
		{[]string{"status"}, "tray", []string{"status"}},
	} {
		t.Setenv(appVar, c.app)
		if got := appArgs(c.args, os.Getenv(appVar)); !slices.Equal(got, c.want) {
			t.Errorf("%q as %q is %q, want %q", c.args, c.app, got, c.want)
		}
		if c.app == "tray" && os.Getenv(appVar) != "" {
			t.Error("what the tray starts would be an application")
		}
	}
}
