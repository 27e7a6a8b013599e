package osservice

import (
	"strconv"
	"strings"
	"time"
)

// properties takes the output of "systemctl show" apart.
func properties(out string) map[string]string {
	props := make(map[string]string)
	for line := range strings.Lines(out) {
		if name, value, ok := strings.Cut(strings.TrimRight(line, "\n"), "="); ok {
			props[name] = value
		}
	}
	return props
}

// unitStatus reads a unit's properties.
func unitStatus(p map[string]string) Status {
	st := Status{Kind: KindSystemd, File: p["FragmentPath"], Program: execPath(p["ExecStart"])}
	switch p["UnitFileState"] {
	case "enabled", "enabled-runtime", "linked", "static", "alias":
		st.Enabled = true
	}
	active := p["ActiveState"]
	// A unit that a package brought is there before anybody installed the
	// service; it is installed once it is enabled, or runs.
	st.Installed = p["LoadState"] == "loaded" && (st.Enabled || underHome(st.File) || active == "active")
	switch active {
	case "active", "reloading":
		st.Running = true
	case "activating":
		// Between two tries no process is there.
		st.Running = p["SubState"] != "auto-restart"
	}
	if st.Running {
		st.PID, _ = strconv.Atoi(p["MainPID"]) // zero is unknown
		st.ReadyAfter = between(p["ExecMainStartTimestampMonotonic"], p["ActiveEnterTimestampMonotonic"])
	}
	switch {
	case p["SubState"] == "auto-restart":
		st.Trouble = "it failed (" + p["Result"] + ") and is about to be started again"
	case active == "failed":
		st.Trouble = "it failed: " + p["Result"]
	case active == "activating":
		st.Trouble = "it is starting, and not ready yet"
	case st.Enabled && p["LoadState"] != "loaded":
		st.Trouble = "its unit cannot be loaded: " + p["LoadState"]
	}
	return st
}

// underHome reports whether a unit is a user's own.
func underHome(file string) bool {
	return file != "" && !strings.HasPrefix(file, "/usr/") && !strings.HasPrefix(file, "/etc/") && !strings.HasPrefix(file, "/lib/")
}

// execPath finds the program in systemd's account of a command line.
func execPath(line string) string {
	_, rest, ok := strings.Cut(line, "path=")
	if !ok {
		return ""
	}
	path, _, _ := strings.Cut(rest, " ;")
	return path
}

// between is the time between two of systemd's time stamps, in microseconds.
func between(from, to string) time.Duration {
	a, errA := strconv.ParseInt(from, 10, 64)
	b, errB := strconv.ParseInt(to, 10, 64)
	if errA != nil || errB != nil || a == 0 || b < a {
		return 0
	}
	return time.Duration(b-a) * time.Microsecond
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return strings.TrimSpace(s[strings.LastIndexByte(s, '\n')+1:])
}
