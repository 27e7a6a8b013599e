// Package osevents reports system events: that the machine is about to sleep or
// has woken, that the clock was set, that the network has changed, that the
// screen was locked, how long the machine has been idle, and whether to spare
// power and data.
//
// It listens to what the system has to offer and wakes up only when that
// speaks:
//
//	           sleep              clock     network    lock                 idle
//	Linux      logind, timerfd    timerfd   netlink    logind, ScreenSaver  GNOME, logind
//	Windows    power callbacks    looks     callbacks  asked when wanted    asked when wanted
//	macOS      looks              looks     AF_ROUTE   not known            not known
//
//	           battery            metered network
//	Linux      asked when wanted  NetworkManager
//	Windows    asked when wanted  not known
//	macOS      not known          not known
//
// "Looks" is the portable way: every 15 seconds, or every minute when only the
// setting of the clock would be missed, it compares clocks and addresses. The
// same happens wherever a source is absent or goes away, until it is back. The
// absence of a source is never an error.
package osevents
