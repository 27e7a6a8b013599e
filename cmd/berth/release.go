//go:build release

package main

import (
	"bytes"
	"fmt"
	"image/png"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"berth/internal/osservice"
	"berth/packaging/icons"
)

func init() { extraCommands = append(extraCommands, (*app).releaseFilesCommand) }

// iconSizes are the sizes of the icon theme.
var iconSizes = []int{16, 22, 24, 32, 48, 64, 128, 256}

// releaseFilesCommand writes the files of packages besides the program. Only a
// separate build has it, so that users' berth does not carry man pages.
func (a *app) releaseFilesCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "release-files FOLDER",
		Short:  "Write man pages, completions, unit and icons",
		Args:   exactArgs("FOLDER"),
		Hidden: true,
		RunE: func(_ *cobra.Command, args []string) error {
			for name, write := range map[string]func(*cobra.Command, string) error{
				"man": writeManPages, "completions": writeCompletions, "systemd": writeUnit, "icons": writeIcons,
			} {
				dir := filepath.Join(args[0], name)
				if err := os.MkdirAll(dir, 0o755); err != nil {
					return err
				}
				if err := write(a.releaseRoot(), dir); err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
			}
			return nil
		},
	}
}

// releaseRoot is the command tree of the released program.
func (a *app) releaseRoot() *cobra.Command {
	root := a.rootCommand()
	eachCommand(root, func(c *cobra.Command) {
		c.DisableAutoGenTag = true // it has a date
	})
	return root
}

func writeCompletions(root *cobra.Command, dir string) error {
	for name, write := range map[string]func(string) error{
		"berth.bash": func(f string) error {
			var b bytes.Buffer
			if err := bashCompletion(root, &b); err != nil {
				return err
			}
			return os.WriteFile(f, b.Bytes(), 0o644) //nolint:gosec // G306: for every user to read
		},
		"_berth":     root.GenZshCompletionFile,
		"berth.fish": func(f string) error { return root.GenFishCompletionFile(f, true) },
		"berth.ps1":  root.GenPowerShellCompletionFileWithDesc,
	} {
		if err := write(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// writeUnit writes the unit that "berth agent install" would write for the
// packaged program, so that it finds its own.
func writeUnit(_ *cobra.Command, dir string) error {
	unit := osservice.Unit(serviceConfig("berth", osservice.PackagedProgram))
	return os.WriteFile(filepath.Join(dir, "berth.service"), []byte(unit), 0o644) //nolint:gosec // G306: for every user to read
}

func writeIcons(_ *cobra.Command, dir string) error {
	for _, size := range iconSizes {
		img, err := icons.Render("fine", size)
		if err != nil {
			return err
		}
		var b bytes.Buffer
		if err := png.Encode(&b, img); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.png", size)), b.Bytes(), 0o644); err != nil { //nolint:gosec // G306: for every user to read
			return err
		}
	}
	files, err := icons.Files()
	if err != nil {
		return err
	}
	if files["berth.icns"], err = icons.ICNS("fine"); err != nil {
		return err
	}
	for name, file := range map[string]string{"berth.ico": "fine.ico", "berth.icns": "berth.icns"} {
		if err := os.WriteFile(filepath.Join(dir, name), files[file], 0o644); err != nil { //nolint:gosec // G306: for every user to read
			return err
		}
	}
	return nil
}
