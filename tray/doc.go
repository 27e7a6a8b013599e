// Package tray is berth's face: an icon and a menu drawn from the agent's
// snapshots, and the notifications that the agent asks for.
//
// It promises to be a client of the agent like any other: it reaches no
// credential, killing it harms nothing, and it comes back to an agent that was
// restarted. [Layout] decides what the menu says and does nothing else;
// drawing happens in place, at most once a second, and a click counts only
// while the thing it was aimed at is still there.
package tray
