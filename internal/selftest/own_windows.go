package selftest

import "io/fs"

// own is for systems whose users share a folder for temporary files.
func own(fs.FileInfo) bool { return true }
