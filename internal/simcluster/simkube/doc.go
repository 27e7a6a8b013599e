// Package simkube is a stand-in for a Kubernetes API server that real clients
// take for one: kubectl lists, watches, applies, reads logs, runs commands,
// copies files and forwards ports with it. Objects live in memory and nothing
// is ever scheduled; pods run at once, and a small shell answers for their
// containers.
//
// It is written against the API's wire format alone and links no library of
// Kubernetes, so that it fits into the demo. What it keeps of the real thing:
// resource versions, watches that can be resumed and expire, bookmarks, lists
// in chunks, tables, the four kinds of patch with field managers and their
// conflicts, and streams over SPDY and WebSocket. What it leaves out: schemas,
// admission, protobuf, and every controller except that deployments are reported
// as done.
package simkube
