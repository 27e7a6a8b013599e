package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"github.com/Microsoft/go-winio"
	"golang.org/x/sys/windows"
)

var createRestrictedToken = windows.NewLazySystemDLL("advapi32.dll").NewProc("CreateRestrictedToken")

// tryPipe opens a pipe as the user whose it is, looks at its access list, and opens
// it once more as a user whom that list does not name: with a token in which the own
// user counts only where access is denied. Wine keeps lists and asks them nothing.
func tryPipe(name string) error {
	h, err := open(name)
	if err != nil {
		return fmt.Errorf("its own user cannot open the pipe: %w", err)
	}
	fmt.Println("its user is let in")
	err = onlyOwn(h)
	_ = windows.CloseHandle(h)
	if err != nil {
		return err
	}
	fmt.Println("its list names its user alone")
	asked, err := listsAreAsked()
	if err != nil {
		return err
	}
	if !asked {
		fmt.Println("this system does not ask the lists of pipes")
		return nil
	}
	stranger, err := strangersToken()
	if err != nil {
		return err
	}
	runtime.LockOSThread() // for good: the process ends soon
	if err := windows.SetThreadToken(nil, stranger); err != nil {
		return fmt.Errorf("be someone else: %w", err)
	}
	switch _, err := open(name); {
	case errors.Is(err, windows.ERROR_ACCESS_DENIED):
		fmt.Println("someone else is refused")
		return nil
	case err == nil:
		return errors.New("someone else is let in")
	default:
		return fmt.Errorf("someone else is refused for another reason: %w", err)
	}
}

// onlyOwn returns an error unless the access list of a pipe has one entry, which
// allows its user something.
func onlyOwn(h windows.Handle) error {
	sd, err := windows.GetSecurityInfo(h, windows.SE_KERNEL_OBJECT, windows.DACL_SECURITY_INFORMATION)
	if err != nil {
		return fmt.Errorf("read the pipe's list: %w", err)
	}
	list, _, err := sd.DACL()
	if err != nil {
		return fmt.Errorf("read the pipe's list: %w", err)
	}
	user, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return fmt.Errorf("read the own token: %w", err)
	}
	var first *windows.ACCESS_ALLOWED_ACE
	if list == nil || list.AceCount != 1 || windows.GetAce(list, 0, &first) != nil ||
		first.Header.AceType != windows.ACCESS_ALLOWED_ACE_TYPE ||
		!(*windows.SID)(unsafe.Pointer(&first.SidStart)).Equals(user.User.Sid) {
		return fmt.Errorf("the pipe's list is %s, want one entry, for %s", sd, user.User.Sid)
	}
	return nil
}

// listsAreAsked reports whether a pipe whose list admits no one cannot be opened.
func listsAreAsked() (bool, error) {
	name := fmt.Sprintf(`\\.\pipe\berth-helper-%d`, os.Getpid())
	l, err := winio.ListenPipe(name, &winio.PipeConfig{SecurityDescriptor: "D:P(D;;GA;;;WD)"})
	if err != nil {
		return false, fmt.Errorf("make a pipe for no one: %w", err)
	}
	defer func() { _ = l.Close() }() // nothing was written
	h, err := open(name)
	if err != nil {
		return true, nil
	}
	return false, windows.CloseHandle(h)
}

// open opens a pipe.
func open(name string) (windows.Handle, error) {
	path, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return 0, err
	}
	return windows.CreateFile(path, windows.GENERIC_READ|windows.GENERIC_WRITE, 0, nil, windows.OPEN_EXISTING, 0, 0)
}

// strangersToken is a token for a thread, without the user's own rights.
func strangersToken() (windows.Token, error) {
	var own windows.Token
	if err := windows.OpenProcessToken(windows.CurrentProcess(), windows.MAXIMUM_ALLOWED, &own); err != nil {
		return 0, fmt.Errorf("open the own token: %w", err)
	}
	user, err := own.GetTokenUser()
	if err != nil {
		return 0, fmt.Errorf("read the own token: %w", err)
	}
	denied := windows.SIDAndAttributes{Sid: user.User.Sid}
	var restricted, thread windows.Token
	const noPrivileges = 1 // DISABLE_MAX_PRIVILEGE
	ok, _, err := createRestrictedToken.Call(uintptr(own), noPrivileges, 1, uintptr(unsafe.Pointer(&denied)), 0, 0, 0, 0, uintptr(unsafe.Pointer(&restricted)))
	if ok == 0 {
		return 0, fmt.Errorf("make a token: %w", err)
	}
	err = windows.DuplicateTokenEx(restricted, windows.MAXIMUM_ALLOWED, nil, windows.SecurityImpersonation, windows.TokenImpersonation, &thread)
	if err != nil {
		return 0, fmt.Errorf("make a token for a thread: %w", err)
	}
	return thread, nil
}
