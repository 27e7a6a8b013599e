//go:build !windows

package autostart

// Install has the desktop start e at login.
func Install(e Entry, env func(string) string) (Result, error) {
	path, err := path(env)
	if err != nil {
		return Result{}, err
	}
	return writeEntry(path, content(e))
}

// Look says how e's entry is, and changes nothing.
func Look(e Entry, env func(string) string) (State, error) {
	path, err := path(env)
	if err != nil {
		return State{}, err
	}
	return lookAt(path, content(e))
}

// Uninstall takes the entry away. What runs goes on until it is quit.
func Uninstall(env func(string) string) (Result, error) {
	path, err := path(env)
	if err != nil {
		return Result{}, err
	}
	return removeEntry(path)
}
