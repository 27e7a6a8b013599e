// Package winetest holds the test of berth.exe under Wine, which "make
// wine-test" runs: the tray, the agent it starts, the control pipe, and bytes
// through a tunnel to a simulated cluster that runs outside of Wine.
//
// BERTH_WINE is a command that the test enters Wine's world by, such as "chroot
// FOLDER"; empty means that wine is on PATH here. BERTH_WINE_ROOT is the folder
// that is the root there; empty means /.
package winetest
