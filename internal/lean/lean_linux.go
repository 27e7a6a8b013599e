package lean

import (
	"bufio"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// pages gives back the read-only pages of the program's own file. Those that are
// needed again come back from the page cache, some at a time.
func pages() error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the program's file: %w", err)
	}
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		return fmt.Errorf("read what is mapped: %w", err)
	}
	defer func() { _ = maps.Close() }() // it was only read
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		start, end, ok := parse(lines.Text(), self)
		if !ok {
			continue
		}
		// unix.Madvise wants a slice, and this is no memory of Go's.
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, start, end-start, unix.MADV_DONTNEED); errno != 0 {
			return fmt.Errorf("give pages of the program back: %w", errno)
		}
	}
	return nil
}

// parse reads a line of /proc/self/maps: a mapping of the program's file that
// is read-only, code or constants.
func parse(line, self string) (start, end uintptr, ok bool) {
	fields := strings.Fields(line)
	if len(fields) < 6 || fields[5] != self || (fields[1] != "r-xp" && fields[1] != "r--p") {
		return 0, 0, false
	}
	if _, err := fmt.Sscanf(fields[0], "%x-%x", &start, &end); err != nil || end <= start {
		return 0, 0, false
	}
	return start, end, true
}
