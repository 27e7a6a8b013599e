// Command render writes the icons that the tray embeds.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"berth/packaging/icons"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "render:", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) != 2 {
		return fmt.Errorf("usage: render FOLDER")
	}
	files, err := icons.Files()
	if err != nil {
		return err
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(os.Args[1], name), content, 0o644); err != nil { //nolint:gosec // G306: part of the source
			return err
		}
	}
	return nil
}
