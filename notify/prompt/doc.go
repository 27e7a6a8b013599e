// Package prompt asks the person at the desktop for a password, for a one-time
// code, or for a yes, in a dialog of the desktop's own kind.
//
// It promises
//
//   - that one dialog that asks is open at a time: others wait for their turn,
//     but not for a report that is being read;
//   - that what was typed is in the answer and nowhere else: not in arguments,
//     in the environment, in files, in logs or in errors;
//   - that each dialog ends, with its context or after a time limit, and leaves
//     no window behind;
//   - that it returns an UnavailableError when no dialog can be shown, and never
//     takes that for a refusal.
//
// On Linux the desktop's own program draws the dialog: zenity, qarma or
// matedialog, mostly through a library, else kdialog.
package prompt
