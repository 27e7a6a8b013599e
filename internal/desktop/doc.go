// Package desktop holds the test of the tray on a real desktop, which "make
// desktop-test" runs: an X server without a screen, a panel with a tray, a
// notification service, a simulated cluster, an agent and the tray, driven with
// mouse and keyboard. It keeps a picture of each step.
package desktop
