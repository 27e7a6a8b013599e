//go:build unix

package proxies

import "syscall"

const errInUse = syscall.EADDRINUSE
