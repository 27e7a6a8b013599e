//go:build !windows && !darwin

package autostart

import "path/filepath"

// path is where desktops look for what a user wants started.
func path(env func(string) string) (string, error) {
	config := env("XDG_CONFIG_HOME")
	if !filepath.IsAbs(config) {
		home, err := homeDir(env)
		if err != nil {
			return "", err
		}
		config = filepath.Join(home, ".config")
	}
	return filepath.Join(config, "autostart", Name+".desktop"), nil
}

func content(e Entry) []byte { return desktopEntry(e) }
