package tsh

import "os"

const programName = "tsh.exe"

// isProgram reports whether path is a file; Windows has no execute bit.
func isProgram(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}
