package tray

import "time"

// copyWait bounds how long the clipboard may take: xclip waits for a display
// that does not answer, and Windows for a program that holds the clipboard.
const copyWait = 5 * time.Second
