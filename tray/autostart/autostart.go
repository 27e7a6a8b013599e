// Package autostart has the desktop start the tray when its user logs in, and run
// berth when a berth:// link is clicked.
//
// It promises to write one entry of each for the current user alone, in the place
// the system has for that, to say whether anything changed, and to take away
// nothing but its own.
package autostart

// name is the entry's name.
const name = "berth-tray"

// Entry is the program to start at login.
type Entry struct {
	// Program is the absolute path of berth, and Args what it is called with.
	Program string
	Args    []string
}

// Result is the state of the entry afterwards.
type Result struct {
	Path    string // where it is, or was: a file or a registry value
	Changed bool   // false when it was so already
	// Off says that the user has switched the entry off in the system's own
	// settings, which is left as it is.
	Off bool
}

// State is how the entry is now.
type State struct {
	Path      string // where it is, or would be
	Installed bool
	Current   bool // it equals what Install would write
	Off       bool // as in Result
}
