// Package osservice makes a program a service of the current user: it starts
// when the user logs in, is started again when it fails, and needs no
// administrator.
//
// It promises that installing is idempotent (what is right already is left
// alone), that a change is written whole or not at all, and that nothing
// outside the user's own folders and registry is touched. Which manager looks
// after the program depends on the system:
//
//   - systemd's user manager, where systemd runs
//   - launchd on macOS
//   - the desktop's autostart folder on other Linux systems
//   - the registry's Run key on Windows: a Windows service would run in
//     session 0, without the user's profile, credentials and desktop
//
// The last two only start a program; whoever uses them asks the program itself
// whether it runs, and to stop.
package osservice
