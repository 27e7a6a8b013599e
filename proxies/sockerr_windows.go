package proxies

import (
	"errors"

	"golang.org/x/sys/windows"
)

func isInUse(err error) bool { return errors.Is(err, windows.WSAEADDRINUSE) }

// isDenied also covers the port ranges that Windows reserves for Hyper-V.
func isDenied(err error) bool { return errors.Is(err, windows.WSAEACCES) }

func isNoAddress(err error) bool {
	return errors.Is(err, windows.WSAEADDRNOTAVAIL) || errors.Is(err, windows.WSAEAFNOSUPPORT)
}
