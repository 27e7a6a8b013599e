package paths

import (
	"io/fs"
	"os"

	"golang.org/x/sys/windows"
)

// userID is the current user's SID.
func userID() (string, error) {
	u, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return "", err
	}
	return u.User.Sid.String(), nil
}

func passwdHome() (string, error) { return os.UserHomeDir() }

// Folders under a user's profile inherit its access list, and the pipe has its
// own: modes say nothing here.
func owned(fs.FileInfo) bool { return true }

// readOnly is asked of sockets' folders alone; here is a pipe.
func readOnly(string) bool { return false }

func open(fs.FileInfo) bool { return false }
