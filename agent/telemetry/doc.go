// Package telemetry counts, for the person who runs berth alone, which of its
// features are used: per day, in one small file beside berth's state. Nothing in
// berth ever sends it anywhere, and nothing is counted unless the config says
// telemetry: {mode: local}.
//
// It promises to note clusters and users only as pseudonyms, whose key never leaves
// this installation, and nothing at all of tunnels' names, resources, roles and hosts;
// to keep the file small and its user's alone; and to hold up no client: what cannot
// be written waits in memory, and a kill costs what was counted since the last write.
package telemetry
