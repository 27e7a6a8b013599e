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
