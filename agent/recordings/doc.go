// Package recordings finds the sessions that Teleport recorded and reads them:
// it lists them page by page, and streams one from the cluster once, however
// many readers it has.
//
// What arrives is kept in a file without a name while it is read and for a short
// time after, so that a reader may begin anywhere, and the agent's memory does
// not grow with the recording.
package recordings
