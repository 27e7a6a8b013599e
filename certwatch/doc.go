// Package certwatch watches TELEPORT_HOME folders (~/.tsh) and says, at any
// moment, which profiles are in them and which sessions they hold.
//
// It only ever reads. tsh writes its files in place and one by one, so at any
// instant a file may be empty, half written, or of another login than its
// neighbour; certwatch never publishes such a moment. What it publishes are
// immutable values: a session is always one login's key and certificates,
// checked to belong together.
package certwatch
