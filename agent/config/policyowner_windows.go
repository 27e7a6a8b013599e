package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"unsafe"

	"golang.org/x/sys/windows"
)

// policyFolder is the folder of the machine's policy. It goes by the system, not by
// the variable ProgramData, which is the user's to set.
func policyFolder() string {
	data, err := windows.KnownFolderPath(windows.FOLDERID_ProgramData, 0)
	if err != nil {
		data = `C:\ProgramData`
	}
	return filepath.Join(data, "berth")
}

// The rights with which something can be altered, and with which it or a file in it
// can be replaced. Every user may add files to a folder of ProgramData.
const (
	replaces = fileDeleteChild | windows.DELETE | windows.WRITE_DAC | windows.WRITE_OWNER | windows.GENERIC_ALL
	alters   = replaces | windows.FILE_WRITE_DATA | windows.FILE_APPEND_DATA | windows.GENERIC_WRITE

	fileDeleteChild = 0x40
)

// ownedBySystem says why a file or folder is not the administrators' alone to
// change.
func ownedBySystem(f *os.File) error {
	sd, err := windows.GetSecurityInfo(windows.Handle(f.Fd()), windows.SE_FILE_OBJECT,
		windows.OWNER_SECURITY_INFORMATION|windows.DACL_SECURITY_INFORMATION)
	if err != nil {
		return fmt.Errorf("the system does not say who owns it: %w", err)
	}
	owner, _, err := sd.Owner()
	if err != nil {
		return fmt.Errorf("the system does not say who owns it: %w", err)
	}
	if !administrates(owner) {
		return fmt.Errorf("it is owned by %s, not by the administrators", owner)
	}
	acl, _, err := sd.DACL()
	if err != nil || acl == nil {
		return errors.New("every user can write it")
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	changes := windows.ACCESS_MASK(alters)
	if info.IsDir() {
		changes = replaces
	}
	for i := range uint32(acl.AceCount) {
		var ace *windows.ACCESS_ALLOWED_ACE
		if err := windows.GetAce(acl, i, &ace); err != nil {
			return fmt.Errorf("the system does not say who can write it: %w", err)
		}
		sid := (*windows.SID)(unsafe.Pointer(&ace.SidStart))
		if ace.Header.AceType == windows.ACCESS_ALLOWED_ACE_TYPE && ace.Header.AceFlags&windows.INHERIT_ONLY_ACE == 0 &&
			ace.Mask&changes != 0 && !administrates(sid) {
			return fmt.Errorf("%s can write it and is not an administrator", sid)
		}
	}
	return nil
}

// administrates reports whether an account is the administrators', the system's, or
// that of Windows' own installer.
func administrates(sid *windows.SID) bool {
	return slices.Contains([]string{
		"S-1-5-32-544", "S-1-5-18", "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464",
	}, sid.String())
}
